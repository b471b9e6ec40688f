//! HTTP/2's streams: a limit on readers that stand still, and on connections without a stream.
//!
//! A reader of HTTP/1.1 that stands still stops the socket, and the socket's write timeout ends it. In HTTP/2 a reader
//! closes its window (RFC 9113 §5.2) and the socket stays lively. Such a reader would hold calls, connections to upstreams
//! and memory for as long as it answers pings.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::listen::untrusted::Trust;
use crate::world::monotonic;

/// Bytes that are handed to the connection in one piece: one DATA frame of the usual size.
const PIECE: usize = 16 * 1024;

/// Bytes of one stream that the connection may hold for a reader who does not take them.
const MAX_UNSENT: usize = 2 * PIECE;

tokio::task_local! {
    /// The reader of the stream whose task this is.
    static READER: Arc<Reader>;
}

/// Who reads a stream's answer: how much waits for them, and since when nothing of it moved.
#[derive(Debug)]
struct Reader(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    unsent: usize,
    moved: Instant,
    more: Option<Waker>,
}

impl Reader {
    fn new() -> Self {
        Self(Mutex::new(Waiting { unsent: 0, moved: monotonic(), more: None }))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when something was ready for the reader for as long as `limit`, and none of it moved.
    async fn stalled(&self, limit: Duration) {
        loop {
            let still = self.with(|waiting| if waiting.unsent > 0 { waiting.moved.elapsed() } else { Duration::ZERO });
            match limit.checked_sub(still).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }
}

/// A piece of a body in the connection's hands, until the socket has it.
struct Unsent {
    data: Bytes,
    reader: Arc<Reader>,
}

impl Unsent {
    fn new(data: Bytes, reader: &Arc<Reader>) -> Self {
        reader.with(|waiting| {
            if waiting.unsent == 0 {
                waiting.moved = monotonic();
            }
            waiting.unsent += data.len();
        });
        Self { data, reader: reader.clone() }
    }
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let more = self.reader.with(|waiting| {
            waiting.unsent = waiting.unsent.saturating_sub(self.data.len());
            waiting.moved = monotonic();
            waiting.more.take()
        });
        if let Some(more) = more {
            more.wake();
        }
    }
}

/// A body that is handed over piece by piece, as its reader takes it.
pub(super) struct Paced<B> {
    inner: B,
    rest: Bytes,
    reader: Option<Arc<Reader>>,
}

impl<B> Paced<B> {
    /// For the stream whose task this is.
    pub(super) fn new(inner: B) -> Self {
        Self { inner, rest: Bytes::new(), reader: READER.try_with(Arc::clone).ok() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(reader) = &this.reader else { return Pin::new(&mut this.inner).poll_frame(cx) };
        let full = reader.with(|waiting| {
            let full = waiting.unsent >= MAX_UNSENT;
            waiting.more = full.then(|| cx.waker().clone());
            full
        });
        if full {
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Unsent::new(piece, reader))))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}

/// The streams of one connection: runs each, and ends those whose reader stands still for `limit`.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    trust: Trust,
    limit: Duration,
    under_way: Arc<Mutex<(usize, Instant)>>,
}

impl Streams {
    pub(super) fn new(trust: Trust, limit: Duration) -> Self {
        Self { trust, limit, under_way: Arc::new(Mutex::new((0, monotonic()))) }
    }

    fn under_way<T>(&self, change: impl FnOnce(&mut (usize, Instant)) -> T) -> T {
        change(&mut self.under_way.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when there was no stream for as long as `limit`, counted from now at the earliest.
    pub(super) async fn idle(&self, limit: Duration) {
        let from = monotonic();
        loop {
            let (count, last) = self.under_way(|under_way| *under_way);
            let still = if count == 0 { last.max(from).elapsed() } else { Duration::ZERO };
            match limit.checked_sub(still).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }
}

/// One stream that is counted.
struct UnderWay(Streams);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way(|(count, last)| {
            *count = count.saturating_sub(1);
            *last = monotonic();
        });
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.under_way(|(count, _)| *count += 1);
        let counted = UnderWay(self.clone());
        let (reader, limit) = (Arc::new(Reader::new()), self.limit);
        tokio::spawn(self.trust.limit(async move {
            tokio::select! {
                biased;
                () = READER.scope(reader.clone(), stream) => {}
                // What ends the stream here resets it, and frees what it held.
                () = reader.stalled(limit) => {
                    metrics::counter!("hallpass_streams_stalled_total").increment(1);
                }
            }
            drop(counted);
        }));
    }
}
