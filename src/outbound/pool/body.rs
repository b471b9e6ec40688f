//! The body of an answer, and the connection that it comes over.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::outbound::pool::SendBody;
use crate::outbound::pool::http1::Used;
use crate::outbound::pool::http2::Stream;

/// What an answer occupies.
pub(super) enum Lease<B: SendBody> {
    Http1(Used<B>),
    Http2(Stream<B>),
}

/// The body of an answer. When all of it was read, its connection is free for the next request. When it is dropped before, an
/// HTTP/1.1 connection is closed, and a stream of HTTP/2 is reset.
pub struct PooledBody<B: SendBody> {
    inner: Incoming,
    lease: Option<Lease<B>>,
}

impl<B: SendBody> std::fmt::Debug for PooledBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PooledBody")
    }
}

impl<B: SendBody> PooledBody<B> {
    pub(super) fn new(inner: Incoming, lease: Lease<B>) -> Self {
        let mut body = Self { inner, lease: Some(lease) };
        if body.inner.is_end_stream() {
            body.is_read();
        }
        body
    }

    /// One whose connection has ended already, with all of the answer read from it.
    pub(super) fn of_a_closed_one(inner: Incoming) -> Self {
        Self { inner, lease: None }
    }

    fn is_read(&mut self) {
        match self.lease.take() {
            Some(Lease::Http1(used)) => used.give_back(),
            Some(Lease::Http2(stream)) => drop(stream),
            None => {}
        }
    }
}

impl<B: SendBody> Body for PooledBody<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.is_read(),
            Poll::Ready(Some(Ok(_))) if self.inner.is_end_stream() => self.is_read(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
