//! What changed between two sets of endpoints, so that one pod that comes or goes does not cost the
//! transfer of a thousand.

use std::net::SocketAddr;

use heddle_model::endpoint::Endpoint;

/// What makes a new set of endpoints of an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<'a> {
    /// New ones, and those of known addresses that differ.
    pub upserted: Vec<&'a Endpoint>,
    /// Gone ones.
    pub removed: Vec<SocketAddr>,
}

/// Finds what changed. Both are in the order of their addresses, as sets of endpoints are made.
pub fn between<'a>(old: &[Endpoint], new: &'a [Endpoint]) -> Delta<'a> {
    debug_assert!([old, new].iter().all(|set| set.is_sorted_by_key(|one| one.address)));
    let mut delta = Delta { upserted: Vec::new(), removed: Vec::new() };
    let mut old = old.iter().peekable();
    for endpoint in new {
        while let Some(gone) = old.next_if(|known| known.address < endpoint.address) {
            delta.removed.push(gone.address);
        }
        let known = old.next_if(|known| known.address == endpoint.address);
        if known != Some(endpoint) {
            delta.upserted.push(endpoint);
        }
    }
    delta.removed.extend(old.map(|gone| gone.address));
    delta
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heddle_model::endpoint::ExpectedPeer;
    use proptest::prelude::*;

    use super::*;

    fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        proptest::collection::btree_map(0_u8..12, 0_u8..3, 0..10).prop_map(|map| {
            map.into_iter()
                .map(|(last, zone)| Endpoint {
                    address: SocketAddr::from(([10, 0, 0, last], 80)),
                    peer: ExpectedPeer::Plaintext,
                    zone: zone.to_string(),
                    node: String::new(),
                    pod: String::new(),
                })
                .collect()
        })
    }

    /// What a proxy does with a delta.
    fn applied(old: &[Endpoint], delta: &Delta<'_>) -> Vec<Endpoint> {
        let mut held: BTreeMap<SocketAddr, Endpoint> =
            old.iter().map(|endpoint| (endpoint.address, endpoint.clone())).collect();
        for address in &delta.removed {
            assert!(held.remove(address).is_some(), "only what is held is removed");
        }
        for endpoint in &delta.upserted {
            held.insert(endpoint.address, Endpoint::clone(endpoint));
        }
        held.into_values().collect()
    }

    proptest! {
        #[test]
        fn a_delta_applied_to_the_old_set_is_the_new_one(old in endpoints(), new in endpoints()) {
            let delta = between(&old, &new);
            prop_assert_eq!(applied(&old, &delta), new.clone());
            prop_assert!(between(&new, &new).upserted.is_empty());
        }
    }
}
