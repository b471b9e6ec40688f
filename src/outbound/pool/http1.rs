//! HTTP/1.1: a connection has one request at a time, and is kept for the next one.

use std::sync::{Arc, Weak};
use std::time::Instant;

use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, Version};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use tokio::task::JoinHandle;

use crate::outbound::Wire;
use crate::outbound::pool::body::{Lease, PooledBody};
use crate::outbound::pool::limits::Permits;
use crate::outbound::pool::{Inner, MAX_AGE, MAX_IDLE, MAX_IDLE_TIME, SendBody, SendError, lock, since};
use crate::world::monotonic;

/// A connection that has no request.
pub(super) struct Idle<B> {
    sender: SendRequest<B>,
    driver: JoinHandle<()>,
    born: Instant,
    since: Instant,
}

/// The connection that an answer comes over. It is given back once all of the answer was read; dropped before that, it is
/// closed.
pub(super) struct Used<B: SendBody> {
    sender: SendRequest<B>,
    driver: JoinHandle<()>,
    born: Instant,
    pool: Weak<Inner<B>>,
}

/// One that takes a request now: the one that was used last.
pub(super) fn take<B>(idle: &mut Vec<Idle<B>>, now: Instant) -> Option<Idle<B>> {
    let mut n = idle.len();
    while let Some(one) = n.checked_sub(1).and_then(|last| idle.get(last)) {
        n -= 1;
        if !is_good(one, now) {
            idle.remove(n);
        } else if one.sender.is_ready() {
            return Some(idle.remove(n));
        }
        // Otherwise it is about to be: its task did not run yet since the answer's end, or it still sends a body that the
        // upstream did not wait for.
    }
    None
}

fn is_good<B>(one: &Idle<B>, now: Instant) -> bool {
    !one.sender.is_closed() && since(one.born, now) < MAX_AGE && since(one.since, now) < MAX_IDLE_TIME
}

/// Makes a connection of a wire, and a task that drives it to its end.
pub(super) async fn open<B: SendBody>(
    pool: &Arc<Inner<B>>,
    wire: Wire,
    permits: Permits,
) -> Result<Idle<B>, SendError> {
    let (sender, connection) = Builder::new().handshake(wire).await.map_err(SendError::Http)?;
    let pool = Arc::downgrade(pool);
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Who waits for its answer is told; one that was idle is nobody's loss.
            tracing::debug!(%error, "an HTTP/1.1 connection ended with an error");
        }
        drop(permits);
        if let Some(pool) = pool.upgrade() {
            pool.freed.notify_one();
        }
    });
    let now = monotonic();
    Ok(Idle { sender, driver, born: now, since: now })
}

/// Why it was not answered, and the request if not one byte of it was written.
pub(super) type Failed<B> = (SendError, Option<Box<Request<B>>>);

/// Sends a request over a connection.
pub(super) async fn send<B: SendBody>(
    pool: &Arc<Inner<B>>,
    connection: Idle<B>,
    mut request: Request<B>,
) -> Result<Response<PooledBody<B>>, Failed<B>> {
    let Idle { mut sender, mut driver, born, .. } = connection;
    let absolute = std::mem::take(request.uri_mut());
    // RFC 9112 §3.2.1: the origin form.
    let target = absolute.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = target.into();
    *request.version_mut() = Version::HTTP_11;
    let mut sent = std::pin::pin!(sender.try_send_request(request));
    let sent = tokio::select! {
        biased;
        sent = &mut sent => sent,
        // A request that is put into the queue in the moment in which its connection ends can be left there (the channel's
        // receiver empties it and is gone, and the sender writes a moment later): no answer, and no error. It comes back
        // when the sender is dropped.
        _ = &mut driver => {
            drop(sender);
            return sent.await.map(|answer| answer.map(PooledBody::of_a_closed_one)).map_err(|failed| came_back(failed, absolute));
        }
    };
    match sent {
        Ok(answer) => {
            let lease = Lease::Http1(Used { sender, driver, born, pool: Arc::downgrade(pool) });
            Ok(answer.map(|body| PooledBody::new(body, lease)))
        }
        Err(failed) => Err(came_back(failed, absolute)),
    }
}

fn came_back<B: SendBody>(mut failed: TrySendError<Request<B>>, absolute: Uri) -> Failed<B> {
    let unsent = failed.take_message().map(|mut request| {
        *request.uri_mut() = absolute;
        Box::new(request)
    });
    (SendError::Http(failed.into_error()), unsent)
}

impl<B: SendBody> Used<B> {
    /// All of the answer was read.
    pub(super) fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let now = monotonic();
        let one = Idle { sender: self.sender, driver: self.driver, born: self.born, since: now };
        if !is_good(&one, now) || pool.room.is_short() {
            return;
        }
        {
            let mut idle = lock(&pool.idle);
            if idle.len() >= MAX_IDLE {
                return;
            }
            idle.push(one);
        }
        pool.freed.notify_one();
        tend(&pool);
    }
}

/// Sees to it that idle connections are closed in time, also where no request comes any more.
fn tend<B: SendBody>(pool: &Arc<Inner<B>>) {
    if std::mem::replace(&mut *lock(&pool.is_tended), true) {
        return;
    }
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(MAX_IDLE_TIME / 4).await;
            let Some(pool) = pool.upgrade() else { return };
            let now = monotonic();
            // In this order: whoever gives one back afterwards finds that nobody tends, and starts another task.
            let mut is_tended = lock(&pool.is_tended);
            let mut idle = lock(&pool.idle);
            idle.retain(|one| is_good(one, now));
            if idle.is_empty() {
                *is_tended = false;
                return;
            }
        }
    });
}
