use std::future::poll_fn;

use super::*;

fn answer(authenticated: bool) -> Extensions {
    let mut extensions = Extensions::new();
    if authenticated {
        extensions.insert(Authenticated);
    }
    extensions
}

/// A limiter of so many threads.
fn limiter(threads: usize) -> UntrustedLimiter {
    UntrustedLimiter(Some(Arc::new(Limit::new(threads, &Supervisor::new()))))
}

fn busy(limiter: &UntrustedLimiter) -> usize {
    limiter.0.as_ref().unwrap().busy.load(Ordering::SeqCst)
}

/// A connection over which somebody authenticated was just answered.
fn trusted(limiter: &UntrustedLimiter) -> Trust {
    let trust = limiter.connection();
    trust.asked();
    trust.answered(&answer(true));
    trust.asked();
    assert!(trust.is_trusted());
    trust
}

/// Polls once.
fn step<F: Future + Unpin>(work: &mut F) -> Poll<F::Output> {
    Pin::new(work).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn the_untrusted_wait_for_each_other_and_nobody_trusted_waits_for_them() {
    let limiter = limiter(1);
    let friend = trusted(&limiter);
    let held = limiter.thread().unwrap();
    let (first, second) = (limiter.connection(), limiter.connection());
    let (mut first, mut second) = (first.limit(std::future::ready(1)), second.limit(std::future::ready(2)));
    assert!(step(&mut first).is_pending() && step(&mut second).is_pending(), "the only thread is taken");
    assert!(limiter.connection().gives_way() && !friend.gives_way());
    assert_eq!(step(&mut friend.limit(std::future::ready(3))), Poll::Ready(3));
    drop(held);
    assert_eq!(step(&mut second), Poll::Ready(2));
    assert_eq!(step(&mut first), Poll::Ready(1));
    assert_eq!(busy(&limiter), 0);
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
async fn who_leaves_the_line_or_is_trusted_meanwhile_holds_up_nobody() {
    let limiter = limiter(1);
    let _friend = trusted(&limiter);
    let held = limiter.thread().unwrap();
    let trust = limiter.connection();
    let mut work = trust.limit(std::future::pending::<()>());
    let mut other = limiter.connection().limit(std::future::pending::<()>());
    let mut last = limiter.connection().limit(std::future::pending::<()>());
    assert!(step(&mut work).is_pending() && step(&mut other).is_pending());
    let woken = Arc::new(Woken::default());
    assert!(Pin::new(&mut last).poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
    assert!(work.place.is_some() && other.place.is_some() && last.place.is_some());
    // The first two are called, and neither comes.
    drop(held);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    trust.answered(&answer(true));
    assert!(step(&mut work).is_pending() && work.place.is_none());
    drop(other);
    assert!(woken.0.load(Ordering::SeqCst) > 0, "the last one is called instead");
    assert_eq!(busy(&limiter), 0);
}

#[tokio::test]
async fn the_untrusted_who_are_alone_do_not_wait() {
    let limiter = limiter(1);
    let _held = limiter.thread().unwrap();
    let trust = limiter.connection();
    trust.asked();
    assert_eq!(step(&mut trust.limit(std::future::ready(1))), Poll::Ready(1));
    assert!(!trust.gives_way());
    let _friend = trusted(&limiter);
    assert!(step(&mut trust.limit(std::future::ready(1))).is_pending());
    // The same, when that is long ago.
    let mut limit = Limit::new(0, &Supervisor::new());
    limit.since = monotonic().checked_sub(RESTS_AFTER + Duration::from_millis(100)).unwrap();
    limit.last_trusted = AtomicU64::new(1);
    let later = UntrustedLimiter(Some(Arc::new(limit)));
    assert_eq!(step(&mut later.connection().limit(std::future::ready(1))), Poll::Ready(1));
}

#[tokio::test]
async fn without_a_limit_everybody_is_trusted() {
    let limiter = UntrustedLimiter::new(false, &Supervisor::new());
    let trust = limiter.connection();
    trust.asked();
    assert!(trust.is_trusted() && !trust.gives_way() && trust.untrusted_queue().is_none());
    assert_eq!(step(&mut trust.limit(std::future::ready(1))), Poll::Ready(1));
}

#[tokio::test]
async fn credit_is_used_up_by_requests_that_nobody_authenticated_is_answered() {
    let limiter = limiter(1);
    let trust = trusted(&limiter);
    for _ in 1..CREDIT {
        assert!(trust.is_trusted());
        trust.asked();
        trust.answered(&answer(false));
    }
    assert!(!trust.is_trusted());
    trust.asked();
    assert!(!trust.is_trusted());
    trust.answered(&answer(true));
    assert!(trust.is_trusted());
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
async fn of_three_threads_the_untrusted_get_two_even_to_free_what_they_leave() {
    let limiter = UntrustedLimiter::new(true, &Supervisor::new());
    let _friend = trusted(&limiter);
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
            tokio::spawn(limiter.connection().limit(work))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
}
