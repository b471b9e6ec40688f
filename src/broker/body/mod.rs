//! Bodies on their way through: counted, digested, limited. The agent's is empty, whole or a stream; the upstream's is searched
//! for the secret, and never collected.

mod collect;
mod download;
#[cfg(test)]
mod tests;
mod upload;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Sleep;

use crate::broker::right::Ended;
use crate::yield_queue::YieldQueue;

pub(super) use collect::{CollectLimits, Collector};
pub use download::Download;
pub(super) use download::Prepared;
pub(super) use upload::Upload;

/// A body on its way through.
pub type StreamBody = UnsyncBoxBody<Bytes, BodyError>;

/// Bytes that a body may move before other tasks run: some tenths of a millisecond of searching and digesting. A quarter
/// of it makes no measurable difference to others, and uploads slower by a tenth.
const BUDGET: usize = 128 * 1024;

/// The agent's body. Most calls have none, and one that has none costs nothing.
#[derive(Debug)]
pub enum CallBody {
    /// There is none.
    Empty,
    /// It was collected, because something has to see all of it before the call is made.
    Whole(Bytes),
    /// It passes as it comes.
    Stream(StreamBody),
}

impl CallBody {
    /// As it came to a door.
    pub fn incoming<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream(body.map_err(|_| BodyError::Broken).boxed_unsync())
    }

    /// What is known of its length.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// What bounds the bodies of a call.
#[derive(Debug, Clone)]
pub(super) struct BodyLimits {
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_request_bytes: u64,
    pub(super) max_response_bytes: u64,
    pub(super) yields: YieldQueue,
}

/// Why a body broke off. After the head of an answer is out this can only cut the connection; the audit log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Larger than the limit.
    #[error("the body is larger than its limit")]
    TooLarge,
    /// Nothing came for too long.
    #[error("the body stood still for too long")]
    Idle,
    /// The other side broke off.
    #[error("the body broke off")]
    Broken,
    /// The right that the call went on under has ended.
    #[error("the right to this call has ended")]
    Ended(Ended),
    /// It could not be decompressed, and what cannot be read cannot be searched for the secret.
    #[error("the body could not be decoded")]
    Undecodable,
}

impl BodyError {
    /// A stable code for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Idle => "body_idle",
            Self::Broken => "body_broken",
            Self::Ended(ended) => ended.code(),
            Self::Undecodable => "body_undecodable",
        }
    }
}

/// Fires when nothing has moved for a while. Made only once a body has to wait at all.
struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    fn moved(&mut self) {
        self.sleep = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }
}
