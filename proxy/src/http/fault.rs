//! Failures made on purpose: which requests wait, and which are answered instead of sent. The choice
//! is pure: randomness is passed in. The wait itself is in stack/deliver.rs.

use std::time::Duration;

use heddle_model::filter::{Fault, Fraction};
use http::StatusCode;
use rand::Rng;

use crate::http::filter::Unservable;
use crate::http::respond::ProxyError;

/// A rule's faults, ready to be chosen from.
#[derive(Clone, Debug, Default)]
pub struct CompiledFault {
    delay: Option<(Duration, Fraction)>,
    abort: Option<(Abort, Fraction)>,
}

/// The answer in place of a backend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// 400 to 599.
    pub status: StatusCode,
    /// For gRPC, 1 to 16.
    pub grpc_status: u8,
}

/// What one request meets: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// What it is answered.
    pub abort: Option<Abort>,
}

impl CompiledFault {
    /// Whether none is ever chosen.
    pub fn is_empty(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }

    /// Refuses a status that is none of an error.
    pub fn compile(fault: &Fault) -> Result<Self, Unservable> {
        let delay = fault.delay.as_ref().map(|delay| (delay.duration, delay.fraction));
        let abort = match &fault.abort {
            None => None,
            Some(abort) => {
                let refuse = |part: &str, reason: String| Unservable {
                    part: format!("fault.abort.{part}"),
                    reason,
                };
                let status = StatusCode::from_u16(abort.status)
                    .ok()
                    .filter(|status| status.is_client_error() || status.is_server_error())
                    .ok_or_else(|| {
                        refuse("status", format!("{}; want 400 to 599", abort.status))
                    })?;
                if !(1..=16).contains(&abort.grpc_status) {
                    let reason = format!("{}; want 1 to 16", abort.grpc_status);
                    return Err(refuse("grpcStatus", reason));
                }
                Some((Abort { status, grpc_status: abort.grpc_status }, abort.fraction))
            }
        };
        Ok(Self { delay, abort })
    }

    /// What the next request meets.
    pub fn choose(&self, random: &mut impl Rng) -> Injected {
        let delay = self.delay.filter(|(_delay, fraction)| hits(*fraction, random));
        let abort = self.abort.filter(|(_abort, fraction)| hits(*fraction, random));
        Injected {
            delay: delay.map(|(delay, _fraction)| delay),
            abort: abort.map(|(abort, _fraction)| abort),
        }
    }
}

impl From<Abort> for ProxyError {
    fn from(Abort { status, grpc_status }: Abort) -> Self {
        Self::FaultAbort { status, grpc_status }
    }
}

/// Whether a request is one of so many.
pub fn hits(fraction: Fraction, random: &mut impl Rng) -> bool {
    random.random_range(0..fraction.denominator()) < fraction.numerator()
}

#[cfg(test)]
mod tests {
    use heddle_model::filter::{FaultAbort, FaultDelay};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn part(numerator: u32, denominator: u32) -> Fraction {
        Fraction::new(numerator, denominator).unwrap()
    }

    fn fault(delay: Option<Fraction>, abort: Option<Fraction>) -> CompiledFault {
        let duration = Duration::from_secs(1);
        let delay = delay.map(|fraction| FaultDelay { duration, fraction });
        let abort = abort.map(|fraction| FaultAbort { status: 503, grpc_status: 14, fraction });
        CompiledFault::compile(&Fault { delay, abort }).unwrap()
    }

    #[test]
    fn all_none_and_both_are_hit() {
        let mut random = SmallRng::seed_from_u64(1);
        let (none, all) = (part(0, 100), Fraction::ALL);
        for (case, fault, delayed, aborted) in [
            ("nothing", fault(None, None), false, false),
            ("zero of each", fault(Some(none), Some(none)), false, false),
            ("all delayed", fault(Some(all), None), true, false),
            ("all aborted", fault(None, Some(all)), false, true),
            ("both", fault(Some(all), Some(part(7, 7))), true, true),
        ] {
            for _request in 0..100 {
                let injected = fault.choose(&mut random);
                let found = (injected.delay.is_some(), injected.abort.is_some());
                assert_eq!(found, (delayed, aborted), "case: {case}");
            }
        }
    }

    #[test]
    fn what_is_no_error_is_refused() {
        let abort = |status, grpc_status| {
            let abort = FaultAbort { status, grpc_status, fraction: Fraction::ALL };
            CompiledFault::compile(&Fault { delay: None, abort: Some(abort) })
        };
        assert!(abort(400, 1).is_ok() && abort(599, 16).is_ok());
        for (status, grpc_status, part) in [
            (200, 14, "status"),
            (399, 14, "status"),
            (600, 14, "status"),
            (503, 0, "grpcStatus"),
            (503, 17, "grpcStatus"),
        ] {
            let refused = abort(status, grpc_status).unwrap_err();
            assert_eq!(refused.part, format!("fault.abort.{part}"));
        }
    }

    proptest! {
        #[test]
        fn as_many_are_hit_as_the_fraction_says(
            numerator in 0..20_u32,
            more in 0..20_u32,
            seed: u64,
        ) {
            let fraction = part(numerator, numerator + more + 1);
            let mut random = SmallRng::seed_from_u64(seed);
            let found = (0..10_000).filter(|_request| hits(fraction, &mut random)).count();
            let expected = 10_000.0 * f64::from(numerator) / f64::from(numerator + more + 1);
            let found = f64::from(u32::try_from(found).unwrap());
            // Six standard deviations of the widest of these.
            prop_assert!((found - expected).abs() <= 300.0, "{found} of {expected}");
        }
    }
}
