//! Chooses one of several by weight. A pure function: randomness is passed in.

use rand::Rng;

/// The index of the chosen one; `None` if there is none, or no weight is above zero.
pub fn pick(weights: impl Iterator<Item = u32> + Clone, random: &mut impl Rng) -> Option<usize> {
    let mut positive = weights.clone().enumerate().filter(|(_index, weight)| *weight > 0);
    let (first, _weight) = positive.next()?;
    if positive.next().is_none() {
        // As of most rules: nothing is left to chance.
        return Some(first);
    }
    let total: u64 = weights.clone().map(u64::from).sum();
    at(weights, random.random_range(0..total))
}

/// The index of one of several by weight; `None` for the share that is missing, or if there is none.
pub fn pick_of(
    weights: impl Iterator<Item = u32> + Clone,
    missing_weight: u32,
    random: &mut impl Rng,
) -> Option<usize> {
    let count = weights.clone().count();
    let picked = pick(weights.chain(std::iter::once(missing_weight)), random);
    picked.filter(|index| *index < count)
}

/// The one whose part of the sum of all weights holds `position`.
fn at(mut weights: impl Iterator<Item = u32>, position: u64) -> Option<usize> {
    let mut left = position;
    weights.position(|weight| match left.checked_sub(u64::from(weight)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn each_position_belongs_to_one() {
        for (case, weights, expected) in [
            ("two", &[1, 2][..], vec![0, 1, 1]),
            ("zero gets nothing", &[0, 2, 0, 1], vec![1, 1, 3]),
            ("one", &[3], vec![0, 0, 0]),
        ] {
            let total: u32 = weights.iter().sum();
            let found: Vec<usize> = (0..u64::from(total))
                .map(|position| at(weights.iter().copied(), position).unwrap())
                .collect();
            assert_eq!(found, expected, "case: {case}");
        }
    }

    #[test]
    fn without_weight_nothing_is_chosen() {
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(pick([].into_iter(), &mut random), None);
        assert_eq!(pick([0, 0].into_iter(), &mut random), None);
    }

    #[test]
    fn the_only_one_with_a_weight_is_chosen() {
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(pick([0, 3, 0].into_iter(), &mut random), Some(1));
        assert_eq!(pick_of([5].into_iter(), 0, &mut random), Some(0));
        assert_eq!(pick_of([0].into_iter(), 5, &mut random), None);
    }

    #[test]
    fn a_share_that_is_missing_is_nobodys() {
        let mut random = SmallRng::seed_from_u64(1);
        for (case, weights, missing, expected) in [
            ("all of it", &[0, 0][..], 1, None),
            ("nothing at all", &[], 0, None),
            ("no weight", &[0], 0, None),
            ("none of it", &[0, 5], 0, Some(1)),
        ] {
            for _pick in 0..20 {
                let found = pick_of(weights.iter().copied(), missing, &mut random);
                assert_eq!(found, expected, "case: {case}");
            }
        }
    }

    proptest! {
        #[test]
        fn shares_follow_weights_the_missing_one_included(
            weights in proptest::collection::vec(0..50_u32, 0..4),
            missing in 0..50_u32,
            seed: u64,
        ) {
            let mut random = SmallRng::seed_from_u64(seed);
            let total: u32 = weights.iter().sum::<u32>() + missing;
            let mut nobodys = 0.0;
            for _pick in 0..5_000 {
                match pick_of(weights.iter().copied(), missing, &mut random) {
                    Some(index) => prop_assert!(weights[index] > 0),
                    None => nobodys += 1.0,
                }
            }
            let expected =
                if total == 0 { 5_000.0 } else { 5_000.0 * f64::from(missing) / f64::from(total) };
            // Six standard deviations of the widest share.
            prop_assert!((nobodys - expected).abs() <= 213.0, "{nobodys} of {expected}");
        }

        #[test]
        fn shares_follow_weights(weights in proptest::collection::vec(0..100_u32, 1..6), seed: u64) {
            let total: u32 = weights.iter().sum();
            let mut random = SmallRng::seed_from_u64(seed);
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..10_000 {
                match pick(weights.iter().copied(), &mut random) {
                    Some(index) => counts[index] += 1,
                    None => prop_assert_eq!(total, 0),
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*count) / 10_000.0;
                let wanted = f64::from(*weight) / f64::from(total.max(1));
                prop_assert!((share - wanted).abs() < 0.03, "{share} for {wanted}");
                prop_assert!(*weight > 0 || *count == 0);
            }
        }
    }
}
