//! The agent's body on its way to the upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::broker::body::{BUDGET, BodyError, BodyLimits, CallBody, IdleTimer, StreamBody};
use crate::broker::outcome::SharedMeter;
use crate::broker::right::{Right, Watch};
use crate::yield_queue::ByteBudget;

/// The agent's body on its way to the upstream. Trailers end here: they would be headers that nobody checked.
pub(in crate::broker) struct Upload {
    kind: Kind,
    meter: SharedMeter,
}

enum Kind {
    /// There is none, or it has gone out.
    Empty,
    Whole(Bytes),
    Stream(Box<Streaming>),
}

struct Streaming {
    inner: StreamBody,
    limit: u64,
    idle: IdleTimer,
    budget: ByteBudget,
    watch: Watch,
}

impl Upload {
    pub(in crate::broker) fn new(body: CallBody, limits: &BodyLimits, meter: SharedMeter, right: &Arc<Right>) -> Self {
        let kind = match body {
            CallBody::Empty => Kind::Empty,
            CallBody::Whole(bytes) => Kind::Whole(bytes),
            CallBody::Stream(inner) => Kind::Stream(Box::new(Streaming {
                inner,
                limit: limits.max_request_bytes,
                idle: IdleTimer::new(limits.idle_timeout),
                budget: limits.yields.budget(BUDGET),
                watch: Watch::new(right.clone()),
            })),
        };
        Self { kind, meter }
    }

    /// The meter, to tell a slow upload from a slow upstream.
    pub(in crate::broker) fn meter(&self) -> SharedMeter {
        self.meter.clone()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                this.meter.pass(&bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Stream(streaming) => {
                let polled = streaming.poll_frame(&this.meter, cx);
                if let Poll::Ready(Some(Err(error))) = &polled {
                    this.meter.broke_off(*error);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Stream(streaming) => streaming.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(streaming) => streaming.inner.size_hint(),
        }
    }
}

impl Streaming {
    fn poll_frame(
        &mut self,
        meter: &SharedMeter,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
                    Ok(data) if meter.pass(&data) > self.limit => Some(Err(BodyError::TooLarge)),
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
