//! A limit on connections: so many at once, and so many of them from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The limit of one listener.
#[derive(Debug)]
pub struct ConnectionLimit {
    all: usize,
    /// From one address: whoever opens as many as they can leaves the rest to others.
    per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// One connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    limit: Arc<ConnectionLimit>,
    by: IpAddr,
}

impl ConnectionLimit {
    /// So many at once, and so many of them from one address.
    pub fn new(all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { all, per_address, open: Mutex::default() })
    }

    /// Admits a connection from this address, if there is room for it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let by = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.all || open.by.get(&by).is_some_and(|count| *count >= self.per_address) {
            return None;
        }
        open.all += 1;
        *open.by.entry(by).or_default() += 1;
        Some(Admitted { limit: self.clone(), by })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by.get_mut(&self.by) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by.remove(&self.by);
            }
        }
    }
}

/// What counts as one address. With IPv6, everybody has the whole of a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_to_others() {
        let limit = ConnectionLimit::new(5, 2);
        let admit = |text: &str| limit.admit(text.parse().unwrap());
        let first = admit("192.0.2.1");
        let second = admit("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(admit("192.0.2.1").is_none(), "that is the same address in another writing");
        let others = ["2001:db8::1", "2001:db8::ffff:0:0:1", "192.0.2.2"].map(admit);
        assert!(others.iter().all(Option::is_some));
        assert!(admit("192.0.2.3").is_none(), "all are taken");
        drop(others);
        assert!(admit("2001:db8::2").is_some());
        drop(first);
        assert!(admit("192.0.2.1").is_some());
        drop(second);
        assert_eq!(limit.open.lock().unwrap().all, 0);
        assert!(limit.open.lock().unwrap().by.is_empty());
    }
}
