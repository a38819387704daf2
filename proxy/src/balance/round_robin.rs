//! Chooses one after the other. Starts anywhere, so that many proxies do not all begin with the same
//! one. Weights are passed in.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;

/// Whose turn it is.
#[derive(Debug)]
pub struct RoundRobin(AtomicUsize);

impl RoundRobin {
    /// Starts anywhere.
    pub fn new(random: &mut impl Rng) -> Self {
        // As many as anybody has endpoints; the sum must not overflow soon.
        Self(AtomicUsize::new(random.random_range(0..START_LIMIT)))
    }

    /// The next of `count` that may be chosen. One whose `weight` is below 1 is passed over as much
    /// more often, unless there is no other.
    pub fn pick(
        &self,
        count: usize,
        may_be: impl Fn(usize) -> bool,
        weight: impl Fn(usize) -> f64,
        random: &mut impl Rng,
    ) -> Option<usize> {
        let mut passed_over = None;
        for _turn in 0..count {
            let index = self.0.fetch_add(1, Ordering::Relaxed) % count;
            if !may_be(index) {
                continue;
            }
            let weight = weight(index);
            if weight >= 1.0 || random.random::<f64>() < weight {
                return Some(index);
            }
            passed_over.get_or_insert(index);
        }
        // Others may have taken turns in between, so that not all were looked at.
        passed_over.or_else(|| (0..count).find(|index| may_be(*index)))
    }
}

const START_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn each_has_its_turn() {
        let mut random = SmallRng::seed_from_u64(1);
        let turns = RoundRobin::new(&mut random);
        let mut next = || turns.pick(3, |_| true, |_| 1.0, &mut random).unwrap();
        let first = next();
        let found: Vec<usize> = (0..5).map(|_| next()).collect();
        let expected: Vec<usize> = (1..6).map(|turn| (first + turn) % 3).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn proxies_start_anywhere() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut starts: Vec<usize> = (0..100)
            .map(|_| RoundRobin::new(&mut random).pick(5, |_| true, |_| 1.0, &mut random).unwrap())
            .collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_small_weight_is_passed_over() {
        let mut random = SmallRng::seed_from_u64(1);
        let turns = RoundRobin::new(&mut random);
        let mut counts = [0_u32; 5];
        for _ in 0..10_000 {
            let weight = |index| if index == 0 { 0.1 } else { 1.0 };
            counts[turns.pick(5, |_| true, weight, &mut random).unwrap()] += 1;
        }
        assert!((180..320).contains(&counts[0]), "a fortieth, 250: {counts:?}");
    }

    proptest! {
        #[test]
        fn one_that_may_be_chosen_is_found(allowed in proptest::collection::vec(any::<bool>(), 0..8), seed: u64) {
            let mut random = SmallRng::seed_from_u64(seed);
            let turns = RoundRobin::new(&mut random);
            match turns.pick(allowed.len(), |index| allowed[index], |_| 0.3, &mut random) {
                Some(index) => prop_assert!(allowed[index]),
                None => prop_assert!(!allowed.contains(&true)),
            }
        }
    }
}
