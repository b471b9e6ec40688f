//! Strangers do not keep those waiting whom we know.
//!
//! Whoever floods us with connections, heads, handshakes or streams has more of them ready at any time than there are
//! threads. An agent's next request, the answer of its upstream and the word that its record is durable would each stand
//! behind all of them. So strangers leave one worker thread free, and wait for each other for the rest. A connection
//! is a stranger's until an answer went over it to somebody who showed a good token, secret or certificate.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use axum::response::Response;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::http::serve::MAX_STREAMS;
use crate::supervise::Supervisor;
use crate::world::monotonic;
use crate::yield_queue::YieldQueue;

/// Requests that may come over a connection after an answer to somebody known, until it is a stranger's again: who only
/// begins calls and resets them, or has them refused, is no good agent for long. Twice as many as may be open at once.
const CREDIT: u32 = 2 * MAX_STREAMS;

/// Strangers get all threads when nobody known was there for so long: newcomers are all that there is then.
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// How long a thread works for strangers before it gives its core to another thread that waits for it: one of ours, or the one
/// that writes the log. Linux, built without preemption, may leave a thread that it has woken behind a busy one until its
/// next tick, 4 ms later, even while another core has nothing to do.
const AT_ONCE: Duration = Duration::from_micros(200);

thread_local! {
    /// How long this thread has worked for strangers since it last gave way.
    static WORKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// In the extensions of an answer to somebody who showed who they are.
#[derive(Debug, Clone, Copy)]
pub struct Known;

/// Marks the answer of a route that nobody gets 2xx from who did not show who they are.
pub(super) async fn known_if_successful(mut answer: Response) -> Response {
    if answer.status().is_success() {
        answer.extensions_mut().insert(Known);
    }
    answer
}

/// The threads that strangers may keep busy at once, and the line in which they wait for them.
#[derive(Debug, Clone)]
pub(super) struct Strangers(Arc<Line>);

#[derive(Debug)]
struct Line {
    /// How many threads they may keep busy.
    threads: usize,
    busy: AtomicUsize,
    /// Who waits for one of them.
    waiting: Arc<Notify>,
    turns: YieldQueue,
    since: Instant,
    /// When somebody known was last there, in milliseconds after `since`; 0 for never.
    last_known: AtomicU64,
}

/// One of the threads.
pub(super) struct Thread(Strangers);

impl Drop for Thread {
    fn drop(&mut self) {
        let line = &self.0.0;
        line.busy.fetch_sub(1, Ordering::SeqCst);
        // No thread is kept for whoever waited longest: until they run, behind all who are ready, it would have nothing to
        // do, and where there are many of these nobody new would ever get anywhere. Two, so that ever more of them come to
        // be ready while that is so; who finds no thread waits again.
        line.waiting.notify_one();
        line.waiting.notify_one();
    }
}

impl Strangers {
    /// All worker threads of the current runtime but one; if there is but one, that.
    pub(super) fn new(supervisor: &Supervisor) -> Self {
        Self::with(Handle::current().metrics().num_workers().saturating_sub(1).max(1), supervisor)
    }

    fn with(threads: usize, supervisor: &Supervisor) -> Self {
        Self(Arc::new(Line {
            threads,
            busy: AtomicUsize::new(0),
            waiting: Arc::default(),
            turns: YieldQueue::start(supervisor),
            since: monotonic(),
            last_known: AtomicU64::new(0),
        }))
    }

    /// A thread, if one is free.
    pub(super) fn thread(&self) -> Option<Thread> {
        let more = |busy| (busy < self.0.threads).then_some(busy + 1);
        let taken = self.0.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Thread(self.clone()))
    }

    /// Of a connection that was just made.
    pub(super) fn standing(&self) -> Standing {
        Standing(Arc::new(Connection {
            strangers: self.clone(),
            credit: AtomicU32::new(0),
            is_kept: AtomicBool::new(false),
        }))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn known_is_there(&self) {
        let (now, last) = (self.millis(), self.0.last_known.load(Ordering::Relaxed));
        // Written once a second, and not for each request, it stays in the cache of every core.
        if last == 0 || now.saturating_sub(last) >= 1_000 {
            self.0.last_known.store(now, Ordering::Relaxed);
        }
    }

    /// Whether nobody known is there whom they could keep waiting.
    fn are_alone(&self) -> bool {
        let last = self.0.last_known.load(Ordering::Relaxed);
        last == 0 || u128::from(self.millis().saturating_sub(last)) > ALONE_AFTER.as_millis()
    }
}

/// Whether a connection is a stranger's.
#[derive(Debug, Clone)]
pub(super) struct Standing(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    strangers: Strangers,
    credit: AtomicU32,
    /// Whether somebody known asked for a second time. Where each call comes by a connection of its own, all are strangers'
    /// when they ask, and would leave a thread free for nobody.
    is_kept: AtomicBool,
}

impl Standing {
    /// A request came.
    pub(super) fn asked(&self) {
        // Of two that come at once, one may go uncounted: it is no bound on anything.
        let credit = self.0.credit.load(Ordering::Relaxed);
        if credit > 0 {
            self.0.credit.store(credit - 1, Ordering::Relaxed);
            self.0.is_kept.store(true, Ordering::Relaxed);
            self.0.strangers.known_is_there();
        }
    }

    /// Whether the record of what was asked can wait for others, so that nobody known waits for the commit of it.
    pub(super) fn can_wait(&self) -> bool {
        !self.is_known() && !self.0.strangers.are_alone()
    }

    /// This is the answer to one.
    pub(super) fn answered(&self, answer: &Response) {
        if answer.extensions().get::<Known>().is_some() {
            self.0.credit.store(CREDIT, Ordering::Relaxed);
        }
    }

    /// Turns among strangers.
    pub(super) fn turns(&self) -> &YieldQueue {
        &self.0.strangers.0.turns
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.credit.load(Ordering::Relaxed) > 0
    }

    /// Does `work` of this connection: while that is a stranger's, each step of it when a thread is free for strangers.
    pub(super) fn work<F: Future>(&self, work: F) -> Work<F> {
        Work { work: Some(Box::pin(work)), standing: self.clone(), place: None }
    }
}

/// See [`Standing::work`].
pub(super) struct Work<F> {
    /// `None` when it is done.
    work: Option<Pin<Box<F>>>,
    standing: Standing,
    /// In the line, while this waits there.
    place: Option<Pin<Box<OwnedNotified>>>,
}

impl<F: Future> Future for Work<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let (strangers, is_known) = (&this.standing.0.strangers, this.standing.is_known());
        if is_known && this.standing.0.is_kept.load(Ordering::Relaxed) {
            strangers.known_is_there();
        }
        let thread = if is_known || strangers.are_alone() {
            None
        } else {
            loop {
                if let Some(thread) = strangers.thread() {
                    break Some(thread);
                }
                // A thread that became free since then has called somebody, us if nobody else waited.
                let waiting = &strangers.0.waiting;
                let place = this.place.get_or_insert_with(|| Box::pin(waiting.clone().notified_owned()));
                ready!(place.as_mut().poll(cx));
                this.place = None;
            }
        };
        // Out of the line; if we were called, the next one is now. That is how all go on who wait when the last one who
        // was known has left: whoever needs no thread has none to give back.
        this.place = None;
        let Some(work) = &mut this.work else { return Poll::Pending };
        let begun = (!is_known).then(monotonic);
        let step = work.as_mut().poll(cx);
        if step.is_ready() {
            // Now, while the thread is theirs: a connection may leave megabytes to be freed that nobody read.
            this.work = None;
        }
        if let Some(begun) = begun {
            let worked = WORKED.get() + begun.elapsed();
            WORKED.set(worked);
            if worked >= AT_ONCE {
                WORKED.set(Duration::ZERO);
                // Before another stranger gets this thread's place, on another thread.
                thread::yield_now();
            }
        }
        drop(thread);
        step
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn answer(known: bool) -> Response {
        let mut answer = Response::default();
        if known {
            answer.extensions_mut().insert(Known);
        }
        answer
    }

    /// A connection over which somebody known was just answered.
    fn known(strangers: &Strangers) -> Standing {
        let standing = strangers.standing();
        standing.asked();
        standing.answered(&answer(true));
        standing.asked();
        assert!(standing.is_known());
        standing
    }

    /// Polls once.
    fn step<F: Future + Unpin>(work: &mut F) -> Poll<F::Output> {
        Pin::new(work).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn strangers_wait_for_each_other_and_nobody_known_waits_for_them() {
        let strangers = Strangers::with(1, &Supervisor::new());
        let friend = known(&strangers);
        let held = strangers.thread().unwrap();
        let (first, second) = (strangers.standing(), strangers.standing());
        let (mut first, mut second) = (first.work(std::future::ready(1)), second.work(std::future::ready(2)));
        assert!(step(&mut first).is_pending() && step(&mut second).is_pending(), "the only thread is taken");
        assert!(strangers.standing().can_wait() && !friend.can_wait());
        assert_eq!(step(&mut friend.work(std::future::ready(3))), Poll::Ready(3));
        drop(held);
        assert_eq!(step(&mut second), Poll::Ready(2));
        assert_eq!(step(&mut first), Poll::Ready(1));
        assert_eq!(strangers.0.busy.load(Ordering::SeqCst), 0);
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn who_leaves_the_line_or_is_known_meanwhile_holds_up_nobody() {
        let strangers = Strangers::with(1, &Supervisor::new());
        let _friend = known(&strangers);
        let held = strangers.thread().unwrap();
        let standing = strangers.standing();
        let mut work = standing.work(std::future::pending::<()>());
        let mut other = strangers.standing().work(std::future::pending::<()>());
        let mut last = strangers.standing().work(std::future::pending::<()>());
        assert!(step(&mut work).is_pending() && step(&mut other).is_pending());
        let woken = Arc::new(Woken::default());
        assert!(Pin::new(&mut last).poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
        assert!(work.place.is_some() && other.place.is_some() && last.place.is_some());
        // The first two are called, and neither comes.
        drop(held);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        standing.answered(&answer(true));
        assert!(step(&mut work).is_pending() && work.place.is_none());
        drop(other);
        assert!(woken.0.load(Ordering::SeqCst) > 0, "the last one is called instead");
        assert_eq!(strangers.0.busy.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn strangers_who_are_alone_do_not_wait() {
        let strangers = Strangers::with(1, &Supervisor::new());
        let _held = strangers.thread().unwrap();
        let standing = strangers.standing();
        standing.asked();
        assert_eq!(step(&mut standing.work(std::future::ready(1))), Poll::Ready(1));
        assert!(!standing.can_wait());
        let _friend = known(&strangers);
        assert!(step(&mut standing.work(std::future::ready(1))).is_pending());
        // The same, when that is long ago.
        let later = Strangers(Arc::new(Line {
            threads: 0,
            busy: AtomicUsize::new(0),
            waiting: Arc::default(),
            turns: YieldQueue::start(&Supervisor::new()),
            since: monotonic().checked_sub(ALONE_AFTER + Duration::from_millis(100)).unwrap(),
            last_known: AtomicU64::new(1),
        }));
        assert_eq!(step(&mut later.standing().work(std::future::ready(1))), Poll::Ready(1));
    }

    #[tokio::test]
    async fn credit_is_used_up_by_requests_that_nobody_known_is_answered() {
        let strangers = Strangers::with(1, &Supervisor::new());
        let standing = known(&strangers);
        for _ in 1..CREDIT {
            assert!(standing.is_known());
            standing.asked();
            standing.answered(&answer(false));
        }
        assert!(!standing.is_known());
        standing.asked();
        assert!(!standing.is_known());
        standing.answered(&answer(true));
        assert!(standing.is_known());
    }

    /// Counts how many are being worked for, and frees slowly.
    struct Freed(&'static AtomicUsize);

    impl Drop for Freed {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(1));
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn of_three_threads_strangers_get_two_even_to_free_what_they_leave() {
        let strangers = Strangers::new(&Supervisor::new());
        let _friend = known(&strangers);
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let freed = Freed(&NOW);
                let work = poll_fn(move |_| {
                    // The whole of it, which is freed with the work.
                    let Freed(now) = &freed;
                    MOST.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    Poll::Ready(())
                });
                tokio::spawn(strangers.standing().work(work))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(MOST.load(Ordering::SeqCst), 2);
    }
}
