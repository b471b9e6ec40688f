//! Which proofs were used: each is good for one request (RFC 9449 §11.1). In memory, bounded, in shards.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Seconds;

const SHARDS: usize = 64;

/// What ends within the same few seconds is forgotten together.
const SLICE: Seconds = 8;

/// The first 128 bits of a digest: that two differing proofs share them does not happen by chance, and whoever makes it
/// happen has only a proof of their own refused.
type Name = [u8; 16];

/// By slice of the time at which they end.
type Shard = BTreeMap<Seconds, HashSet<Name>>;

/// The proofs that were used and could be used again. Full, it takes no more: forgetting one that still counts would
/// let it be replayed.
pub(crate) struct ReplayCache {
    shards: Vec<Mutex<Shard>>,
    /// Keyed, so that nobody can aim at one shard.
    keyed: RandomState,
    held: AtomicUsize,
    most: usize,
}

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Used for the first time.
    Now,
    /// It was used before.
    Before,
    /// There is no room to remember it.
    NoRoom,
}

impl ReplayCache {
    pub(crate) fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, keyed: RandomState::new(), held: AtomicUsize::new(0), most }
    }

    /// Uses it up. It is remembered until `end` has passed, and what has ended is forgotten.
    pub(crate) fn spend(&self, name: &Name, end: Seconds, now: Seconds) -> Spent {
        if self.held.load(Ordering::Relaxed) >= self.most {
            for shard in &self.shards {
                self.forget(&mut lock(shard), now);
            }
        }
        let at = usize::try_from(self.keyed.hash_one(name) % SHARDS as u64).unwrap_or(0);
        // There is always one: `at` is below the number of shards.
        let Some(shard) = self.shards.get(at) else { return Spent::NoRoom };
        let mut shard = lock(shard);
        self.forget(&mut shard, now);
        // In every slice: the same `jti` with another `iat` is no new proof.
        if shard.values().any(|slice| slice.contains(name)) {
            return Spent::Before;
        }
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return Spent::NoRoom;
        }
        shard.entry(end.div_euclid(SLICE)).or_default().insert(*name);
        Spent::Now
    }

    fn forget(&self, shard: &mut Shard, now: Seconds) {
        while let Some(first) = shard.first_entry()
            && *first.key() < now.div_euclid(SLICE)
        {
            self.held.fetch_sub(first.remove().len(), Ordering::Relaxed);
        }
    }

    /// How many are remembered.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for ReplayCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplayCache({} of {})", self.held(), self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u128) -> Name {
        number.to_be_bytes()
    }

    #[test]
    fn rfc9449_s11_1_a_proof_is_spent_once() {
        let cache = ReplayCache::new(10);
        assert_eq!(cache.spend(&name(1), 1060, 1000), Spent::Now);
        assert_eq!(cache.spend(&name(1), 1060, 1000), Spent::Before);
        assert_eq!(cache.spend(&name(1), 1099, 1060), Spent::Before, "under another end, too");
        assert_eq!(cache.spend(&name(2), 1060, 1000), Spent::Now);
    }

    #[test]
    fn what_has_ended_makes_room_and_what_has_not_is_never_pushed_out() {
        let cache = ReplayCache::new(1000);
        for number in 0..1000 {
            assert_eq!(cache.spend(&name(number), 1060, 1000), Spent::Now);
        }
        assert_eq!(cache.spend(&name(1000), 1060, 1060), Spent::NoRoom);
        assert_eq!(cache.spend(&name(7), 1060, 1060), Spent::Before);
        assert_eq!(cache.spend(&name(1000), 1160, 1060 + SLICE), Spent::Now);
        assert_eq!(cache.held(), 1);
    }

    #[test]
    fn of_many_who_spend_the_same_proof_one_succeeds() {
        let cache = ReplayCache::new(1000);
        let first = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..500 {
                        if cache.spend(&name(number), 1060, 1000) == Spent::Now {
                            first.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!((first.into_inner(), cache.held()), (500, 500));
    }

    /// By what the kernel says that a process has in memory, right after the tables have grown for the last time. In a
    /// process of its own: what tests beside it take is not counted.
    #[test]
    #[allow(clippy::print_stdout, reason = "the measured number, for `--nocapture`")]
    fn a_million_proofs_take_less_than_100_mib() {
        const ALONE: &str = "REPLAY_CACHE_MEASURED_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let ended = alone.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").status().unwrap();
            assert!(ended.success());
            return;
        }
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
        };
        let (before, cache) = (resident(), ReplayCache::new(1_000_000));
        let now = 1_800_000_000;
        for number in 0..1_000_000_u128 {
            // 65 s of calls at an even pace: proofs end at different times.
            let at = now + Seconds::try_from(number / 15_385).unwrap();
            assert_eq!(
                cache.spend(&name(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)), at + 65, at),
                Spent::Now
            );
        }
        assert_eq!(cache.held(), 1_000_000);
        let grown = resident().saturating_sub(before);
        println!("1,000,000 proofs: {grown} MiB");
        assert!(grown < 100, "{grown} MiB");
    }
}
