//! A clock that a test can turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hallpass::world::{Clock, Millis, SystemClock, SystemEntropy, World};

/// The system's time plus what the test added.
pub(crate) struct TestClock {
    real: SystemClock,
    added: AtomicI64,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { real: SystemClock::new(), added: AtomicI64::new(0) })
    }

    /// Turns the clock forward (or back).
    pub(crate) fn add_seconds(&self, seconds: i64) {
        self.added.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn world(self: &Arc<Self>) -> World {
        World { clock: self.clone(), entropy: Arc::new(SystemEntropy) }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.real.now() + self.added.load(Ordering::SeqCst)
    }
}
