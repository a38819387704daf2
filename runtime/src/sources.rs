//! What callers may hold by where they call from: a few places for each address, so that one alone cannot
//! take them all. How many there are in all is the server's own affair.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections by address. Clones share the counts. `T` is what all connections of one address
/// share for as long as there is one.
pub struct Sources<T = ()> {
    limit: usize,
    held: Arc<Mutex<HashMap<IpAddr, Held<T>>>>,
}

struct Held<T> {
    count: usize,
    shared: Arc<T>,
}

/// A place of one address, until it is dropped.
pub struct Place<T = ()> {
    sources: Sources<T>,
    address: IpAddr,
    shared: Arc<T>,
}

impl<T: Default> Sources<T> {
    /// At most `limit` places for each address.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// A place for one more, unless the address has too many. An IPv4 address within an IPv6 one, as a
    /// listener for both families has it, is the same address.
    pub fn enter(&self, address: IpAddr) -> Option<Place<T>> {
        let address = address.to_canonical();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let present = held.get(&address).map_or(0, |held| held.count);
        if present >= self.limit {
            return None;
        }
        let held = held.entry(address).or_insert_with(|| Held { count: 0, shared: Arc::default() });
        held.count += 1;
        let shared = Arc::clone(&held.shared);
        Some(Place { sources: self.clone(), address, shared })
    }
}

impl<T> Place<T> {
    /// What the address's connections share.
    pub fn shared(&self) -> &Arc<T> {
        &self.shared
    }
}

impl<T> Clone for Sources<T> {
    fn clone(&self) -> Self {
        Self { limit: self.limit, held: Arc::clone(&self.held) }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let mut held = self.sources.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = held.get_mut(&self.address) {
            present.count -= 1;
            if present.count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

impl<T> fmt::Debug for Sources<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 3;

    #[test]
    fn one_address_has_few_places_and_leaves_the_others_theirs() {
        let sources = Sources::<()>::new(LIMIT);
        let [first, second] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut places: Vec<Place> = (0..LIMIT).map(|_| sources.enter(first).unwrap()).collect();
        assert!(sources.enter(first).is_none());
        assert!(sources.enter("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same address");
        assert!(sources.enter(second).is_some());
        places.pop();
        assert!(sources.enter(first).is_some());
        drop(places);
        assert!(sources.held.lock().unwrap().is_empty());
    }

    #[test]
    fn connections_of_one_address_share_something_and_others_do_not() {
        let sources = Sources::<Mutex<u8>>::new(LIMIT);
        let place = |text: &str| sources.enter(text.parse().unwrap()).unwrap();
        let (one, same, other) = (place("10.0.0.1"), place("10.0.0.1"), place("10.0.0.2"));
        assert!(Arc::ptr_eq(one.shared(), same.shared()));
        assert!(!Arc::ptr_eq(one.shared(), other.shared()));
    }
}
