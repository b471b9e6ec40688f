//! The beginning of an encoded answer, decoded before the head of the answer goes out: a body that is not what it says can
//! then be told from one that breaks off, and the agent gets an answer that names the fault.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};

use crate::broker::StreamBody;
use crate::broker::body::BodyError;
use crate::broker::scrub::{self, Coding};

/// So much is decoded ahead, as far as it is there at once. A small answer that is not in its coding shows it within that.
const AHEAD: usize = 16 * 1024;

/// `body` without its `codings`, once its beginning has turned out to be in them. An empty body is in any coding.
pub(super) async fn opened(mut body: StreamBody, codings: &[Coding]) -> Result<StreamBody, BodyError> {
    let first = loop {
        match body.frame().await.transpose()? {
            None => return Ok(Empty::new().map_err(|never| match never {}).boxed_unsync()),
            Some(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => continue,
            Some(frame) => break frame,
        }
    };
    let is_empty = first.is_trailers();
    let body = Ahead { read: VecDeque::from([first]), rest: body };
    if is_empty {
        return Ok(body.boxed_unsync());
    }
    let mut plain = scrub::decoded(body, codings).map_err(|error| reason(&error)).boxed_unsync();
    let (mut read, mut bytes) = (VecDeque::new(), 0_usize);
    while bytes < AHEAD {
        let frame = if bytes == 0 { plain.frame().await } else { plain.frame().now_or_never().flatten() };
        let Some(frame) = frame.transpose()? else { break };
        bytes = bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        read.push_back(frame);
    }
    Ok(Ahead { read, rest: plain }.boxed_unsync())
}

/// Whether the upstream broke off, or sent what is not in its coding.
fn reason(error: &std::io::Error) -> BodyError {
    let inner = error.get_ref();
    let own = inner.and_then(|inner| inner.downcast_ref::<BodyError>()).copied();
    let nested = || inner.and_then(|inner| inner.downcast_ref::<std::io::Error>()).map(reason);
    own.or_else(nested).unwrap_or(BodyError::Undecodable)
}

/// A body of which the beginning was read before.
struct Ahead {
    read: VecDeque<Frame<Bytes>>,
    rest: StreamBody,
}

impl Body for Ahead {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }
}
