//! Chooses between two random candidates the one with less load ("power of two choices"): nearly as
//! even as asking all of them, at a constant price, and many proxies that decide at once do not all
//! choose the same one. A pure function: randomness and load are passed in.

use rand::Rng;

/// The index of the chosen one among `count` candidates. `cost` is what is to be small; `None`
/// means that a candidate must not be chosen. `None` if no candidate may be.
pub fn pick(
    count: usize,
    cost: impl Fn(usize) -> Option<u64>,
    random: &mut impl Rng,
) -> Option<usize> {
    match count {
        0 => None,
        1 => cost(0).map(|_cost| 0),
        _ => {
            let first = random.random_range(0..count);
            // Any other one, each as likely.
            let second = (first + random.random_range(1..count)) % count;
            match (cost(first), cost(second)) {
                (Some(one), Some(other)) => Some(if other < one { second } else { first }),
                (Some(_), None) => Some(first),
                (None, Some(_)) => Some(second),
                (None, None) => {
                    let start = random.random_range(0..count);
                    (start..count).chain(0..start).find(|index| cost(*index).is_some())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn the_most_loaded_of_many_is_never_chosen() {
        let mut random = SmallRng::seed_from_u64(7);
        let loads = [0, 3, 9, 1];
        let chosen: Vec<usize> = (0..1000)
            .map(|_| pick(loads.len(), |index| Some(loads[index]), &mut random).unwrap())
            .collect();
        assert!(!chosen.contains(&2));
        assert!([0, 1, 3].iter().all(|index| chosen.contains(index)));
    }

    #[test]
    fn equal_loads_are_chosen_equally() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            counts[pick(4, |_| Some(1), &mut random).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (2200..2800).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn one_that_may_be_chosen_is_found(allowed in proptest::collection::vec(any::<bool>(), 0..8), seed: u64) {
            let mut random = SmallRng::seed_from_u64(seed);
            let chosen = pick(allowed.len(), |index| allowed[index].then_some(0), &mut random);
            match chosen {
                Some(index) => prop_assert!(allowed[index]),
                None => prop_assert!(!allowed.contains(&true)),
            }
        }
    }
}
