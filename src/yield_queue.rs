//! Fair shares of the worker threads, by bytes.
//!
//! A task whose next piece of data is always there runs until the runtime stops it. The runtime counts operations, not the
//! work in them; and while tasks are ready, it polls for I/O only after every 61st of them. So a few endless bodies, or
//! connections that are flooded with frames, would keep everybody else waiting for tens of milliseconds.
//!
//! A task with a [`ByteBudget`] stops when it has spent that. The [`YieldQueue`] renews the budget after all tasks that were
//! ready have run and the runtime has polled for I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::supervise::Supervisor;

/// The queue of those who have spent their budget. One task stands in the runtime's queue for all of them. If each stood
/// there by itself, a newcomer would wait for every one of them.
#[derive(Debug, Clone)]
pub struct YieldQueue {
    /// It has no bound of its own, and is no longer than there are bodies and connections: each is in it once at most.
    waiting: mpsc::UnboundedSender<Arc<Pause>>,
}

impl YieldQueue {
    /// Starts the queue on the current runtime. It renews as many budgets at a time as the runtime has threads, first come,
    /// first served.
    pub fn start(supervisor: &Supervisor) -> Self {
        let at_once = Handle::current().metrics().num_workers();
        let (sender, mut waiting) = mpsc::unbounded_channel::<Arc<Pause>>();
        supervisor.spawn("yield queue", async move {
            let mut next = Vec::with_capacity(at_once);
            while waiting.recv_many(&mut next, at_once).await > 0 {
                // This returns when those who were ready have run and the runtime has polled for I/O.
                tokio::task::yield_now().await;
                for pause in next.drain(..) {
                    pause.end();
                }
            }
            // Nobody is left who could wait.
            Ok(())
        });
        Self { waiting: sender }
    }

    /// A budget of so many bytes, for one body or connection.
    pub fn budget(&self, bytes: usize) -> ByteBudget {
        ByteBudget { queue: self.clone(), bytes, spent: 0, pause: None }
    }
}

/// How many bytes a task may move before others run, and how many it has moved.
#[derive(Debug)]
pub struct ByteBudget {
    queue: YieldQueue,
    bytes: usize,
    spent: usize,
    pause: Option<Arc<Pause>>,
}

impl ByteBudget {
    /// Ready while some of the budget is left. When it is spent: pending until the queue renews it.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.spent < self.bytes {
            return Poll::Ready(());
        }
        let pause = self.pause.get_or_insert_with(|| {
            let pause = Arc::new(Pause::default());
            if self.queue.waiting.send(pause.clone()).is_err() {
                // The runtime shuts down, and with it everybody who could wait.
                pause.end();
            }
            pause
        });
        if !pause.has_ended(cx) {
            return Poll::Pending;
        }
        (self.spent, self.pause) = (0, None);
        Poll::Ready(())
    }

    /// So many bytes were moved.
    pub fn spend(&mut self, bytes: usize) {
        self.spent = self.spent.saturating_add(bytes);
    }
}

/// The time until a budget is renewed. It ends when the queue says so, however often the task is polled before: hyper polls a
/// body again in the very poll in which the body asked it to wait.
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

    /// How often the task was told to wait until its budget was renewed.
    async fn waits(budget: &mut ByteBudget) -> usize {
        let mut waits = 0;
        poll_fn(|cx| {
            let poll = budget.poll_ready(cx);
            waits += usize::from(poll.is_pending());
            poll
        })
        .await;
        waits
    }

    #[tokio::test]
    async fn a_budget_ends_with_its_bytes_and_is_renewed_by_itself() {
        let mut budget = YieldQueue::start(&Supervisor::new()).budget(1000);
        budget.spend(999);
        assert_eq!(waits(&mut budget).await, 0);
        budget.spend(1);
        assert_eq!(waits(&mut budget).await, 1);
        assert_eq!(waits(&mut budget).await, 0);
    }

    #[tokio::test]
    async fn whoever_asks_again_in_the_same_poll_waits_all_the_same() {
        let mut budget = YieldQueue::start(&Supervisor::new()).budget(1);
        budget.spend(1);
        poll_fn(|cx| {
            let poll = budget.poll_ready(cx);
            assert!(poll.is_ready() || budget.poll_ready(cx).is_pending());
            poll
        })
        .await;
    }

    #[tokio::test]
    async fn of_many_who_have_spent_theirs_only_as_many_run_at_once_as_there_are_threads() {
        let queue = YieldQueue::start(&Supervisor::new());
        let (begun, rounds) = (Arc::new(AtomicUsize::new(0)), 5);
        for _ in 0..rounds {
            let (mut budget, begun) = (queue.budget(1), begun.clone());
            tokio::spawn(async move {
                budget.spend(1);
                poll_fn(|cx| budget.poll_ready(cx)).await;
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
    async fn the_queue_ends_with_the_last_who_could_wait() {
        drop(YieldQueue::start(&Supervisor::new()));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}
