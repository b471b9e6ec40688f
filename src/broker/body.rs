//! Bodies on their way through: counted, digested, limited, searched for the secret; never collected.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Sleep;

use crate::broker::links::{self, Links};
use crate::broker::outcome::{Outcome, SharedMeter};
use crate::broker::right::{Ended, Right, Watch};
use crate::broker::scrub::{self, Coding, Needles, Scrubber};
use crate::broker::{CallError, StreamBody, ahead, caching, head, mark};
use crate::error::{Error, Result};
use crate::outbound::PooledBody;
use crate::yield_queue::{ByteBudget, YieldQueue};

/// Bytes that a body may move before other tasks run: some tenths of a millisecond of searching and digesting. A quarter
/// of it makes no measurable difference to others, and uploads slower by a tenth.
const BUDGET: usize = 128 * 1024;

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

/// The agent's body on its way to the upstream. Trailers end here: they would be headers that nobody checked.
pub(super) struct Upload {
    inner: StreamBody,
    meter: SharedMeter,
    limit: u64,
    idle: IdleTimer,
    budget: ByteBudget,
    watch: Watch,
}

impl Upload {
    pub(super) fn new(inner: StreamBody, limits: &BodyLimits, meter: SharedMeter, right: Arc<Right>) -> Self {
        let (limit, idle) = (limits.max_request_bytes, IdleTimer::new(limits.idle_timeout));
        Self { inner, meter, limit, idle, budget: limits.yields.budget(BUDGET), watch: Watch::new(right) }
    }

    /// The meter, to tell a slow upload from a slow upstream.
    pub(super) fn meter(&self) -> SharedMeter {
        self.meter.clone()
    }
}

impl Upload {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            ready!(self.budget.poll_ready(cx));
            if let Some(ended) = self.watch.ended() {
                return Poll::Ready(Some(Err(BodyError::Ended(ended))));
            }
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if let Poll::Ready(ended) = self.watch.poll(cx) {
                        return Poll::Ready(Some(Err(BodyError::Ended(ended))));
                    }
                    ready!(self.idle.poll(cx));
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
            };
            self.idle.moved();
            return Poll::Ready(match frame {
                None => None,
                Some(Err(error)) => Some(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.meter.pass(&data) > self.limit => Some(Err(BodyError::TooLarge)),
                    Ok(data) => {
                        self.budget.spend(data.len());
                        Some(Ok(Frame::data(data)))
                    }
                    Err(_trailers) => continue,
                },
            });
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.meter.broke_off(*error);
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

/// Makes the agent's answer of the upstream's: head stripped, links rewritten, body searched.
pub(super) async fn answer(
    answer: http::Response<PooledBody<Upload>>,
    needles: Option<Arc<Needles>>,
    links: &Links,
    limits: BodyLimits,
    mut outcome: Outcome,
    right: Arc<Right>,
) -> Result<http::Response<Download>, CallError> {
    let (parts, body) = answer.into_parts();
    outcome.answered(parts.status);
    if parts.status.is_informational() {
        outcome.finish("upstream_protocol");
        let text = "the upstream wanted to switch protocols, which is not brokered";
        return Err(Error::bad_gateway("upstream_protocol", text).into());
    }
    let codings = match codings(&parts.headers, needles.is_some()) {
        Ok(codings) => codings,
        Err(error) => {
            outcome.finish(error.code);
            return Err(error.into());
        }
    };
    let keeps_length = body.is_end_stream();
    // Without a secret it passes as it is, compressed or not.
    let is_plain = needles.is_some() && !keeps_length;
    let body: StreamBody = body.map_err(|_| BodyError::Broken).boxed_unsync();
    let inner = if codings.is_empty() || keeps_length {
        body
    } else {
        let opened = tokio::select! {
            biased;
            // Taken back while its beginning is on the way (P3).
            ended = right.over() => {
                outcome.finish(ended.code());
                return Err(right.error(ended));
            }
            opened = tokio::time::timeout(limits.idle_timeout, ahead::opened(body, &codings)) => opened,
        };
        match opened.unwrap_or(Err(BodyError::Idle)) {
            Ok(inner) => inner,
            Err(reason) => {
                outcome.finish(reason.code());
                return Err(not_opened(reason, &codings).into());
            }
        }
    };
    let length = parts.headers.get(http::header::CONTENT_LENGTH).cloned();
    let (headers, redactions) = head::strip_answer(parts.headers, needles.as_deref(), is_plain);
    // After scrubbing: what is compared and resolved is what the agent would read.
    let (mut headers, more_redactions) = links.rewrite(headers, needles.as_deref());
    caching::keep_private(&mut headers);
    mark::mark_answer(&mut headers, right.upstream().definition().allow_range);
    let mut download = Download {
        inner,
        unread: Bytes::new(),
        scrubber: needles.map(Scrubber::new),
        ready: VecDeque::new(),
        trailers: None,
        ended: false,
        limit: limits.max_response_bytes,
        idle: IdleTimer::new(limits.idle_timeout),
        budget: limits.yields.budget(BUDGET),
        head_redactions: redactions + more_redactions,
        outcome: Some(outcome),
        watch: Watch::new(right),
    };
    if keeps_length {
        // The server may never poll a body that it has no room for (HEAD, 204, 304, length 0): it is complete now.
        download.end();
        download.finish("completed");
    }
    let mut response = http::Response::new(download);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    if let Some(length) = length.filter(|_| keeps_length) {
        // An answer to HEAD, a 304: the length is information, there is no body that could change.
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    }
    Ok(response)
}

