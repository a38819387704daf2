//! What a number that is counted up adds to what is known already. Pure.

use std::time::Duration;

/// When a point was counted, by the proxy's clock, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Since when it counts.
    pub start_nanos: u64,
    /// When it was looked at.
    pub time_nanos: u64,
}

/// When something was heard last, by our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard(pub Duration);

/// What of a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Nothing, and nothing is noted: it is old, or was sent twice.
    Ignored,
    /// Nothing so far: what comes after it.
    FromNow,
    /// What came since the last one.
    SinceLast,
    /// All of it.
    Whole,
}

/// Decides what of a point counts: `last` is what was heard of the same one, `proxy` when its proxy was heard at all.
///
/// A proxy that was away told another control plane meanwhile, and what it counted then is not counted here again.
/// Clocks of two machines are never compared.
pub fn decide(
    last: Option<(Times, Heard)>,
    point: Times,
    proxy: Option<Heard>,
    now: Heard,
) -> Counts {
    let is_recent = |heard: Heard| now.0.saturating_sub(heard.0) <= AWAY_LIMIT;
    let age = Duration::from_nanos(point.time_nanos.saturating_sub(point.start_nanos));
    let began = |heard: Option<Heard>| {
        let is_new = heard.is_some_and(is_recent) || age <= FRESH_LIMIT;
        if is_new { Counts::Whole } else { Counts::FromNow }
    };
    let Some((last, heard)) = last else { return began(proxy) };
    if point.start_nanos > last.start_nanos {
        return began(Some(heard));
    }
    match (is_recent(heard), point.time_nanos > last.time_nanos) {
        (true, true) => Counts::SinceLast,
        (true, false) => Counts::Ignored,
        // Its clock may have been set back for good.
        (false, _) => Counts::FromNow,
    }
}

/// Whoever was not heard for longer may have told somebody else: twelve exports at the usual ten seconds.
pub const AWAY_LIMIT: Duration = Duration::from_secs(120);
/// What a proxy counted since so short a time, nobody else was told: it exports every ten seconds.
const FRESH_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_counted_yet_counts() {
        let second = |second: u64| second * 1_000_000_000;
        let times = |start, time| Times { start_nanos: second(start), time_nanos: second(time) };
        let heard = |second| Heard(Duration::from_secs(second));
        // Our clock is 5000 seconds ahead of the proxy's.
        let last = Some((times(100, 200), heard(5200)));
        let proxy = Some(heard(5200));
        for (case, last, point, proxy, now, expected) in [
            ("the next", last, times(100, 210), proxy, 5210, Counts::SinceLast),
            ("some are missing", last, times(100, 300), proxy, 5300, Counts::SinceLast),
            ("many are missing", last, times(100, 400), proxy, 5400, Counts::FromNow),
            ("sent twice", last, times(100, 200), proxy, 5205, Counts::Ignored),
            ("out of order", last, times(100, 190), proxy, 5210, Counts::Ignored),
            ("of an earlier run", last, times(50, 190), proxy, 5210, Counts::Ignored),
            ("restarted", last, times(205, 210), proxy, 5210, Counts::Whole),
            ("restarted while away", last, times(300, 900), proxy, 5900, Counts::FromNow),
            ("restarted just now", last, times(890, 900), proxy, 5900, Counts::Whole),
            ("the clock was set back", last, times(20, 30), proxy, 5210, Counts::Ignored),
            ("it stays set back", last, times(20, 150), proxy, 5330, Counts::FromNow),
            ("a new proxy", None, times(195, 205), None, 5205, Counts::Whole),
            ("a proxy from elsewhere", None, times(100, 205), None, 5205, Counts::FromNow),
            ("a new point", None, times(100, 210), proxy, 5210, Counts::Whole),
            ("a point of one back", None, times(100, 900), proxy, 5900, Counts::FromNow),
        ] {
            assert_eq!(decide(last, point, proxy, heard(now)), expected, "case: {case}");
        }
    }
}
