//! Places for connections: so many in all, and so many of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::network;
use crate::config::ConnectionLimits;

/// Places that are kept for addresses without a connection: a few that take all they can do not lock others out.
const RESERVED: usize = 16;

/// Who has connections open, and how many.
pub(super) struct Places {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    /// A place for one more connection of an address, if it may have one. A Unix socket has no address.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let address = address.map(network::of);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = address.and_then(|address| taken.by_address.get(&address)).copied().unwrap_or(0);
        let reserved = if own == 0 { 0 } else { RESERVED.min(self.limits.total / 2) };
        let room = taken.total < self.limits.total - reserved;
        if !room || (address.is_some() && own >= self.limits.per_address) {
            return None;
        }
        taken.total += 1;
        if let Some(address) = address {
            taken.by_address.insert(address, own + 1);
        }
        Some(Place { places: Arc::clone(self), address })
    }
}

/// One connection's place, free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(address) = self.address
            && let Some(own) = taken.by_address.get_mut(&address)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_takes_all_it_can_leaves_places_for_others() {
        let limits = ConnectionLimits { total: 100, per_address: 90 };
        let places = Arc::new(Places::new(limits));
        let take = |address: &str| places.take(Some(address.parse().unwrap()));
        let held: Vec<_> = std::iter::from_fn(|| take("192.0.2.1")).collect();
        assert_eq!(held.len(), 100 - RESERVED);
        let others: Vec<_> =
            (0..RESERVED).map(|n| take(&format!("198.51.100.{n}")).unwrap()).collect();
        assert!(take("203.0.113.1").is_none() && places.take(None).is_none(), "all are taken");
        drop(others);
        assert!(take("203.0.113.1").is_some());
        drop(held);
        let held: Vec<_> = std::iter::from_fn(|| take("::ffff:192.0.2.1")).collect();
        assert_eq!(held.len(), 100 - RESERVED, "dropped places are free again");
        drop(held);
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let limits = ConnectionLimits { total: 512, per_address: 64 };
        let places = Arc::new(Places::new(limits));
        let take = |address: String| places.take(Some(address.parse().unwrap()));
        let held: Vec<_> = (0..200).filter_map(|n| take(format!("2001:db8::{n:x}"))).collect();
        assert_eq!(held.len(), 64, "a /64 is one address");
        assert!(take("2001:db8:0:1::1".to_owned()).is_some());
    }
}
