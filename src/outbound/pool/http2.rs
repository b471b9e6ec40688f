//! HTTP/2: a connection has many requests at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue};
use http::{Request, Response, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::outbound::Wire;
use crate::outbound::pool::body::{Lease, PooledBody};
use crate::outbound::pool::http1::Failed;
use crate::outbound::pool::limits::Permits;
use crate::outbound::pool::{Inner, MAX_AGE, SendBody, SendError, lock, since};
use crate::world::monotonic;

/// Requests on one connection at once, at most. The other end may allow fewer.
const MAX_STREAMS: usize = 100;

/// Requests that are sent before the other end said how many it allows: what is more than it allows it would refuse (RFC 9113
/// §5.1.2). The others wait for its word, which is the first that it sends.
const FIRST_STREAMS: usize = 1;

/// What may be on its way in one answer, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What may be on its way in all answers of a connection, in bytes. Room for all of them: an agent that does not read its
/// answer must not keep the others from theirs (RFC 9113 §5.2.2).
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (MAX_STREAMS as u32 + 28);

/// The head of an answer, in bytes; HTTP/1.1 has a limit of hyper's of about the same size.
const MAX_HEADERS: u32 = 256 * 1024;

/// How often a silent connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long that may take.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// A connection that is shared.
pub(super) struct Shared<B> {
    /// `None`: the connection has ended.
    sender: Mutex<Option<SendRequest<B>>>,
    born: Instant,
    streams: AtomicUsize,
    /// How many the other end allows.
    allowed: AtomicUsize,
    freed: Box<dyn Fn() + Send + Sync>,
}

impl<B: SendBody> Shared<B> {
    fn is_closed(&self) -> bool {
        lock(&self.sender).as_ref().is_none_or(SendRequest::is_closed)
    }
}

/// A place for one request on a shared connection.
pub(super) struct Stream<B: SendBody>(Arc<Shared<B>>);

impl<B: SendBody> Drop for Stream<B> {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        (self.0.freed)();
    }
}

/// A place on one of these. What is closed or too old is left to its last answers.
pub(super) fn stream<B: SendBody>(shared: &mut Vec<Arc<Shared<B>>>, now: Instant) -> Option<Stream<B>> {
    shared.retain(|one| !one.is_closed() && since(one.born, now) < MAX_AGE);
    // Under the list's lock, so that two do not take the last place.
    let free = |one: &&Arc<Shared<B>>| {
        one.streams.load(Ordering::Relaxed) < MAX_STREAMS.min(one.allowed.load(Ordering::Relaxed))
    };
    let one = shared.iter().find(free)?;
    one.streams.fetch_add(1, Ordering::Relaxed);
    Some(Stream(one.clone()))
}

/// Makes a connection of a wire, and a task that drives it to its end.
pub(super) async fn open<B: SendBody>(
    pool: &Arc<Inner<B>>,
    wire: Wire,
    permits: Permits,
) -> Result<Stream<B>, SendError> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN);
    let (sender, connection) = builder.handshake(wire).await.map_err(SendError::Http)?;
    let weak = Arc::downgrade(pool);
    let freed = {
        let pool = weak.clone();
        Box::new(move || {
            if let Some(pool) = pool.upgrade() {
                pool.freed.notify_one();
            }
        })
    };
    let (streams, allowed) = (AtomicUsize::new(1), AtomicUsize::new(MAX_STREAMS));
    let sender = Mutex::new(Some(sender));
    let shared = Arc::new(Shared { sender, born: monotonic(), streams, allowed, freed });
    lock(&pool.shared).push(shared.clone());
    let seen = Arc::downgrade(&shared);
    tokio::spawn(async move {
        let mut connection = connection;
        let ended = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            let allowed = connection.current_max_send_streams();
            // Until it is known, and where it is so low that a connection for each request would come of it, they wait in line.
            if allowed > FIRST_STREAMS
                && let Some(shared) = seen.upgrade()
            {
                shared.allowed.store(allowed, Ordering::Relaxed);
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "an HTTP/2 connection ended with an error");
        }
        drop(permits);
        // A request that was put into the queue a moment ago comes back when the last sender is gone, as with HTTP/1.1.
        if let Some(shared) = seen.upgrade() {
            lock(&shared.sender).take();
        }
        if let Some(pool) = weak.upgrade() {
            lock(&pool.shared).retain(|one| !one.is_closed());
            pool.freed.notify_one();
        }
    });
    Ok(Stream(shared))
}

/// Sends a request over a connection that others use, too.
pub(super) async fn send<B: SendBody>(
    stream: Stream<B>,
    mut request: Request<B>,
) -> Result<Response<PooledBody<B>>, Failed<B>> {
    // RFC 9113 §8.3.1: the host is in `:authority`, which the absolute URI gives.
    let host = request.headers_mut().remove(HOST);
    *request.version_mut() = Version::HTTP_2;
    let sent = match &mut *lock(&stream.0.sender) {
        Some(sender) => sender.try_send_request(request),
        None => return Err((SendError::Closed, Some(with_host(request, host)))),
    };
    match sent.await {
        Ok(answer) => Ok(answer.map(|body| PooledBody::new(body, Lease::Http2(stream)))),
        Err(mut failed) => {
            let unsent = failed.take_message().map(|request| with_host(request, host));
            Err((SendError::Http(failed.into_error()), unsent))
        }
    }
}

fn with_host<B>(mut request: Request<B>, host: Option<HeaderValue>) -> Box<Request<B>> {
    request.headers_mut().extend(host.map(|host| (HOST, host)));
    Box::new(request)
}
