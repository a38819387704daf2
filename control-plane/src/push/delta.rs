//! What changed between two sets of endpoints, so that one pod that comes or goes does not cost the
//! transfer of a thousand.

use std::collections::BTreeMap;
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

/// Finds what changed.
pub fn between<'a>(old: &[Endpoint], new: &'a [Endpoint]) -> Delta<'a> {
    let known: BTreeMap<SocketAddr, &Endpoint> =
        old.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
    let kept: BTreeMap<SocketAddr, &Endpoint> =
        new.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
    Delta {
        upserted: new
            .iter()
            .filter(|endpoint| known.get(&endpoint.address) != Some(endpoint))
            .collect(),
        removed: known.into_keys().filter(|address| !kept.contains_key(address)).collect(),
    }
}

#[cfg(test)]
mod tests {
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
