//! No body keeps a worker thread for itself.
//!
//! Between two fast ends a body is always ready, and its task goes on until the runtime stops it, which counts operations
//! and not the work in them. To search and digest a megabyte takes milliseconds: a few endless bodies would make everybody
//! wait whose call is next on their threads.

use std::task::{Context, Poll};

/// Bytes that a body may move before others get their turn: a few tenths of a millisecond of searching and digesting.
pub(super) const TURN: usize = 64 * 1024;

/// How much of its turn a body has used.
#[derive(Debug, Default)]
pub(super) struct Turn {
    used: usize,
}

impl Turn {
    /// Ready while the turn lasts. When it is over: pending once, with a wake-up that comes after all who wait already.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.used < TURN {
            return Poll::Ready(());
        }
        self.used = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// So many bytes were moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Others had their turn, as there was nothing to move.
    pub(super) fn waited(&mut self) {
        self.used = 0;
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
        let mut turn = Turn::default();
        turn.moved(TURN - 1);
        assert!(turn.poll(&mut cx).is_ready());
        turn.moved(1);
        assert!(turn.poll(&mut cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "nobody else would wake it");
        assert!(turn.poll(&mut cx).is_ready());
        turn.moved(usize::MAX);
        turn.waited();
        assert!(turn.poll(&mut cx).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
