//! Places for connections: so many at once, and so many of them from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    /// From one address: a stranger who opens what they can leaves the rest to others.
    of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    by: IpAddr,
}

impl Places {
    pub(super) fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { all, of_one, taken: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let by = who(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.all || taken.by.get(&by).is_some_and(|count| *count >= self.of_one) {
            return None;
        }
        taken.all += 1;
        *taken.by.entry(by).or_default() += 1;
        Some(Place { places: self.clone(), by })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by.get_mut(&self.by) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by.remove(&self.by);
            }
        }
    }
}

/// Who has an address: with IPv6, everybody has the whole of a /64.
fn who(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_to_others() {
        let places = Places::new(5, 2);
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("192.0.2.1");
        let second = take("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none(), "that is the same address in another writing");
        let others = ["2001:db8::1", "2001:db8::ffff:0:0:1", "192.0.2.2"].map(take);
        assert!(others.iter().all(Option::is_some));
        assert!(take("192.0.2.3").is_none(), "all are taken");
        drop(others);
        assert!(take("2001:db8::2").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop(second);
        assert_eq!(places.taken.lock().unwrap().all, 0);
        assert!(places.taken.lock().unwrap().by.is_empty());
    }
}
