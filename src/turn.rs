//! Nobody keeps a worker thread for itself.
//!
//! A task whose next piece is always there, or that wakes its other half up for every piece, goes on until the runtime
//! stops it, which counts operations and not the work in them; and while there are tasks to run, the runtime asks only
//! after every 61st of them whose bytes have come. A few endless bodies, or connections that are flooded with frames,
//! would so keep everybody else waiting for tens of milliseconds.
//!
//! Who has had a turn waits until [`Turns`] gives it another one: after all who were ready, and after I/O was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::life::Life;

/// Hands turns out: a task that stands in the runtime's queue for all whose turn is over. Each of them by itself would be
/// in that queue, too, and whoever comes in last would wait for a turn of every one.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    /// Unbounded, and yet no longer than there are bodies and connections: each is in it once at most.
    over: mpsc::UnboundedSender<Arc<Pause>>,
}

impl Turns {
    /// Starts to hand turns out on the current runtime, each time as many as that has threads, first come, first served.
    pub(crate) fn start(life: &Life) -> Self {
        let at_once = Handle::current().metrics().num_workers();
        let (over, mut waiting) = mpsc::unbounded_channel::<Arc<Pause>>();
        life.vital("turns", async move {
            let mut next = Vec::with_capacity(at_once);
            while waiting.recv_many(&mut next, at_once).await > 0 {
                // It comes back when those who were ready have run and the runtime has asked for I/O.
                tokio::task::yield_now().await;
                for pause in next.drain(..) {
                    pause.end();
                }
            }
            // Nobody is left who could ask for one.
            Ok(())
        });
        Self { over }
    }

    /// Turns of so many bytes, for one body or connection.
    pub(crate) fn of(&self, bytes: usize) -> Turn {
        Turn { turns: self.clone(), bytes, used: 0, pause: None }
    }
}

/// How much a task may move before others get their turn, and how much of that it has used.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    bytes: usize,
    used: usize,
    pause: Option<Arc<Pause>>,
}

impl Turn {
    /// Ready while the turn lasts, however often the task waited since it began. When it is over: pending until the next
    /// one begins.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.used < self.bytes {
            return Poll::Ready(());
        }
        let pause = self.pause.get_or_insert_with(|| {
            let pause = Arc::new(Pause::default());
            if self.turns.over.send(pause.clone()).is_err() {
                // The runtime is shutting down, and with it whoever might wait.
                pause.end();
            }
            pause
        });
        if !pause.has_ended(cx) {
            return Poll::Pending;
        }
        (self.used, self.pause) = (0, None);
        Poll::Ready(())
    }

    /// So many bytes were moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }
}

/// The time between two turns. It ends when it is said to, however often the task is polled before: hyper polls a body
/// again in the very poll in which that asked it to wait.
#[derive(Debug, Default)]
struct Pause {
    ended: AtomicBool,
    task: AtomicWaker,
}

impl Pause {
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.task.wake();
    }

    /// If not, the task is woken when it has.
    fn has_ended(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.ended.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// How often the task was told to wait until its next turn began.
    async fn waits(turn: &mut Turn) -> usize {
        let mut waits = 0;
        poll_fn(|cx| {
            let poll = turn.poll(cx);
            waits += usize::from(poll.is_pending());
            poll
        })
        .await;
        waits
    }

    #[tokio::test]
    async fn a_turn_ends_with_its_bytes_and_the_next_one_begins_by_itself() {
        let mut turn = Turns::start(&Life::begin()).of(1000);
        turn.moved(999);
        assert_eq!(waits(&mut turn).await, 0);
        turn.moved(1);
        assert_eq!(waits(&mut turn).await, 1);
        assert_eq!(waits(&mut turn).await, 0);
    }

    #[tokio::test]
    async fn whoever_asks_again_in_the_same_poll_waits_all_the_same() {
        let mut turn = Turns::start(&Life::begin()).of(1);
        turn.moved(1);
        poll_fn(|cx| {
            let poll = turn.poll(cx);
            assert!(poll.is_ready() || turn.poll(cx).is_pending());
            poll
        })
        .await;
    }

    #[tokio::test]
    async fn of_many_whose_turn_is_over_only_as_many_run_at_once_as_there_are_threads() {
        let turns = Turns::start(&Life::begin());
        let (begun, rounds) = (Arc::new(AtomicUsize::new(0)), 5);
        for _ in 0..rounds {
            let (mut turn, begun) = (turns.of(1), begun.clone());
            tokio::spawn(async move {
                turn.moved(1);
                poll_fn(|cx| turn.poll(cx)).await;
                begun.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut most = 0;
        while begun.load(Ordering::Relaxed) < rounds {
            let before = begun.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            most = most.max(begun.load(Ordering::Relaxed) - before);
        }
        assert_eq!(most, 1, "this runtime has one thread");
    }

    #[tokio::test]
    async fn when_nobody_can_ask_for_a_turn_any_more_nobody_hands_them_out() {
        drop(Turns::start(&Life::begin()));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}
