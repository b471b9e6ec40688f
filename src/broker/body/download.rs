//! The upstream's body on its way to the agent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::broker::body::{BUDGET, BodyError, BodyLimits, IdleTimer, StreamBody};
use crate::broker::outcome::Outcome;
use crate::broker::right::{Right, Watch};
use crate::broker::scrub::{Needles, Scrubber};
use crate::broker::{caching, head, links};
use crate::yield_queue::ByteBudget;

/// What an answer is made of, before it is known that there is one: see [`Prepared::ending_with`].
pub(in crate::broker) struct Prepared {
    pub(in crate::broker) response: http::Response<Download>,
    /// It has no body, whatever its head says of one: an answer to HEAD, a 204, a 304.
    pub(in crate::broker) is_complete: bool,
}

impl Prepared {
    /// The answer. `outcome` is recorded when its body has ended.
    pub(in crate::broker) fn ending_with(self, outcome: Outcome) -> http::Response<Download> {
        let mut response = self.response;
        let download = response.body_mut();
        download.outcome = Some(outcome);
        if self.is_complete {
            // The server may never poll a body that it has no room for: it is complete now.
            download.end();
            download.finish("completed");
        }
        response
    }
}

/// The upstream's body on its way to the agent.
pub struct Download {
    inner: StreamBody,
    /// What has come and is not searched yet.
    unread: Bytes,
    scrubber: Option<Scrubber>,
    ready: VecDeque<Bytes>,
    trailers: Option<http::HeaderMap>,
    ended: bool,
    limit: u64,
    idle: IdleTimer,
    budget: ByteBudget,
    head_redactions: u64,
    outcome: Option<Outcome>,
    watch: Watch,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Download")
    }
}

impl Download {
    /// `head_redactions`: how often the secret was in the head.
    pub(in crate::broker) fn new(
        inner: StreamBody,
        needles: Option<Arc<Needles>>,
        head_redactions: u64,
        limits: &BodyLimits,
        right: Arc<Right>,
    ) -> Self {
        Self {
            inner,
            unread: Bytes::new(),
            scrubber: needles.map(Scrubber::new),
            ready: VecDeque::new(),
            trailers: None,
            ended: false,
            limit: limits.max_response_bytes,
            idle: IdleTimer::new(limits.idle_timeout),
            budget: limits.yields.budget(BUDGET),
            head_redactions,
            outcome: None,
            watch: Watch::new(right),
        }
    }

    fn finish(&mut self, reason: &str) {
        if let Some(mut outcome) = self.outcome.take() {
            outcome.redacted(self.head_redactions + self.scrubber.as_ref().map_or(0, Scrubber::redactions));
            outcome.finish(reason);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.unread.clear();
        self.ready.clear();
        self.trailers = None;
        self.finish(error.code());
        Poll::Ready(Some(Err(error)))
    }

    /// Searches the next piece of what has come. A piece is no longer than a budget.
    fn read_on(&mut self) {
        let data = self.unread.split_to(self.unread.len().min(BUDGET));
        self.budget.spend(data.len());
        // As announced by its length: whoever waits for the end is not kept waiting for another look at it.
        self.ended = self.unread.is_empty() && self.inner.is_end_stream();
        match &mut self.scrubber {
            Some(scrubber) if self.ended => scrubber.push_last(data, &mut self.ready),
            Some(scrubber) => scrubber.push(data, &mut self.ready),
            None => self.ready.push_back(data),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(scrubber) = &mut self.scrubber {
            scrubber.finish(&mut self.ready);
        }
    }
}

/// A download that is dropped midway tells what was redacted until then.
impl Drop for Download {
    fn drop(&mut self) {
        if let Some(outcome) = &mut self.outcome {
            outcome.redacted(self.head_redactions + self.scrubber.as_ref().map_or(0, Scrubber::redactions));
            outcome.abandon();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if (!self.ended || !self.ready.is_empty())
                && let Some(ended) = self.watch.ended()
            {
                return self.fail(BodyError::Ended(ended));
            }
            if let Some(data) = self.ready.pop_front() {
                if data.is_empty() {
                    continue;
                }
                let total = self.outcome.as_ref().map_or(0, |outcome| outcome.response.pass(&data));
                if total > self.limit {
                    return self.fail(BodyError::TooLarge);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.ended {
                // Before the trailers: after them the server asks no more.
                self.finish("completed");
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            ready!(self.budget.poll_ready(cx));
            if !self.unread.is_empty() {
                self.read_on();
                continue;
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle.moved();
                    match frame.into_data() {
                        Ok(data) => self.unread = data,
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                let needles = self.scrubber.as_ref().map(Scrubber::needles);
                                let (mut trailers, redactions) = head::strip_answer(trailers, needles, false);
                                links::strip_trailers(&mut trailers);
                                caching::strip_trailers(&mut trailers);
                                self.head_redactions += redactions;
                                self.trailers = Some(trailers);
                            }
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    // An upload that was cut takes the connection with it.
                    let error = self.watch.ended().map_or(error, BodyError::Ended);
                    return self.fail(error);
                }
                Poll::Ready(None) => self.end(),
                Poll::Pending => {
                    if let Poll::Ready(ended) = self.watch.poll(cx) {
                        return self.fail(BodyError::Ended(ended));
                    }
                    ready!(self.idle.poll(cx));
                    return self.fail(BodyError::Idle);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Only once the outcome is recorded: the server drops a body that says so before it was polled to its end.
        self.outcome.is_none() && self.ended && self.ready.is_empty() && self.trailers.is_none()
    }
}
