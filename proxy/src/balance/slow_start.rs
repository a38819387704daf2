//! How much of its share a new endpoint gets: it grows with its age, so that an application that has
//! just started warms up. Source: Envoy's slow start. A pure function.

use std::time::Duration;

/// From a tenth, at the beginning of the window, to 1 at its end; without a window always 1.
pub fn weight(age: Duration, window: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    LEAST_WEIGHT + (1.0 - LEAST_WEIGHT) * age.as_secs_f64() / window.as_secs_f64()
}

/// Envoy's default of `min_weight_percent`.
const LEAST_WEIGHT: f64 = 0.1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_weight_grows_to_all() {
        for (case, age, window, expected) in [
            ("no window", 0, 0, 1.0),
            ("new", 0, 60, 0.1),
            ("half", 30, 60, 0.55),
            ("the end", 60, 60, 1.0),
            ("long after", 600, 60, 1.0),
        ] {
            let found = weight(Duration::from_secs(age), Duration::from_secs(window));
            assert!((found - expected).abs() < 1e-9, "case: {case}: {found}");
        }
    }

    proptest! {
        #[test]
        fn it_never_shrinks(age in 0_u64..100_000, more in 0_u64..100_000, window in 0_u64..100_000) {
            let millis = Duration::from_millis;
            let (before, after) =
                (weight(millis(age), millis(window)), weight(millis(age + more), millis(window)));
            prop_assert!((0.1..=1.0).contains(&before) && before <= after);
        }
    }
}
