//! Which endpoints are considered: those that are close, unless too few of them are healthy. Pure.

use heddle_model::policy::Preference;

/// Where something runs. Empty: unknown, and close to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place<Text = String> {
    /// The topology zone.
    pub zone: Text,
    /// The node.
    pub node: Text,
}

/// Sets of indices of `places`, the closest first, each within the next; the last is all. None is
/// empty unless there are no places.
pub fn tiers<Text: AsRef<str>>(
    places: &[Place<Text>],
    own: &Place,
    preference: Preference,
) -> Vec<Vec<usize>> {
    let those = |is_close: &dyn Fn(&Place<Text>) -> bool| {
        let close = places.iter().enumerate().filter(|(_index, place)| is_close(place));
        close.map(|(index, _place)| index).collect::<Vec<usize>>()
    };
    let same_zone = |place: &Place<Text>| !own.zone.is_empty() && place.zone.as_ref() == own.zone;
    // A name of a node is unique, whatever zone it says it is in.
    let same_node = |place: &Place<Text>| !own.node.is_empty() && place.node.as_ref() == own.node;
    let all = those(&|_place| true);
    let mut tiers = match preference {
        Preference::None => Vec::new(),
        Preference::SameZone => vec![those(&same_zone)],
        Preference::SameNode => {
            vec![those(&same_node), those(&|place| same_zone(place) || same_node(place))]
        }
    };
    tiers.retain(|tier| !tier.is_empty() && tier.len() < all.len());
    tiers.dedup_by(|later, earlier| later.len() == earlier.len());
    tiers.push(all);
    tiers
}

/// Whether a set is used by itself, with so many of its `size` healthy.
pub fn suffices(healthy: usize, size: usize, minimum_percent: u8) -> bool {
    healthy > 0 && healthy.saturating_mul(100) >= size.saturating_mul(usize::from(minimum_percent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(zone: &str, node: &str) -> Place {
        Place { zone: zone.to_owned(), node: node.to_owned() }
    }

    #[test]
    fn close_ones_come_first() {
        let places = [place("a", "1"), place("a", "2"), place("b", "3"), place("", "")];
        for (case, own, preference, expected) in [
            ("no preference", place("a", "1"), Preference::None, vec![vec![0, 1, 2, 3]]),
            ("a zone", place("a", "1"), Preference::SameZone, vec![vec![0, 1], vec![0, 1, 2, 3]]),
            (
                "a node",
                place("a", "1"),
                Preference::SameNode,
                vec![vec![0], vec![0, 1], vec![0, 1, 2, 3]],
            ),
            (
                "a node without any",
                place("a", "9"),
                Preference::SameNode,
                vec![vec![0, 1], vec![0, 1, 2, 3]],
            ),
            (
                "a node that is all of its zone",
                place("b", "3"),
                Preference::SameNode,
                vec![vec![2], vec![0, 1, 2, 3]],
            ),
            ("nowhere", place("", ""), Preference::SameNode, vec![vec![0, 1, 2, 3]]),
        ] {
            assert_eq!(tiers(&places, &own, preference), expected, "case: {case}");
        }
    }

    #[test]
    fn few_healthy_ones_do_not_suffice() {
        for (case, healthy, size, minimum, expected) in [
            ("all", 3, 3, 70, true),
            ("two of three", 2, 3, 70, false),
            ("three of four", 3, 4, 70, true),
            ("none, and none needed", 0, 3, 0, false),
            ("one, and none needed", 1, 3, 0, true),
        ] {
            assert_eq!(suffices(healthy, size, minimum), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn each_tier_holds_the_one_before_and_the_last_all(
            zones in proptest::collection::vec(0_u8..3, 0..8),
            preference in prop_oneof![Just(Preference::SameZone), Just(Preference::SameNode)],
        ) {
            let places: Vec<Place> =
                zones.iter().map(|zone| place(&zone.to_string(), &format!("{}", zone % 2))).collect();
            let tiers = tiers(&places, &place("1", "1"), preference);
            for pair in tiers.windows(2) {
                prop_assert!(!pair[0].is_empty() && pair[0].len() < pair[1].len());
                prop_assert!(pair[0].iter().all(|index| pair[1].contains(index)));
            }
            prop_assert_eq!(tiers.last().unwrap(), &(0..places.len()).collect::<Vec<_>>());
        }
    }
}
