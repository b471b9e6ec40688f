//! Nobody keeps a worker thread for itself.
//!
//! A task whose next piece is always there, or that wakes its other half up for every piece, goes on until the runtime
//! stops it, which counts operations and not the work in them; and while there are tasks to run, the runtime asks only
//! after every 61st of them whose bytes have come. A few endless bodies, or connections that are flooded with frames,
//! would so keep everybody else waiting for tens of milliseconds.

use std::pin::pin;
use std::task::{Context, Poll};

/// How much a task may move before others get their turn, and how much of that it has used.
#[derive(Debug)]
pub(crate) struct Turn {
    bytes: usize,
    used: usize,
}

impl Turn {
    /// Turns of so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self { bytes, used: 0 }
    }

    /// Ready while the turn lasts, however often the task waited since it began. When it is over: pending once.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.used < self.bytes {
            return Poll::Ready(());
        }
        self.used = 0;
        // More than a wake-up: it comes when those who were ready have run and the runtime has asked for I/O.
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// So many bytes were moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_ends_with_its_bytes_and_the_next_one_begins_by_itself() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut turn = Turn::of(1000);
        turn.moved(999);
        assert!(turn.poll(&mut cx).is_ready());
        turn.moved(1);
        assert!(turn.poll(&mut cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "nobody else would wake it");
        assert!(turn.poll(&mut cx).is_ready());
    }
}
