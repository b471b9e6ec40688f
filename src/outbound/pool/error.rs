//! Why there is no answer.

use std::fmt;

use crate::outbound::DialError;

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError {
    /// No connection was made.
    Dial(DialError),
    /// All connections that there may be were in use for too long.
    Busy,
    /// The connection ended before the request was written.
    Closed,
    /// The connection that the request was given to broke off, or what came was not HTTP.
    Http(hyper::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(_) => f.write_str("no connection"),
            Self::Busy => f.write_str("no free connection in time"),
            Self::Closed => f.write_str("the connection was closed before the request was written"),
            Self::Http(_) => f.write_str("no answer"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dial(error) => Some(error),
            Self::Busy | Self::Closed => None,
            Self::Http(error) => Some(error),
        }
    }
}
