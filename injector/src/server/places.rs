//! What those may hold who call the webhook: connections, long bodies, and reviews at once. Each address has
//! its share of the first two, since whoever reaches the port may call, and the API server must get through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::sources::{Place, Sources};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::structure::STRUCTURE_LIMIT;

/// All places. Clones share them.
#[derive(Clone)]
pub(crate) struct Places {
    sources: Sources<Share>,
    connections: Arc<Semaphore>,
    long: Arc<Semaphore>,
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
}

/// What one address has, beside its connections.
struct Share {
    long: Arc<Semaphore>,
}

impl Default for Share {
    fn default() -> Self {
        Self { long: Arc::new(Semaphore::new(LONG_SOURCE_LIMIT)) }
    }
}

/// A connection's place, until it is dropped.
pub(crate) struct Caller {
    place: Place<Share>,
    _slot: OwnedSemaphorePermit,
}

/// Why a connection has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    /// All are taken.
    #[error("too many connections")]
    Full,
    /// The address has its share.
    #[error("too many connections from one address")]
    Source,
}

/// A place for what takes much memory: a long body, or a heavy review.
pub(crate) struct LongPlace {
    _of_source: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// How much a review will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// As almost all do: with this much structure.
    Light(u32),
    /// One at a time.
    Heavy,
}

impl Weight {
    /// By structure, as [`crate::structure::Measured`] has it.
    pub(crate) fn of(structure: usize) -> Self {
        match u32::try_from(structure) {
            Ok(structure) if structure <= LIGHT_LIMIT => Self::Light(structure.max(LIGHT_LEAST)),
            Ok(_) | Err(_) => Self::Heavy,
        }
    }
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            sources: Sources::new(SOURCE_LIMIT),
            connections: places(CONNECTIONS_LIMIT),
            long: places(LONG_LIMIT),
            light: places(LIGHT_BUDGET),
            heavy: places(1),
        }
    }
}

impl Places {
    /// A place for one more connection, unless there are too many.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Caller, NoPlace> {
        let place = self.sources.enter(address).ok_or(NoPlace::Source)?;
        let slot = Arc::clone(&self.connections).try_acquire_owned();
        Ok(Caller { place, _slot: slot.map_err(|_| NoPlace::Full)? })
    }

    /// Waits for a place for a long body; nothing, if that takes too long.
    ///
    /// Cancel safe: yes.
    pub(crate) async fn long(&self, caller: &Caller) -> Option<LongPlace> {
        let waiting = async {
            // Those of one address wait for one another before they wait for others.
            let of_source = Arc::clone(&caller.place.shared().long).acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.long).acquire_owned().await.ok()?;
            Some(LongPlace { _of_source: of_source, _of_all: of_all })
        };
        timeout(PLACE_TIMEOUT, waiting).await.ok()?
    }

    /// Waits until a review may be parsed and answered; nothing, if that takes too long.
    ///
    /// Cancel safe: yes.
    pub(crate) async fn review(&self, weight: Weight) -> Option<OwnedSemaphorePermit> {
        let (places, count) = match weight {
            Weight::Light(structure) => (&self.light, structure),
            Weight::Heavy => (&self.heavy, 1),
        };
        timeout(PLACE_TIMEOUT, Arc::clone(places).acquire_many_owned(count)).await.ok()?.ok()
    }
}

/// An API server has as many connections as it has requests open; more are somebody else's.
const CONNECTIONS_LIMIT: usize = 512;
/// Of one address. Where the network hides addresses, API servers share one.
const SOURCE_LIMIT: usize = 64;
/// How many long bodies there are at once, each of 4 MiB at most.
const LONG_LIMIT: usize = 16;
/// Of one address.
const LONG_SOURCE_LIMIT: usize = 4;
/// Structure of a light review: above that of almost every pod.
const LIGHT_LIMIT: u32 = 2_000;
/// What the smallest counts for.
const LIGHT_LEAST: u32 = 200;
/// Structure of all light reviews that are parsed and answered at once: a hundred small ones, or ten of the
/// largest. With a heavy one it is what bounds memory; tests/memory.rs shows what that is.
const LIGHT_BUDGET: usize = 20_000;
/// How long one waits for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(STRUCTURE_LIMIT > LIGHT_BUDGET && LIGHT_BUDGET > LIGHT_LIMIT as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_heavy_by_what_it_holds() {
        for (structure, expected) in [
            (0, Weight::Light(LIGHT_LEAST)),
            (201, Weight::Light(201)),
            (2_000, Weight::Light(2_000)),
            (2_001, Weight::Heavy),
            (usize::MAX, Weight::Heavy),
        ] {
            assert_eq!(Weight::of(structure), expected, "case: {structure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_bodies_of_one_address_leave_the_others_theirs() {
        let places = Places::default();
        let [one, same, other] = ["10.0.0.1", "10.0.0.1", "10.0.0.2"]
            .map(|text| places.enter(text.parse().unwrap()).unwrap());
        let mut held = Vec::new();
        for _place in 0..LONG_SOURCE_LIMIT {
            held.push(places.long(&one).await.unwrap());
        }
        assert!(places.long(&same).await.is_none(), "it has its share");
        assert!(places.long(&other).await.is_some());
        held.pop();
        assert!(places.long(&same).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_heavy_review_keeps_no_light_one_waiting() {
        let places = Places::default();
        let heavy = places.review(Weight::Heavy).await;
        assert!(heavy.is_some());
        assert!(places.review(Weight::Heavy).await.is_none());
        assert!(places.review(Weight::Light(LIGHT_LIMIT)).await.is_some());
    }

    #[test]
    fn connections_are_bounded_for_each_address_and_in_all() {
        let places = Places::default();
        let mut callers = Vec::new();
        for source in 0..CONNECTIONS_LIMIT / SOURCE_LIMIT {
            let address = IpAddr::from([10, 0, 0, u8::try_from(source).unwrap()]);
            callers.extend((0..SOURCE_LIMIT).map(|_| places.enter(address).unwrap()));
            assert_eq!(places.enter(address).err(), Some(NoPlace::Source));
        }
        assert_eq!(places.enter(IpAddr::from([10, 1, 0, 0])).err(), Some(NoPlace::Full));
        callers.clear();
        assert!(places.enter(IpAddr::from([10, 1, 0, 0])).is_ok());
    }
}
