//! When an endpoint that fails is left out, for how long, and how it comes back. Pure: what happened
//! and the time are passed in.
//!
//! After some failures in a row it is ejected. When its time is over it is on probation: it gets one
//! request at a time, and one more failure ejects it again, for longer.

use std::net::SocketAddr;

use heddle_model::policy::Ejection;
use tokio::time::Instant;

/// Something that tells of an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A response came that does not blame the server.
    GoodResponse,
    /// A response came that does.
    BadResponse,
    /// A response came to its end, or a connection for bytes was made.
    GoodConnection,
    /// A connection could not be made, or broke before the response was whole.
    BadConnection,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its responses.
    Responses,
    /// Its connections.
    Connections,
}

/// What is remembered of one endpoint.
#[derive(Debug, Default)]
pub struct Record {
    responses: u32,
    connections: u32,
    /// How often it was ejected, one time soon after the other.
    times: u32,
    ejected: Option<Ejected>,
    on_probation: bool,
}

/// When an endpoint was left out last.
#[derive(Clone, Copy, Debug)]
struct Ejected {
    at: Instant,
    until: Instant,
}

impl Record {
    /// Takes note; says whether this is the failure too many.
    pub fn note(&mut self, sign: Sign, rules: &Ejection) -> Option<Cause> {
        let (count, limit, cause) = match sign {
            // A connection that breaks within each response is no good one.
            Sign::GoodResponse => {
                self.responses = 0;
                return None;
            }
            Sign::GoodConnection => {
                self.connections = 0;
                self.on_probation = false;
                return None;
            }
            Sign::BadResponse => {
                (&mut self.responses, rules.consecutive_responses, Cause::Responses)
            }
            Sign::BadConnection => {
                (&mut self.connections, rules.consecutive_connections, Cause::Connections)
            }
        };
        *count = count.saturating_add(1);
        let limit = if self.on_probation { limit.map(|limit| limit.min(1)) } else { limit };
        (*count >= limit?).then_some(cause)
    }

    /// Whether a good sign would change anything.
    pub fn is_spotless(&self) -> bool {
        self.responses == 0 && self.connections == 0 && !self.on_probation
    }

    /// Until when it would be left out if it was ejected now. Each time is longer than the one
    /// before, unless it was good in between for as long as it was out.
    pub fn sentence(&self, rules: &Ejection, now: Instant) -> Instant {
        let longest = rules.maximum_duration.max(rules.base_duration);
        now + rules.base_duration.saturating_mul(self.times_at(now)).min(longest)
    }

    /// Leaves it out.
    pub fn eject(&mut self, until: Instant, now: Instant) {
        let times = self.times_at(now);
        *self = Self { times, ejected: Some(Ejected { at: now, until }), ..Self::default() };
    }

    /// Its time is over.
    pub fn return_on_probation(&mut self) {
        self.on_probation = true;
    }

    /// Whether it has yet to show that it works again.
    pub fn is_on_probation(&self) -> bool {
        self.on_probation
    }

    fn times_at(&self, now: Instant) -> u32 {
        let is_soon = self.ejected.is_some_and(|Ejected { at, until }| {
            now.saturating_duration_since(until) < until.saturating_duration_since(at)
        });
        if is_soon { self.times.saturating_add(1) } else { 1 }
    }
}

/// Who of one backend's endpoints is left out.
#[derive(Debug, Default)]
pub struct Bench {
    total: usize,
    out: Vec<(SocketAddr, Instant)>,
}

impl Bench {
    /// The endpoints have changed; `is_kept` are those that are the same as before.
    pub fn set_endpoints(&mut self, total: usize, is_kept: impl Fn(SocketAddr) -> bool) {
        self.total = total;
        self.out.retain(|(address, _until)| is_kept(*address));
    }

    /// Leaves one out if there is room.
    pub fn admit(
        &mut self,
        address: SocketAddr,
        (now, until): (Instant, Instant),
        maximum_percent: u8,
    ) -> bool {
        self.out.retain(|(other, until)| *until > now && *other != address);
        let is_admitted = has_room(self.total, self.out.len(), maximum_percent);
        if is_admitted {
            self.out.push((address, until));
        }
        is_admitted
    }

    /// How many are out.
    pub fn len(&self, now: Instant) -> usize {
        self.out.iter().filter(|(_address, until)| *until > now).count()
    }

    /// Whether none is out.
    pub fn is_empty(&self, now: Instant) -> bool {
        self.len(now) == 0
    }
}

