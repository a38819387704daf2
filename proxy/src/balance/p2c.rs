//! Chooses between two random candidates the one that costs less ("power of two choices"): nearly as
//! even as asking all of them, at a constant price, and many proxies that decide at once do not all
//! choose the same one. Pure functions: randomness and costs are passed in.

use rand::Rng;

/// The index of the chosen one among `count` candidates. `cost` is what is to be small; `None`
/// means that a candidate must not be chosen. `weight`, above 0 and at most 1, is how often one is a
/// candidate at all, compared with others. `None` if no candidate may be chosen.
pub fn pick<C: PartialOrd>(
    count: usize,
    cost: impl Fn(usize) -> Option<C>,
    weight: impl Fn(usize) -> f64,
    random: &mut impl Rng,
) -> Option<usize> {
    match count {
        0 => None,
        1 => cost(0).map(|_cost| 0),
        _ => {
            let first = draw(random, &weight, |random| random.random_range(0..count));
            // Any other one.
            let second =
                draw(random, &weight, |random| (first + random.random_range(1..count)) % count);
            match (cost(first), cost(second)) {
                (Some(one), Some(other)) => Some(if other < one { second } else { first }),
                (Some(_), None) => Some(first),
                (None, Some(_)) => Some(second),
                (None, None) => first_of(count, |index| cost(index).is_some(), random),
            }
        }
    }
}

/// Any one that may be chosen, by its weight.
pub fn pick_any(
    count: usize,
    may_be: impl Fn(usize) -> bool,
    weight: impl Fn(usize) -> f64,
    random: &mut impl Rng,
) -> Option<usize> {
    if count == 0 {
        return None;
    }
    for _try in 0..DRAW_LIMIT {
        let drawn = draw(random, &weight, |random| random.random_range(0..count));
        if may_be(drawn) {
            return Some(drawn);
        }
    }
    first_of(count, may_be, random)
}

/// Draws again as often as a weight demands, up to a limit.
fn draw<R: Rng>(
    random: &mut R,
    weight: &impl Fn(usize) -> f64,
    mut one: impl FnMut(&mut R) -> usize,
) -> usize {
    let mut drawn = one(random);
    for _again in 1..DRAW_LIMIT {
        let weight = weight(drawn);
        if weight >= 1.0 || random.random::<f64>() < weight {
            break;
        }
        drawn = one(random);
    }
    drawn
}

/// From a random one on.
fn first_of(count: usize, may_be: impl Fn(usize) -> bool, random: &mut impl Rng) -> Option<usize> {
    let start = random.random_range(0..count);
    (start..count).chain(0..start).find(|index| may_be(*index))
}

/// With all weights at their least, 0.1, two of three draws find one; then any is as good.
const DRAW_LIMIT: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn counts(of: usize, mut pick: impl FnMut(&mut SmallRng) -> Option<usize>) -> Vec<u32> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; of];
        for _ in 0..10_000 {
            counts[pick(&mut random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_most_loaded_of_many_is_never_chosen() {
        let loads = [0, 3, 9, 1];
        let counts = counts(4, |random| pick(4, |index| Some(loads[index]), |_| 1.0, random));
        assert_eq!(counts[2], 0);
        assert!([0, 1, 3].iter().all(|index| counts[*index] > 0), "{counts:?}");
    }

    #[test]
    fn equal_loads_are_chosen_equally() {
        let counts = counts(4, |random| pick(4, |_| Some(1), |_| 1.0, random));
        assert!(counts.iter().all(|count| (2200..2800).contains(count)), "{counts:?}");
    }

    #[test]
    fn shares_follow_weights() {
        let weight = |index| if index == 0 { 0.1 } else { 1.0 };
        let by_cost = counts(5, |random| pick(5, |_| Some(1), weight, random));
        let any = counts(5, |random| pick_any(5, |_| true, weight, random));
        for counts in [by_cost, any] {
            assert!((150..400).contains(&counts[0]), "a fortieth, 250: {counts:?}");
        }
    }

    #[test]
    fn one_that_is_alone_is_chosen_whatever_its_weight() {
        let mut random = SmallRng::seed_from_u64(7);
        assert_eq!(pick(1, |_| Some(1), |_| 0.1, &mut random), Some(0));
        assert_eq!(pick_any(1, |_| true, |_| 0.1, &mut random), Some(0));
    }

    proptest! {
        #[test]
        fn one_that_may_be_chosen_is_found(allowed in proptest::collection::vec(any::<bool>(), 0..8), seed: u64) {
            let mut random = SmallRng::seed_from_u64(seed);
            let by_cost = pick(allowed.len(), |index| allowed[index].then_some(0), |_| 0.5, &mut random);
            let any = pick_any(allowed.len(), |index| allowed[index], |_| 0.5, &mut random);
            for chosen in [by_cost, any] {
                match chosen {
                    Some(index) => prop_assert!(allowed[index]),
                    None => prop_assert!(!allowed.contains(&true)),
                }
            }
        }
    }
}
