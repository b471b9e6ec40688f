//! Guessing client secrets: slowed, then locked (RFC 6749 §2.3.1: protection against brute force is a MUST).
//!
//! Failures count for the client at that address, and for the address.
//!
//! - A client that failed too often at an address waits there: no secret of it is looked at, right or wrong.
//! - An address with too many failures waits as well, but a right secret still passes: behind a proxy there is one address
//!   for everybody, and whoever guesses there must not lock the others out. What an address gains by that is bounded by
//!   the first rule: a few guesses for each client that there is.
//!
//! Whoever proves itself by a key is never asked here.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};

use crate::world::Millis;

/// Wrong secrets of one client at one address that cost nothing but themselves: a person who mistypes.
const FREE_OF_CLIENT: u32 = 5;

/// Of one address, behind which there may be a whole office or cluster.
const FREE_OF_ADDRESS: u32 = 50;

/// The lock. Each failure doubles the wait, from a second up to this.
const LOCK: Millis = 15 * 60_000;

/// What was counted is forgotten after so long without a failure.
const FORGET: Millis = 60 * 60_000;

/// Clients at addresses, and addresses, that are counted at once; those asked for least make room. Under 20 MiB in all.
const MAX_COUNTED: usize = 65_536;

/// Counts failures. Client ids that exist and those that do not are counted alike, so that a wait tells nothing, but in
/// two places, so that made-up ids cannot push real ones out.
#[derive(Debug)]
pub(crate) struct Guesses {
    known: Cache<[u8; 32], Arc<Count>>,
    unknown: Cache<[u8; 32], Arc<Count>>,
    addresses: Cache<Option<IpAddr>, Arc<Count>>,
}

#[derive(Debug, Default)]
struct Count {
    failures: AtomicU32,
    last: AtomicI64,
}

impl Count {
    /// How long somebody must wait now.
    fn wait(&self, free: u32, now: Millis) -> Millis {
        let failures = self.failures.load(Ordering::Relaxed);
        let Some(doublings) = failures.checked_sub(free.saturating_add(1)) else { return 0 };
        let pause = 1000_i64.checked_shl(doublings.min(20)).unwrap_or(LOCK).min(LOCK);
        self.last.load(Ordering::Relaxed).saturating_add(pause).saturating_sub(now).max(0)
    }

    fn fail(&self, now: Millis) {
        if now - self.last.swap(now, Ordering::Relaxed) > FORGET {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Guesses {
    pub(crate) fn new() -> Self {
        let (known, unknown) = (Cache::new(MAX_COUNTED), Cache::new(MAX_COUNTED));
        Self { known, unknown, addresses: Cache::new(MAX_COUNTED) }
    }

    /// Milliseconds for which no secret of this client is looked at from this address, right or wrong; 0: now is fine.
    pub(super) fn wait_of_client(&self, client: &str, is_known: bool, address: Option<IpAddr>, now: Millis) -> Millis {
        self.clients(is_known).get(&key(client, address)).map_or(0, |count| count.wait(FREE_OF_CLIENT, now))
    }

    /// Milliseconds for which whoever has a wrong secret at this address is told to wait, whichever client it names: one
    /// that exists and one that does not are told the same.
    pub(super) fn wait_of_address(&self, address: Option<IpAddr>, now: Millis) -> Millis {
        self.addresses.get(&network(address)).map_or(0, |count| count.wait(FREE_OF_ADDRESS, now))
    }

    /// Notes a wrong secret.
    pub(super) fn failed(&self, client: &str, is_known: bool, address: Option<IpAddr>, now: Millis) {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(of_client) = self.clients(is_known).get_or_insert_with(&key(client, address), fresh);
        let Ok(of_address) = self.addresses.get_or_insert_with(&network(address), fresh);
        of_client.fail(now);
        of_address.fail(now);
    }

    /// Notes a right one. Only the client's own count is cleared: a guesser with a client of his own must not clear his
    /// address by it.
    pub(super) fn succeeded(&self, client: &str, address: Option<IpAddr>) {
        self.known.remove(&key(client, address));
    }

    fn clients(&self, is_known: bool) -> &Cache<[u8; 32], Arc<Count>> {
        if is_known { &self.known } else { &self.unknown }
    }
}

fn key(client: &str, address: Option<IpAddr>) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, format!("{:?} {client}", network(address)).as_bytes()).as_ref());
    key
}

/// Whoever has one IPv6 address has its /64 (RFC 4291 §2.5.4).
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(ip)) => Some(IpAddr::V6((ip.to_bits() >> 64 << 64).into())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const ELSEWHERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn guessing_is_slowed_then_locked_for_that_client_at_that_address() {
        let (guesses, mut now) = (Guesses::new(), 1_000_000);
        for _ in 0..5 {
            guesses.failed("a", true, AT, now);
            assert_eq!(guesses.wait_of_client("a", true, AT, now), 0);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            guesses.failed("a", true, AT, now);
            let wait = guesses.wait_of_client("a", true, AT, now);
            assert_eq!(guesses.wait_of_client("a", true, AT, now + wait), 0);
            waits.push(wait / 1000);
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        guesses.failed("a", true, AT, now);
        assert_eq!(guesses.wait_of_client("a", true, ELSEWHERE, now), 0, "another address");
        assert_eq!(guesses.wait_of_client("b", true, AT, now), 0, "another client");
        guesses.succeeded("a", AT);
        assert_eq!(guesses.wait_of_client("a", true, AT, now), 0);
    }

    #[test]
    fn one_address_with_many_clients_is_slowed_too_and_forgotten_after_an_hour() {
        let guesses = Guesses::new();
        for n in 0..60 {
            guesses.failed(&format!("c{n}"), n % 2 == 0, AT, 1000);
        }
        guesses.succeeded("mine", AT);
        assert!(guesses.wait_of_address(AT, 1000) > 0);
        assert_eq!(guesses.wait_of_address(ELSEWHERE, 1000), 0);
        assert_eq!(guesses.wait_of_client("new", true, AT, 1000), 0, "nobody else at that address is locked out");
        guesses.failed("c", true, AT, 1000 + FORGET + 1);
        assert_eq!(guesses.wait_of_address(AT, 1000 + FORGET + 1), 0);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let at = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), AT);
    }
}
