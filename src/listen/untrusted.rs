//! The untrusted limiter: a flood of unauthenticated connections does not keep authenticated clients waiting.
//!
//! Whoever floods us with connections, heads, handshakes or streams has more of them ready at any time than there are
//! threads. An agent's next request, the answer of its upstream and the word that its record is durable would each stand
//! behind all of them. So untrusted connections together leave one worker thread free, and wait for each other for the rest.
//!
//! A connection is untrusted until an answer went over it to somebody who showed a good token, secret or certificate.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::Extensions;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::listen::protocol::MAX_STREAMS;
use crate::supervise::Supervisor;
use crate::world::monotonic;
use crate::yield_queue::YieldQueue;

/// Requests that a connection may bring after an answer to somebody authenticated, until it is untrusted again. A client that
/// only begins calls and resets them, or has them refused, stays no trusted one. Twice as many as may be open at once.
const CREDIT: u32 = 2 * MAX_STREAMS;

/// The limiter rests when no trusted connection brought a request for so long. All who are there are newcomers then.
const RESTS_AFTER: Duration = Duration::from_secs(10);

/// In the extensions of an answer to somebody who has shown who they are.
#[derive(Debug, Clone, Copy)]
pub struct Authenticated;

/// Limits the threads that untrusted connections keep busy. Cheap to clone. Without a limit, every connection is trusted.
#[derive(Debug, Clone)]
pub struct UntrustedLimiter(Option<Arc<Limit>>);

#[derive(Debug)]
struct Limit {
    /// How many threads untrusted connections may keep busy.
    threads: usize,
    busy: AtomicUsize,
    /// Who waits for one of the threads.
    waiting: Arc<Notify>,
    /// Where untrusted connections wait for their next share of bytes. A queue of them is as long as they like, so trusted ones
    /// have another.
    yields: YieldQueue,
    since: Instant,
    /// When a trusted connection last brought a request, in milliseconds after `since`; 0 for never.
    last_trusted: AtomicU64,
}

/// One of the threads.
pub(super) struct Thread(Arc<Limit>);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        // No thread is kept for whoever waited longest: until that task runs, behind all who are ready, the thread would have
        // nothing to do. Two are called, so that more and more of them come to be ready; who finds no thread waits again.
        self.0.waiting.notify_one();
        self.0.waiting.notify_one();
    }
}

impl UntrustedLimiter {
    /// If it is on, untrusted connections get all worker threads of the current runtime but one; if there is but one, that.
    pub fn new(is_on: bool, supervisor: &Supervisor) -> Self {
        let threads = Handle::current().metrics().num_workers().saturating_sub(1).max(1);
        Self(is_on.then(|| Arc::new(Limit::new(threads, supervisor))))
    }

    /// A thread, if one is free.
    #[cfg(test)]
    pub(super) fn thread(&self) -> Option<Thread> {
        self.0.as_ref().and_then(Limit::thread)
    }

    /// The trust in a connection that was just made.
    pub(super) fn connection(&self) -> Trust {
        Trust(self.0.clone().map(|limit| Arc::new(Credit { limit, left: AtomicU32::new(0) })))
    }
}

impl Limit {
    fn new(threads: usize, supervisor: &Supervisor) -> Self {
        Self {
            threads,
            busy: AtomicUsize::new(0),
            waiting: Arc::default(),
            yields: YieldQueue::start(supervisor),
            since: monotonic(),
            last_trusted: AtomicU64::new(0),
        }
    }

    fn thread(self: &Arc<Self>) -> Option<Thread> {
        let more = |busy| (busy < self.threads).then_some(busy + 1);
        let taken = self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Thread(self.clone()))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn trusted_is_there(&self) {
        let (now, last) = (self.millis(), self.last_trusted.load(Ordering::Relaxed));
        // Written once a second and not for each request, it stays in the cache of every core.
        if last == 0 || now.saturating_sub(last) >= 1_000 {
            self.last_trusted.store(now, Ordering::Relaxed);
        }
    }

    /// Whether there is no trusted connection that others could keep waiting.
    fn rests(&self) -> bool {
        let last = self.last_trusted.load(Ordering::Relaxed);
        last == 0 || u128::from(self.millis().saturating_sub(last)) > RESTS_AFTER.as_millis()
    }
}

/// How far one connection is trusted.
#[derive(Debug, Clone)]
pub(super) struct Trust(Option<Arc<Credit>>);

#[derive(Debug)]
struct Credit {
    limit: Arc<Limit>,
    /// Requests that may come until the connection is untrusted again.
    left: AtomicU32,
}

impl Trust {
    /// A request came.
    pub(super) fn asked(&self) {
        let Some(credit) = &self.0 else { return };
        // Of two that come at once, one may go uncounted: it is no bound on anything.
        let left = credit.left.load(Ordering::Relaxed);
        if left > 0 {
            credit.left.store(left - 1, Ordering::Relaxed);
            // Not by the first request: where each call comes by a connection of its own, all are untrusted when they ask, and
            // a thread would be left free for nobody.
            credit.limit.trusted_is_there();
        }
    }

    /// An answer with these extensions went to whoever asked.
    pub(super) fn answered(&self, extensions: &Extensions) {
        if let Some(credit) = &self.0
            && extensions.get::<Authenticated>().is_some()
        {
            credit.left.store(CREDIT, Ordering::Relaxed);
        }
    }

    /// Whether what was asked can wait for others, so that no trusted connection waits for the commit of its record.
    pub(super) fn gives_way(&self) -> bool {
        self.limit_now().is_some()
    }

    /// Where untrusted connections wait for their next share of bytes, if there is such a queue.
    pub(super) fn untrusted_queue(&self) -> Option<&YieldQueue> {
        self.0.as_ref().map(|credit| &credit.limit.yields)
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.0.as_ref().is_none_or(|credit| credit.left.load(Ordering::Relaxed) > 0)
    }

    /// The limit that this connection is under now, if it is.
    fn limit_now(&self) -> Option<&Arc<Limit>> {
        let limit = self.0.as_ref().filter(|_| !self.is_trusted()).map(|credit| &credit.limit);
        limit.filter(|limit| !limit.rests())
    }

    /// Does `work` of this connection. While the connection is untrusted, each poll waits until a thread is free for it.
    pub(super) fn limit<F: Future>(&self, work: F) -> Limited<F> {
        Limited { work: Some(Box::pin(work)), trust: self.clone(), place: None }
    }
}

/// See [`Trust::limit`].
pub(super) struct Limited<F> {
    /// `None` when it is done.
    work: Option<Pin<Box<F>>>,
    trust: Trust,
    /// In the line, while this waits there.
    place: Option<Pin<Box<OwnedNotified>>>,
}

impl<F: Future> Future for Limited<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let thread = match this.trust.limit_now() {
            None => None,
            Some(limit) => loop {
                if let Some(thread) = limit.thread() {
                    break Some(thread);
                }
                // A thread that became free since then has called somebody, us if nobody else waited.
                let place = this.place.get_or_insert_with(|| Box::pin(limit.waiting.clone().notified_owned()));
                ready!(place.as_mut().poll(cx));
                this.place = None;
            },
        };
        // Out of the line; if we were called, the next one is now. That is how all go on who wait when the last trusted client
        // has left: whoever needs no thread has none to give back.
        this.place = None;
        let Some(work) = &mut this.work else { return Poll::Pending };
        let step = work.as_mut().poll(cx);
        if step.is_ready() {
            // Now, while the thread is theirs: a connection may leave megabytes to be freed that nobody read.
            this.work = None;
        }
        drop(thread);
        step
    }
}

#[cfg(test)]
mod tests;