/// The content codings to undo, or why the answer cannot be searched. What the upstream wrote is not repeated: it may be the
/// secret (P1).
fn codings(headers: &http::HeaderMap, has_secret: bool) -> Result<Vec<Coding>> {
    let values = headers.get_all(http::header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    // Nothing to search for: it passes as it is, compressed or not.
    let planned = if has_secret { scrub::plan(values).map_err(|error| error.to_string()) } else { Ok(Vec::new()) };
    let check = if has_secret { head::searchable } else { head::framed };
    planned.and_then(|codings| check(headers).map(|()| codings).map_err(str::to_owned)).map_err(|what| {
        let text =
            format!("the upstream's answer has {what}, so it cannot be searched for its secret and is not passed on");
        Error::bad_gateway("upstream_encoding", text).because(what)
    })
}

/// What to say of a body whose beginning could not be decoded.
fn not_opened(reason: BodyError, codings: &[Coding]) -> Error {
    match reason {
        BodyError::Idle => {
            Error::gateway_timeout("upstream_timeout", "the upstream's answer stood still at its beginning")
        }
        BodyError::Undecodable => {
            let names: Vec<_> = codings.iter().map(|coding| coding.name()).collect();
            let text = format!(
                "the upstream says 'Content-Encoding: {}', but the body it sent is not in that coding; the fault is the upstream's",
                names.join(", ")
            );
            Error::bad_gateway("upstream_encoding", text).because("the body is not in the coding that its head names")
        }
        _ => Error::bad_gateway("upstream_reset", "the upstream broke its answer off at the beginning"),
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn an_upload_whose_next_piece_is_always_there_gives_way_after_each_budget() {
        let pieces = (0..16).map(|_| Ok(Frame::data(Bytes::from_static(&[0; BUDGET / 4]))));
        let limits = BodyLimits {
            response_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            max_request_bytes: u64::MAX,
            max_response_bytes: u64::MAX,
            yields: YieldQueue::start(&crate::supervise::Supervisor::new()),
        };
        let inner = StreamBody::new(http_body_util::StreamBody::new(stream::iter(pieces)));
        let (right, _) = crate::broker::right::tests::right(60_000);
        let mut upload = Upload::new(inner, &limits, SharedMeter::new(), right);
        let (mut bytes, mut ways) = (0, 0);
        loop {
            let frame = poll_fn(|cx| {
                let frame = Pin::new(&mut upload).poll_frame(cx);
                ways += usize::from(frame.is_pending());
                frame
            });
            let Some(frame) = frame.await else { break };
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!((bytes, ways), (4 * BUDGET, 4));
    }
}
