//! How many requests to one port of the workload each caller has under way: one caller alone never gets
//! all places, and those that nobody authenticated count as one. How many places there are is in
//! endpoint.rs; how often a caller may come is in rate_limit.rs.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use heddle_model::identity::SpiffeId;
use parking_lot::Mutex;

/// What the callers of a workload have under way. There is something kept only for those that have a
/// connection, whose number is limited.
#[derive(Default)]
pub struct Callers {
    taken: Mutex<HashMap<Key, Weak<AtomicUsize>>>,
}

/// The port that is called, and by whom, if that is known.
type Key = (SocketAddr, Option<SpiffeId>);

/// The places of one caller, shared by all its connections to the port.
#[derive(Clone, Debug)]
pub struct CallerPlaces {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// One of them, until it and its clones are dropped.
#[derive(Clone, Debug)]
pub struct CallerPlace(#[expect(dead_code, reason = "its end is what counts")] Arc<Taken>);

#[derive(Debug)]
struct Taken(Arc<AtomicUsize>);

impl Callers {
    /// The places of `caller` at `port`, which has `places` for all callers.
    pub fn places_of(
        &self,
        port: SocketAddr,
        caller: Option<&SpiffeId>,
        places: usize,
    ) -> CallerPlaces {
        let key = (port, caller.cloned());
        let mut all = self.taken.lock();
        let known = all.get(&key).and_then(Weak::upgrade);
        let taken = known.unwrap_or_else(|| {
            all.retain(|_key, taken| taken.strong_count() > 0);
            let taken = Arc::default();
            all.insert(key, Arc::downgrade(&taken));
            taken
        });
        CallerPlaces { taken, limit: share(places) }
    }
}

/// A gateway is often the only caller, and has to be good for much; whoever else calls finds as many
/// places left.
fn share(places: usize) -> usize {
    (places / 2).max(1)
}

impl CallerPlaces {
    /// A place; `None` if the caller has all of its own.
    pub fn take(&self) -> Option<CallerPlace> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = CallerPlace(Arc::new(Taken(Arc::clone(&self.taken))));
        (before < self.limit).then_some(place)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::identity;

    fn port(number: u16) -> SocketAddr {
        ([10, 0, 0, 1], number).into()
    }

    #[test]
    fn a_caller_gets_half_of_the_places_over_all_of_its_connections() {
        let callers = Callers::default();
        let (web, batch) = (identity("web"), identity("batch"));
        let anybody = callers.places_of(port(80), None, 9);
        let held: Vec<_> = (0..4).map(|_number| anybody.take().unwrap()).collect();
        for (case, number, caller, expected) in [
            ("anybody else whom nobody knows", 80, None, false),
            ("who is known", 80, Some(&web), true),
            ("another who is known", 80, Some(&batch), true),
            ("another port", 81, None, true),
        ] {
            let places = callers.places_of(port(number), caller, 9);
            assert_eq!(places.take().is_some(), expected, "case: {case}");
        }
        drop(held);
        assert!(anybody.take().is_some(), "places come back");
        assert!(callers.places_of(port(80), Some(&web), 1).take().is_some(), "of the only place");
    }

    #[test]
    fn callers_that_have_gone_are_forgotten_and_their_requests_are_not() {
        let callers = Callers::default();
        let place = callers.places_of(port(80), None, 2).take().unwrap();
        for number in 1000..2000 {
            drop(callers.places_of(port(number), None, 2));
        }
        assert!(callers.taken.lock().len() <= 2);
        assert!(callers.places_of(port(80), None, 2).take().is_none(), "its request goes on");
        drop(place);
        assert!(callers.places_of(port(80), None, 2).take().is_some());
    }
}
