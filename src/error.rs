//! What can go wrong, without a word of HTTP: `http/reply.rs` maps it, once.

use std::fmt;

/// What sort of failure it is; decides the status that a caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller sent something malformed.
    Invalid,
    /// The caller is not, or no longer, known.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// No such thing.
    NotFound,
    /// There is such a thing, but not for this method.
    MethodNotAllowed,
    /// It was meant for another server.
    Misdirected,
    /// It contradicts what is there.
    Conflict,
    /// A feature that this server does not have.
    NotImplemented,
    /// Larger than the limit.
    TooLarge,
    /// Cannot be done now: the log, the database or the clock is not in order. Try again.
    Unavailable,
    /// The upstream misbehaved.
    BadGateway,
    /// The upstream took too long.
    GatewayTimeout,
    /// Ours to mend.
    Internal,
}

/// A failure with two texts: `message` for the caller, terse and without secrets; `detail` for the log.
#[derive(Debug)]
pub struct Error {
    /// What sort.
    pub kind: Kind,
    /// A stable code that programs may match on.
    pub code: &'static str,
    /// One sentence for the caller: what was wrong and what to do.
    pub message: String,
    /// For the log only.
    pub detail: Option<String>,
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($name:ident => $kind:ident),* $(,)?) => {$(
        #[doc = concat!("An [`Error`] of [`Kind::", stringify!($kind), "`].")]
        pub fn $name(code: &'static str, message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, code, message: message.into(), detail: None }
        }
    )*};
}

impl Error {
    kinds! {
        invalid => Invalid, unauthenticated => Unauthenticated, forbidden => Forbidden, not_found => NotFound, method_not_allowed => MethodNotAllowed,
        misdirected => Misdirected, conflict => Conflict, not_implemented => NotImplemented, too_large => TooLarge,
        unavailable => Unavailable, bad_gateway => BadGateway,
        gateway_timeout => GatewayTimeout,
    }

    /// Something that is ours to mend; the caller learns only that, the log gets `detail`.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Internal,
            code: "internal",
            message: "Hallpass failed inside; the operator finds the reason in its log under this request id".into(),
            detail: Some(detail.to_string()),
        }
    }

    /// Adds what only the log may say.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
