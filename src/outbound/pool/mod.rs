//! The connections to one place: HTTP/1.1 connections that are used again, HTTP/2 connections that are shared, and how many of
//! them there may be.
//!
//! **A request is sent once.** A connection that was used before may have been closed by its other end a moment ago. hyper gives
//! a request back only if it never took it out of the queue of its connection, so that not one byte of it was written; such a
//! request may have another connection. In all other cases the upstream may have begun to act on it, and the error is the
//! caller's: whether a call may be made twice is for policy to say and not for a transport.
//!
//! **A changed name is followed.** A connection takes no new request after [`MAX_AGE`], however busy it is. The next one is dialled,
//! which looks the name up and checks its addresses anew.

mod body;
mod error;
mod http1;
mod http2;
mod limits;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::{Notify, Semaphore};

use crate::outbound::{DialError, Dialer};
use crate::world::monotonic;

pub use body::PooledBody;
pub use error::SendError;
pub use limits::ConnectionLimits;

use http1::Idle;
use http2::{Shared, Stream};
use limits::{Room, Shed};

/// How long an idle connection is kept.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// How many idle connections are kept.
const MAX_IDLE: usize = 512;

/// How old a connection may be and take a new request.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Connections that are being made at once: a place that is down is not flooded with attempts.
const MAX_DIALS: usize = 32;

/// After which an idle connection that was not ready is looked at again.
const SETTLE: Duration = Duration::from_millis(2);

/// Errors of a request's body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body.
pub trait SendBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> SendBody for B {}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 alone.
    Http1,
    /// What the other end chooses in its TLS handshake (ALPN, RFC 7301); without TLS, HTTP/1.1.
    Negotiated,
    /// HTTP/2 without being asked (RFC 9113 §3.3).
    Http2,
}

/// The connections to one place. Cheap to clone; they end with the last clone and the last answer.
pub struct Pool<B: SendBody>(Arc<Inner<B>>);

struct Inner<B: SendBody> {
    dialer: Dialer,
    protocol: Protocol,
    /// What the last connection spoke: [`UNKNOWN`], [`HTTP1`] or [`HTTP2`].
    speaks: AtomicU8,
    idle: Mutex<Vec<Idle<B>>>,
    /// Whether a task looks after what is idle.
    is_tended: Mutex<bool>,
    shared: Mutex<Vec<Arc<Shared<B>>>>,
    room: Room,
    dials: Semaphore,
    /// While it is not known which HTTP is spoken, or it is HTTP/2: one dials, and the others see what comes of it.
    one_dial: Semaphore,
    /// Told when a connection was given back or has ended.
    freed: Notify,
}

const UNKNOWN: u8 = 0;
const HTTP1: u8 = 1;
const HTTP2: u8 = 2;

impl<B: SendBody> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: SendBody> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("dialer", &self.0.dialer)
            .field("protocol", &self.0.protocol)
            .finish_non_exhaustive()
    }
}

/// A connection that takes a request.
enum Connection<B: SendBody> {
    Http1(Idle<B>),
    Http2(Stream<B>),
}

impl<B: SendBody> Pool<B> {
    /// `most`: connections to this place at once. `limits`: of all pools.
    pub fn new(dialer: Dialer, protocol: Protocol, most: usize, limits: &Arc<ConnectionLimits>) -> Self {
        let pool = Arc::new(Inner {
            dialer,
            protocol,
            speaks: AtomicU8::new(match protocol {
                Protocol::Http1 => HTTP1,
                Protocol::Negotiated => UNKNOWN,
                Protocol::Http2 => HTTP2,
            }),
            idle: Mutex::default(),
            is_tended: Mutex::default(),
            shared: Mutex::default(),
            room: Room::new(most, limits.clone()),
            dials: Semaphore::new(MAX_DIALS),
            one_dial: Semaphore::new(1),
            freed: Notify::new(),
        });
        let of_this: Weak<Inner<B>> = Arc::downgrade(&pool);
        limits.join(of_this);
        Self(pool)
    }

