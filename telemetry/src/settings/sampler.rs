//! Which requests are traced, as OpenTelemetry's variables say it; and the decision itself. Pure.
//!
//! Source: "Environment Variable Specification" (`OTEL_TRACES_SAMPLER`), and "Tracing SDK", built-in
//! samplers.

use crate::settings::Reader;

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What a request that comes with a trace says of it counts.
    pub follows_parent: bool,
    /// Of all others, how many of one: from 0 to 1.
    pub ratio: f64,
}

impl Default for Sampler {
    /// The mesh starts no traces, and goes on with those that it is sent.
    fn default() -> Self {
        Self { follows_parent: true, ratio: 0.0 }
    }
}

impl Sampler {
    /// Whether a request is traced: `parent` is what it says itself. The same trace is decided alike by
    /// everybody with the same ratio: by the last 56 bits of its id, which are random (Trace Context
    /// level 2, section 3.2.4).
    pub fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        match parent {
            Some(is_sampled) if self.follows_parent => is_sampled,
            Some(_) | None => {
                let random = trace_id & ((1 << RANDOM_BITS) - 1);
                #[expect(clippy::cast_precision_loss, reason = "a ratio is not that precise")]
                let share = random as f64 / (1_u64 << RANDOM_BITS) as f64;
                // The greatest numbers are rounded to 1.
                share < self.ratio || self.ratio >= 1.0
            }
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Sampler {
    let want = "always_on, always_off, traceidratio, or one of them after parentbased_";
    let kind = reader.parsed("OTEL_TRACES_SAMPLER", want, |text| {
        let (follows_parent, rest) = match text.strip_prefix("parentbased_") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let ratio = match rest {
            "always_on" => Some(1.0),
            "always_off" => Some(0.0),
            "traceidratio" => None,
            _ => return None,
        };
        Some((follows_parent, ratio))
    });
    let argument = reader.parsed("OTEL_TRACES_SAMPLER_ARG", "a ratio from 0 to 1", |text| {
        text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
    });
    match (kind, argument) {
        (Some((follows_parent, None)), ratio) => {
            Sampler { follows_parent, ratio: ratio.unwrap_or(1.0) }
        }
        (Some((follows_parent, Some(ratio))), None) => Sampler { follows_parent, ratio },
        (None, None) => Sampler::default(),
        (Some((_, Some(_))) | None, Some(_)) => {
            let want = "OTEL_TRACES_SAMPLER=parentbased_traceidratio or traceidratio with it";
            reader.problems.push(format!("OTEL_TRACES_SAMPLER_ARG is of no use (want {want})"));
            Sampler::default()
        }
    }
}

/// Of a trace's id.
const RANDOM_BITS: u32 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_counts_where_it_is_followed_and_the_id_elsewhere() {
        let (low, high) = (1_u128, (1_u128 << 56) - 1);
        for (case, follows_parent, ratio, id, parent, expected) in [
            ("followed", true, 0.0, low, Some(true), true),
            ("followed, and not sampled", true, 1.0, low, Some(false), false),
            ("none to follow", true, 1.0, high, None, true),
            ("never", true, 0.0, 0, None, false),
            ("not followed", false, 0.0, low, Some(true), false),
            ("not followed, and sampled", false, 1.0, high, Some(false), true),
            ("below the half", true, 0.5, 1 << 54, None, true),
            ("the half", true, 0.5, 1 << 55, None, false),
            ("bits that are not random", true, 0.5, (u128::MAX << 56) | 1, None, true),
        ] {
            let sampler = Sampler { follows_parent, ratio };
            assert_eq!(sampler.samples(id, parent), expected, "case: {case}");
        }
    }

    #[test]
    fn a_ratio_is_met_and_a_greater_one_samples_all_that_a_smaller_one_does() {
        let ids: Vec<u128> = (0..20_000).map(|_| rand::random()).collect();
        let sampled = |ratio| {
            let sampler = Sampler { follows_parent: true, ratio };
            ids.iter().copied().filter(|id| sampler.samples(*id, None)).collect::<Vec<_>>()
        };
        let (some, more) = (sampled(0.1), sampled(0.3));
        // Twenty times the standard deviation of 42.
        assert!(some.len().abs_diff(2000) < 850, "{}", some.len());
        assert!(some.iter().all(|id| more.contains(id)));
    }
}