/// Whether one more may be left out: the first always, others up to a part of all; never the last.
fn has_room(total: usize, out: usize, maximum_percent: u8) -> bool {
    let part = total.saturating_mul(usize::from(maximum_percent)) / 100;
    out + 1 < total && out < part.max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::Sign::{BadConnection, BadResponse, GoodConnection, GoodResponse};
    use super::*;

    fn rules() -> Ejection {
        Ejection {
            consecutive_responses: Some(3),
            consecutive_connections: Some(2),
            base_duration: Duration::from_secs(10),
            maximum_duration: Duration::from_secs(25),
            maximum_percent: 50,
        }
    }

    #[test]
    fn failures_in_a_row_are_counted() {
        let without = |what: &str| match what {
            "responses" => Ejection { consecutive_responses: None, ..rules() },
            _ => Ejection { consecutive_connections: None, ..rules() },
        };
        for (case, signs, rules, expected) in [
            ("two", &[BadResponse, BadResponse][..], rules(), None),
            ("three", &[BadResponse, BadResponse, BadResponse], rules(), Some(Cause::Responses)),
            (
                "a good one between",
                &[BadResponse, BadResponse, GoodResponse, BadResponse],
                rules(),
                None,
            ),
            ("connections", &[BadConnection, BadConnection], rules(), Some(Cause::Connections)),
            (
                "responses that all break off",
                &[GoodResponse, BadConnection, GoodResponse, BadConnection],
                rules(),
                Some(Cause::Connections),
            ),
            ("whole ones between", &[BadConnection, GoodConnection, BadConnection], rules(), None),
            (
                "bad responses that are whole",
                &[BadResponse, GoodConnection, BadResponse, GoodConnection, BadResponse],
                rules(),
                Some(Cause::Responses),
            ),
            ("responses do not count", &[BadResponse; 9], without("responses"), None),
            ("connections do not count", &[BadConnection; 9], without("connections"), None),
        ] {
            let mut record = Record::default();
            let found = signs.iter().filter_map(|sign| record.note(*sign, &rules)).next();
            assert_eq!(found, expected, "case: {case}");
        }
    }

    #[test]
    fn each_time_is_longer_until_it_was_good_for_long() {
        let start = Instant::now();
        let mut record = Record::default();
        let mut now = start;
        for (case, good_for, expected) in [
            ("the first", 0, 10),
            ("at once again", 0, 20),
            ("never longer than the maximum", 0, 25),
            ("good for less than it was out", 24, 25),
            ("good for as long", 25, 10),
            ("again", 9, 20),
        ] {
            now += Duration::from_secs(good_for);
            let until = record.sentence(&rules(), now);
            assert_eq!(until - now, Duration::from_secs(expected), "case: {case}");
            record.eject(until, now);
            now = until;
            record.return_on_probation();
        }
    }

    #[test]
    fn on_probation_one_failure_is_too_many() {
        for (case, signs, expected) in [
            ("a failure", &[BadConnection][..], Some(Cause::Connections)),
            ("a bad response", &[BadResponse], Some(Cause::Responses)),
            ("a good one first", &[GoodResponse, GoodConnection, BadConnection], None),
        ] {
            let mut record = Record::default();
            let now = Instant::now();
            record.eject(now, now);
            record.return_on_probation();
            let found = signs.iter().filter_map(|sign| record.note(*sign, &rules())).next();
            assert_eq!(found, expected, "case: {case}");
        }
    }

    #[test]
    fn there_is_room_for_some() {
        for (case, total, out, percent, expected) in [
            ("the only one", 1, 0, 100, false),
            ("one of two", 2, 0, 50, true),
            ("the last", 2, 1, 100, false),
            ("the first, whatever the part", 5, 0, 0, true),
            ("no second", 5, 1, 20, false),
            ("a second of five", 5, 1, 50, true),
            ("no third of five", 5, 2, 50, false),
            ("never all", 5, 4, 100, false),
        ] {
            assert_eq!(has_room(total, out, percent), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn some_are_always_left(
            total in 0_u8..10,
            percent in 0_u8..=100,
            steps in proptest::collection::vec((0_u8..10, 0_u64..20), 0..60),
        ) {
            let mut bench = Bench::default();
            bench.set_endpoints(usize::from(total), |_| true);
            let mut now = Instant::now();
            for (who, seconds) in steps {
                now += Duration::from_secs(seconds);
                let until = now + Duration::from_secs(10);
                bench.admit(([10, 0, 0, who % total.max(1)], 80).into(), (now, until), percent);
                let out = bench.len(now);
                prop_assert!(out == 0 || out < usize::from(total));
                prop_assert!(out <= 1 || out * 100 <= usize::from(total) * usize::from(percent));
            }
        }
    }
}