    /// Connects as a request would, and hangs up.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), DialError> {
        self.0.dialer.dial().await.map(drop)
    }

    /// Sends a request, whose URI is absolute, and gives the head of the answer. The time until there is a connection is bounded by
    /// the dialer's; the time until there is an answer is the caller's to bound.
    ///
    /// # Errors
    /// No connection, or the one that was used broke off.
    pub async fn send(&self, mut request: Request<B>) -> Result<Response<PooledBody<B>>, SendError> {
        loop {
            let (connection, is_fresh) = match self.there() {
                Some(connection) => (connection, false),
                None => self.another().await?,
            };
            let unsent = match connection {
                Connection::Http1(connection) => http1::send(&self.0, connection, request).await,
                Connection::Http2(stream) => http2::send(stream, request).await,
            };
            let (error, unsent) = match unsent {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match unsent {
                // Never on a new one: a place that hangs up on everybody would be dialled without end.
                Some(unsent) if !is_fresh => request = *unsent,
                _ => return Err(error),
            }
        }
    }

    /// A connection that is there and takes a request.
    fn there(&self) -> Option<Connection<B>> {
        let now = monotonic();
        if self.0.speaks.load(Ordering::Relaxed) == HTTP2
            && let Some(stream) = http2::stream(&mut lock(&self.0.shared), now)
        {
            return Some(Connection::Http2(stream));
        }
        http1::take(&mut lock(&self.0.idle), now).map(Connection::Http1)
    }

    /// Resolves when an idle connection that did not take a request a moment ago may take one: nothing tells that its task has
    /// run since the end of its last answer. Where none is idle it does not resolve.
    async fn settled(&self) {
        if lock(&self.0.idle).is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLE).await;
    }

    /// Waits for a connection, or makes one; with whether it is new.
    async fn another(&self) -> Result<(Connection<B>, bool), SendError> {
        let pool = &self.0;
        let deadline = tokio::time::Instant::from_std(monotonic() + pool.dialer.timeout);
        let permits = loop {
            let mut freed = std::pin::pin!(pool.freed.notified());
            // Before it is looked: what is given back in between is not missed.
            freed.as_mut().enable();
            if let Some(connection) = self.there() {
                return Ok((connection, false));
            }
            if let Some(permits) = pool.room.take() {
                break permits;
            }
            tokio::select! {
                () = freed => {}
                () = pool.room.freed_elsewhere() => {}
                () = self.settled() => {}
                () = tokio::time::sleep_until(deadline) => return Err(SendError::Busy),
            }
        };
        let in_time = async {
            let may_be_shared = pool.speaks.load(Ordering::Relaxed) != HTTP1;
            let _one = if may_be_shared { pool.one_dial.acquire().await.ok() } else { None };
            if may_be_shared && let Some(connection) = self.there() {
                return Ok((connection, false));
            }
            let _dialling = pool.dials.acquire().await.ok();
            let wire = pool.dialer.dial().await.map_err(SendError::Dial)?;
            let is_http2 = pool.protocol == Protocol::Http2 || wire.is_http2();
            pool.speaks.store(if is_http2 { HTTP2 } else { HTTP1 }, Ordering::Relaxed);
            let connection = if is_http2 {
                Connection::Http2(http2::open(pool, wire, permits).await?)
            } else {
                Connection::Http1(http1::open(pool, wire, permits).await?)
            };
            Ok((connection, true))
        };
        let made = tokio::time::timeout_at(deadline, in_time).await;
        made.unwrap_or(Err(SendError::Dial(DialError::Timeout)))
    }
}

/// How long ago, at most zero.
fn since(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

/// A thread that panicked with a list in its hands leaves a list.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: SendBody> Shed for Inner<B> {
    fn shed(&self) -> bool {
        // The one that was idle for the longest time.
        let mut idle = lock(&self.idle);
        if idle.is_empty() {
            return false;
        }
        drop(idle.remove(0));
        true
    }
}
