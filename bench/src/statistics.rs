//! Medians.

use serde::{Deserialize, Serialize};

/// What several rounds say of one figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Median {
    /// The middle one of the samples, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest sample.
    pub least: f64,
    /// The largest sample.
    pub most: f64,
    /// All samples, in the order of the rounds.
    pub samples: Vec<f64>,
}

impl Median {
    /// Of samples; `None` if there are none.
    pub fn of(samples: Vec<f64>) -> Option<Self> {
        let median = median(&samples)?;
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { median, least, most, samples })
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied()?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted.get(middle.checked_sub(1)?).copied()?;
    Some(f64::midpoint(lower, upper))
}

/// The value below which `permille` of a thousand lie, by the nearest rank; `None` of nothing.
pub fn quantile(sorted: &[u32], permille: usize) -> Option<u32> {
    let rank = (sorted.len() * permille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        for (case, samples, expected) in [
            ("nothing", &[][..], None),
            ("one", &[3.0], Some(3.0)),
            ("two", &[4.0, 1.0], Some(2.5)),
            ("three in disorder", &[9.0, 1.0, 5.0], Some(5.0)),
        ] {
            assert_eq!(median(samples), expected, "case: {case}");
        }
        let all = Median::of(vec![9.0, 1.0, 5.0]).unwrap();
        assert_eq!((all.least, all.median, all.most), (1.0, 5.0, 9.0));
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (case, sorted, permille, expected) in [
            ("nothing", &[][..], 500, None),
            ("the middle", &hundred[..], 500, Some(50)),
            ("one in a hundred", &hundred[..], 990, Some(99)),
            ("all", &hundred[..], 1000, Some(100)),
            ("of one", &[7], 990, Some(7)),
        ] {
            assert_eq!(quantile(sorted, permille), expected, "case: {case}");
        }
    }
}
