//! Assertions that were used, until they end (RFC 7523 §3: `jti` once). Bounded memory; full is closed. What is used is also
//! written into the database, before its sender is answered, and read from there at the start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hallpass_verify::Seconds;
use ring::digest::{Context, SHA256};

use crate::model::UsedAssertion;

/// Assertions that are remembered at once: under 60 MiB.
pub(crate) const MAX_REMEMBERED: usize = 1_000_000;

/// Locks that share the work, so that a sweep holds up a few and not all.
const SHARDS: usize = 64;

/// Between two sweeps of one shard.
const SWEEP: Seconds = 60;

/// Counters by client. Two clients that fall on one share a quarter of the room, no more.
const COUNTERS: usize = 4096;

/// Whether an assertion may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::issue) enum Use {
    First,
    Again,
    /// There is no room to remember it, so it cannot be used.
    Full,
}

/// Remembers what was used.
pub(crate) struct Replay {
    shards: Vec<Mutex<Shard>>,
    held: AtomicUsize,
    capacity: usize,
    /// How many of the remembered are of which clients: one that floods us fills its quarter and not the whole.
    of_client: Vec<AtomicU32>,
}

#[derive(Default)]
struct Shard {
    /// Half a SHA-256 of client and `jti` → (end, counter). Whoever found two texts with one half, at the cost of 2^64,
    /// could have an assertion of theirs refused.
    used: HashMap<[u8; 16], (u32, u16)>,
    swept: Seconds,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("held", &self.held.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

impl Replay {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            held: AtomicUsize::new(0),
            capacity,
            of_client: std::iter::repeat_with(AtomicU32::default).take(COUNTERS).collect(),
        }
    }

