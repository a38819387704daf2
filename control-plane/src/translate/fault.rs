//! Failures made on purpose, from a policy or from annotations; the Gateway API has no words for them.

use heddle_model::filter::{Fault, FaultAbort, FaultDelay, Fraction};

use crate::source::traffic_policy::FaultInjection;
use crate::translate::annotations::{self, Annotations};
use crate::translate::{Rejected, duration, number};

/// How long requests wait, on services, HTTPRoutes and GRPCRoutes.
pub const DELAY: &str = "heddle.dev/fault-delay";
/// How many requests wait, in percent.
pub const DELAY_PERCENT: &str = "heddle.dev/fault-delay-percent";
/// With which status requests are answered, on services, HTTPRoutes and GRPCRoutes.
pub const ABORT: &str = "heddle.dev/fault-abort";
/// How many requests are answered so, in percent.
pub const ABORT_PERCENT: &str = "heddle.dev/fault-abort-percent";
/// With which gRPC status requests of gRPC are answered.
pub const ABORT_GRPC_STATUS: &str = "heddle.dev/fault-abort-grpc-status";

/// Reads `spec.faultInjection` of a policy.
pub fn of_policy(fault: &FaultInjection) -> Result<Fault, Rejected> {
    let field = "spec.faultInjection";
    let delay = fault.delay.as_ref().map(|delay| {
        Ok(FaultDelay {
            duration: duration::positive(&delay.duration, &format!("{field}.delay.duration"))?,
            fraction: fraction(delay.percent, &format!("{field}.delay.percent"))?,
        })
    });
    let abort = fault.abort.as_ref().map(|abort| {
        let status = abort.http_status.unwrap_or(ABORT_STATUS);
        let grpc_status = abort.grpc_status.unwrap_or(ABORT_GRPC);
        Ok(FaultAbort {
            status: number::between(status, 400..=599, &format!("{field}.abort.httpStatus"))?,
            grpc_status: number::between(
                grpc_status,
                1..=16,
                &format!("{field}.abort.grpcStatus"),
            )?,
            fraction: fraction(abort.percent, &format!("{field}.abort.percent"))?,
        })
    });
    Ok(Fault { delay: delay.transpose()?, abort: abort.transpose()? })
}

/// Reads annotations, and says what is wrong with them: then no failure is made, whatever the others say.
/// What is left over of an experiment must neither go on nor hold up everything else of its object.
pub fn of_annotations(found: &Annotations) -> (Option<Fault>, Option<String>) {
    match read(found) {
        Ok(fault) => (fault, None),
        Err(rejected) => (None, Some(format!("{rejected}; it makes no failures"))),
    }
}

/// `None`: none of them is there.
fn read(found: &Annotations) -> Result<Option<Fault>, Rejected> {
    let field = |name: &str| format!("metadata.annotations.{name}");
    let text = |name: &str| annotations::value(found, name);
    let whole = |name: &str| {
        let read = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                Rejected::invalid(field(name), format!("{text:?} will not do (want a number)"))
            })
        };
        text(name).map(read).transpose()
    };
    for (part, of) in [(DELAY_PERCENT, DELAY), (ABORT_PERCENT, ABORT), (ABORT_GRPC_STATUS, ABORT)] {
        if text(part).is_some() && text(of).is_none() {
            return Err(Rejected::invalid(field(part), format!("does nothing without {of}")));
        }
    }
    let delay = text(DELAY).map(|delay| {
        Ok(FaultDelay {
            duration: duration::positive(delay, &field(DELAY))?,
            fraction: fraction(whole(DELAY_PERCENT)?, &field(DELAY_PERCENT))?,
        })
    });
    let abort = whole(ABORT)?.map(|status| {
        let grpc_status = whole(ABORT_GRPC_STATUS)?.unwrap_or(ABORT_GRPC);
        Ok(FaultAbort {
            status: number::between(status, 400..=599, &field(ABORT))?,
            grpc_status: number::between(grpc_status, 1..=16, &field(ABORT_GRPC_STATUS))?,
            fraction: fraction(whole(ABORT_PERCENT)?, &field(ABORT_PERCENT))?,
        })
    });
    let fault = Fault { delay: delay.transpose()?, abort: abort.transpose()? };
    Ok((fault != Fault::default()).then_some(fault))
}

fn fraction(percent: Option<i64>, field: &str) -> Result<Fraction, Rejected> {
    let Some(percent) = percent else { return Ok(Fraction::ALL) };
    let percent: u32 = number::between(percent, 0..=100, field)?;
    Fraction::new(percent, 100).ok_or_else(|| Rejected::invalid(field, "is no part of the whole"))
}

/// Unavailable, as users expect of a service that fails.
const ABORT_STATUS: i64 = 503;
/// UNAVAILABLE.
const ABORT_GRPC: i64 = 14;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Option<Fault>, String> {
        let map = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match of_annotations(&Some(map.collect())) {
            (fault, None) => Ok(fault),
            (None, Some(note)) => Err(note),
            both @ (Some(_), Some(_)) => panic!("a failure and a note: {both:?}"),
        }
    }

    #[test]
    fn annotations_are_read_with_their_percentages() {
        assert_eq!(check(&[("other", "x")]), Ok(None));
        let fault =
            check(&[(DELAY, "2s"), (DELAY_PERCENT, "10"), (ABORT, "500")]).unwrap().unwrap();
        let delay = fault.delay.unwrap();
        assert_eq!(delay.duration, Duration::from_secs(2));
        assert_eq!(delay.fraction, Fraction::new(10, 100).unwrap());
        let abort = fault.abort.unwrap();
        assert_eq!((abort.status, abort.grpc_status), (500, 14));
        assert_eq!(abort.fraction, Fraction::ALL);
    }

    #[test]
    fn what_cannot_be_read_makes_no_failures_and_is_told_by_its_name() {
        for (case, pairs, name) in [
            ("no duration", &[(DELAY, "soon")][..], DELAY),
            ("no time", &[(DELAY, "0s")], DELAY),
            ("a success", &[(ABORT, "200")], ABORT),
            ("a word", &[(ABORT, "unavailable")], ABORT),
            ("too many", &[(ABORT, "503"), (ABORT_PERCENT, "101")], ABORT_PERCENT),
            ("a share of nothing", &[(DELAY_PERCENT, "1")], DELAY_PERCENT),
            ("nothing left of one", &[(DELAY_PERCENT, "1"), (ABORT, "503")], DELAY_PERCENT),
            ("success in gRPC", &[(ABORT, "503"), (ABORT_GRPC_STATUS, "0")], ABORT_GRPC_STATUS),
        ] {
            let error = check(pairs).unwrap_err();
            assert!(error.contains(name), "case: {case}: {error}");
        }
    }
}
