//! The outside world: time and randomness. The only place that reads the wall clock or the system's random source.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

/// Unix time in milliseconds.
pub type Millis = i64;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Now, in unix milliseconds. Never less than an earlier answer.
    fn now(&self) -> Millis;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// Time and randomness, handed to whoever needs them.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl World {
    /// The real world.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy) }
    }

    /// Now, in unix milliseconds.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// The system's clock, which never runs backwards.
///
/// A wall clock that steps back would bring expired tokens back to life and outlive revocations that have left the
/// list. So while the wall clock is behind what was already said, time goes on from there at the pace of the
/// monotonic clock, until the wall clock has caught up.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    /// Unix milliseconds that correspond to `start`; only ever raised.
    origin: AtomicI64,
    /// How far the wall clock is behind what `now` says, in milliseconds; 0 when they agree.
    behind: AtomicI64,
}

impl SystemClock {
    /// Starts at the wall clock's time.
    pub fn new() -> Self {
        Self { start: monotonic(), origin: AtomicI64::new(wall()), behind: AtomicI64::new(0) }
    }

    /// Never say less than `floor` from now on: the time of the last audit record, which an earlier process wrote.
    pub fn not_before(&self, floor: Millis) {
        self.origin.fetch_max(floor.saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    /// How far the wall clock is behind, in milliseconds.
    pub fn behind(&self) -> Millis {
        self.behind.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Millis {
        Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn at(&self, wall: Millis) -> Millis {
        let elapsed = self.elapsed();
        let before = self.origin.fetch_max(wall.saturating_sub(elapsed), Ordering::Relaxed);
        let origin = before.max(wall.saturating_sub(elapsed));
        let now = origin.saturating_add(elapsed);
        self.behind.store(now.saturating_sub(wall), Ordering::Relaxed);
        now
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        self.at(wall())
    }
}

#[allow(clippy::disallowed_methods)] // here, and only here
fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A monotonic instant, to measure how long something took.
#[allow(clippy::disallowed_methods)] // here, and only here
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods)] // here, and only here
    fn fill(&self, out: &mut [u8]) {
        // A broker without randomness must not go on: a predictable token id or data key is worse than no answer.
        if SystemRandom::new().fill(out).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_steps_back_does_not_take_time_back() {
        let clock = SystemClock::new();
        let before = clock.at(2_000_000_000_000);
        assert!(before >= 2_000_000_000_000);
        let after = clock.at(1_999_999_000_000);
        assert!(after >= before, "{after} < {before}");
        assert!(clock.behind() >= 1_000_000);
        let caught_up = clock.at(2_000_000_500_000);
        assert!(caught_up >= 2_000_000_500_000);
        assert_eq!(clock.behind(), 0);
    }

    #[test]
    fn a_floor_from_an_earlier_process_holds() {
        let clock = SystemClock::new();
        let floor = wall() + 60_000;
        clock.not_before(floor);
        assert!(clock.now() >= floor);
    }
}