    /// Remembers what was used before a restart.
    pub(crate) fn restore(&self, used: &[UsedAssertion]) {
        for one in used {
            let counter = counter_of(&one.agent_id);
            let (Some(of_client), Some(shard)) = (self.of_client.get(counter), self.shard(&one.digest)) else {
                continue;
            };
            let end = u32::try_from(one.expires_at.saturating_add(999) / 1000).unwrap_or(u32::MAX);
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if shard.used.insert(one.digest, (end, u16::try_from(counter).unwrap_or(0))).is_none() {
                self.held.fetch_add(1, Ordering::Relaxed);
                of_client.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn shard(&self, name: &[u8; 16]) -> Option<&Mutex<Shard>> {
        self.shards.get(last_two(name) % SHARDS)
    }

    /// Uses an assertion that ends at `end`. Ask last, once all else about it is good: what was refused is not used up.
    pub(in crate::issue) fn once(&self, client: &str, jti: &str, end: Seconds, now: Seconds) -> Use {
        let (key, counter) = (name_of(client, jti), counter_of(client));
        let (Some(of_client), Some(shard)) = (self.of_client.get(counter), self.shard(&key)) else {
            return Use::Full;
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if now - shard.swept >= SWEEP {
            self.sweep(&mut shard, now);
        }
        if let Some((end, _)) = shard.used.get(&key)
            && Seconds::from(*end) > now
        {
            return Use::Again;
        }
        let is_full = || {
            self.held.load(Ordering::Relaxed) >= self.capacity
                || of_client.load(Ordering::Relaxed) as usize >= self.capacity / 4
        };
        if is_full() {
            // The ended of this shard make room; those of the others follow when they are asked.
            self.sweep(&mut shard, now);
            if is_full() {
                return Use::Full;
            }
        }
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        if shard.used.insert(key, (end, u16::try_from(counter).unwrap_or(0))).is_none() {
            self.held.fetch_add(1, Ordering::Relaxed);
            of_client.fetch_add(1, Ordering::Relaxed);
        }
        Use::First
    }

    fn sweep(&self, shard: &mut Shard, now: Seconds) {
        shard.swept = now;
        shard.used.retain(|_, (end, counter)| {
            let stays = Seconds::from(*end) > now;
            if !stays {
                self.held.fetch_sub(1, Ordering::Relaxed);
                if let Some(of_client) = self.of_client.get(usize::from(*counter)) {
                    of_client.fetch_sub(1, Ordering::Relaxed);
                }
            }
            stays
        });
        // What a burst made it grow to is given back.
        if shard.used.capacity() > 4 * shard.used.len().max(256) {
            shard.used.shrink_to_fit();
        }
    }

    /// Sweeps all that is due; called now and then, so that a quiet broker gives its memory back.
    pub(crate) fn tick(&self, now: Seconds) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if now - shard.swept >= SWEEP {
                self.sweep(&mut shard, now);
            }
        }
    }
}

/// Half of SHA-256(length of client ‖ client ‖ jti). The length first: `a` + `bc` is another pair than `ab` + `c`.
pub(in crate::issue) fn name_of(client: &str, jti: &str) -> [u8; 16] {
    let mut context = of_client(client);
    context.update(jti.as_bytes());
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn counter_of(client: &str) -> usize {
    last_two(of_client(client).finish().as_ref()) % COUNTERS
}

fn of_client(client: &str) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(&(client.len() as u64).to_be_bytes());
    context.update(client.as_bytes());
    context
}

fn last_two(bytes: &[u8]) -> usize {
    bytes.iter().rev().take(2).fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7523_s3_a_jti_is_used_once_for_each_client_until_its_end() {
        let replay = Replay::new(100);
        assert_eq!(replay.once("a", "bc", 1100, 1000), Use::First);
        assert_eq!(replay.once("a", "bc", 1100, 1000), Use::Again);
        assert_eq!(replay.once("a", "bc", 1200, 1099), Use::Again, "another end is no other jti");
        assert_eq!(replay.once("ab", "c", 1100, 1000), Use::First, "another client's");
        assert_eq!(replay.once("a", "bc", 1300, 1100), Use::First, "it has ended");
    }

    #[test]
    fn what_was_used_before_a_restart_is_used_after_it() {
        let used = UsedAssertion { digest: name_of("a", "bc"), agent_id: "a".into(), expires_at: 1_100_000 };
        let replay = Replay::new(100);
        replay.restore(&[used]);
        assert_eq!(replay.once("a", "bc", 1100, 1000), Use::Again);
        assert_eq!(replay.once("a", "b", 1100, 1000), Use::First);
        assert_eq!(replay.once("a", "bc", 1200, 1100), Use::First, "it has ended");
        replay.tick(1200);
        assert_eq!(replay.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn full_is_closed_and_what_ended_makes_room() {
        let replay = Replay::new(40);
        let mut used = 0;
        for n in 0..40 {
            if replay.once("flooder", &n.to_string(), 1010, 1000) == Use::First {
                used += 1;
            }
        }
        assert_eq!(used, 10, "one client fills its quarter");
        for n in 0..40 {
            used += usize::from(replay.once(&format!("c{n}"), "x", 1010, 1000) == Use::First);
        }
        assert_eq!(used, 40);
        assert_eq!(replay.once("last", "x", 1010, 1000), Use::Full);
        replay.tick(1060);
        assert_eq!(replay.held.load(Ordering::Relaxed), 0);
        assert_eq!(replay.once("last", "x", 1070, 1060), Use::First);
        assert!(replay.of_client.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u32>() == 1);
    }

    /// The promise is 100 MiB for a million, growth included (a map doubles into a second table before it drops the
    /// first, one shard at a time).
    #[test]
    fn a_million_entries_stay_under_a_hundred_mebibytes() {
        let replay = Replay::new(MAX_REMEMBERED);
        for client in 0..20 {
            for n in 0..50_000 {
                assert_eq!(replay.once(&format!("ag_{client}"), &n.to_string(), 5000, 1000), Use::First);
            }
        }
        assert_eq!(replay.once("one more", "x", 5000, 1000), Use::Full);
        let bytes: usize = replay
            .shards
            .iter()
            // hashbrown: power-of-two buckets of one entry and one control byte, 7/8 of them usable.
            .map(|shard| (shard.lock().unwrap().used.capacity() * 8 / 7 + 16) * (size_of::<([u8; 16], (u32, u16))>() + 1))
            .sum();
        assert!(bytes < 100 << 20, "{bytes}");
    }
}
