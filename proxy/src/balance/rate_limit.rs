//! How many requests a workload takes, of all callers or of each: token buckets. Reads no clock: the
//! time is passed in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use heddle_model::identity::SpiffeId;
use heddle_model::policy::{RateLimit, RateLimitScope};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The workload's limits. They may change at any time: those that stay go on where they were.
#[derive(Debug, Default)]
pub struct RateLimits(ArcSwap<Vec<Arc<Limiter>>>);

#[derive(Debug)]
struct Limiter {
    rules: RateLimit,
    callers: Mutex<Callers>,
}

/// The buckets of one limit. The one without an identity is for all callers without one, or for all
/// callers together.
#[derive(Debug, Default)]
struct Callers {
    buckets: HashMap<Option<SpiffeId>, Bucket>,
    swept_at: Option<Instant>,
}

/// How much of a burst is left, and when that was found out.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimits {
    /// Replaces the limits. Of equal ones each has its own buckets, since each counts by itself.
    pub fn set(&self, limits: &[RateLimit]) {
        let mut before: Vec<Arc<Limiter>> = self.0.load().iter().cloned().collect();
        let limiter = |rules: &RateLimit| match before.iter().position(|held| held.rules == *rules)
        {
            Some(held) => before.remove(held),
            None => Arc::new(Limiter { rules: *rules, callers: Mutex::default() }),
        };
        self.0.store(Arc::new(limits.iter().map(limiter).collect()));
    }

    /// Takes a place for a request to a port in every limit that is for it, or in none: then it says
    /// how long it will be until there may be one.
    pub fn take(&self, port: u16, caller: Option<&SpiffeId>, now: Instant) -> Result<(), Duration> {
        let limits = self.0.load();
        let of_port = |limiter: &&Arc<Limiter>| {
            limiter.rules.port.is_none_or(|limited| limited.number() == port)
        };
        let mut taken: Vec<&Arc<Limiter>> = Vec::new();
        for limiter in limits.iter().filter(of_port) {
            if let Err(wait) = limiter.take(caller, now) {
                for limiter in taken {
                    limiter.give_back(caller);
                }
                return Err(wait);
            }
            taken.push(limiter);
        }
        Ok(())
    }
}

impl Limiter {
    fn take(&self, caller: Option<&SpiffeId>, now: Instant) -> Result<(), Duration> {
        self.callers.lock().bucket(self.key(caller), &self.rules, now).take(&self.rules, now)
    }

    fn give_back(&self, caller: Option<&SpiffeId>) {
        if let Some(bucket) = self.callers.lock().buckets.get_mut(&self.key(caller).cloned()) {
            bucket.tokens += 1.0;
        }
    }

    fn key<'a>(&self, caller: Option<&'a SpiffeId>) -> Option<&'a SpiffeId> {
        match self.rules.scope {
            RateLimitScope::Workload => None,
            RateLimitScope::Caller => caller,
        }
    }
}

impl Callers {
    /// The caller's bucket. Those that are full tell nothing and make room for others; if none is,
    /// the caller shares the one of those without an identity.
    fn bucket(
        &mut self,
        caller: Option<&SpiffeId>,
        rules: &RateLimit,
        now: Instant,
    ) -> &mut Bucket {
        let mut key = caller.cloned();
        if self.buckets.len() >= CALLER_LIMIT && !self.buckets.contains_key(&key) {
            if self.swept_at.is_none_or(|at| now.duration_since(at) >= SWEEP_INTERVAL) {
                self.buckets.retain(|_caller, bucket| !bucket.is_full(rules, now));
                self.swept_at = Some(now);
            }
            if self.buckets.len() >= CALLER_LIMIT {
                key = None;
            }
        }
        self.buckets.entry(key).or_insert_with(|| Bucket::full(rules, now))
    }
}

impl Bucket {
    fn full(rules: &RateLimit, now: Instant) -> Self {
        Self { tokens: f64::from(rules.burst.max(1)), at: now }
    }

    fn take(&mut self, rules: &RateLimit, now: Instant) -> Result<(), Duration> {
        self.tokens = self.tokens_at(rules, now);
        self.at = self.at.max(now);
        if rules.requests == 0 {
            return Err(rules.interval.max(Duration::from_secs(1)));
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let each = rules.interval.as_secs_f64() / f64::from(rules.requests);
        Err(Duration::from_secs_f64((1.0 - self.tokens) * each))
    }

    fn is_full(&self, rules: &RateLimit, now: Instant) -> bool {
        self.tokens_at(rules, now) >= f64::from(rules.burst.max(1))
    }

    fn tokens_at(&self, rules: &RateLimit, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let interval = rules.interval.as_secs_f64();
        let more = if interval > 0.0 {
            since / interval * f64::from(rules.requests)
        } else {
            f64::from(rules.burst.max(1))
        };
        (self.tokens + more).min(f64::from(rules.burst.max(1)))
    }
}

/// Callers of one limit that are told apart: as many as a workload may have.
const CALLER_LIMIT: usize = 4096;
/// While there is no room, how often it is looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use heddle_model::names::Port;
    use proptest::prelude::*;

    use super::*;

    fn limit(requests: u32, seconds: u64, burst: u32) -> RateLimit {
        RateLimit {
            port: None,
            requests,
            interval: Duration::from_secs(seconds),
            burst,
            scope: RateLimitScope::Workload,
        }
    }

    fn limits(all: &[RateLimit]) -> RateLimits {
        let limits = RateLimits::default();
        limits.set(all);
        limits
    }

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap()
    }

    /// How many of 100 requests at once are taken.
    fn taken(limits: &RateLimits, port: u16, caller: Option<&SpiffeId>, now: Instant) -> usize {
        (0..100).filter(|_request| limits.take(port, caller, now).is_ok()).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_as_many_as_the_rate() {
        let (limits, start) = (limits(&[limit(10, 1, 20)]), Instant::now());
        for (case, millis, expected) in [
            ("the burst", 0, 20),
            ("nothing more", 0, 0),
            ("what came in half a second", 500, 5),
            ("no more than the burst after a pause", 60_000, 20),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(taken(&limits, 80, None, now), expected, "case: {case}");
        }
    }

    #[test]
    fn it_is_said_when_to_come_again() {
        for (case, limit, expected) in [
            ("ten in a second", limit(10, 1, 1), Duration::from_millis(100)),
            ("one in a minute", limit(1, 60, 1), Duration::from_secs(60)),
            ("none at all", limit(0, 60, 1), Duration::from_secs(60)),
        ] {
            let (limits, now) = (limits(&[limit]), Instant::now());
            let _first = limits.take(80, None, now);
            assert_eq!(limits.take(80, None, now), Err(expected), "case: {case}");
            if limit.requests > 0 {
                assert_eq!(limits.take(80, None, now + expected), Ok(()), "case: {case}");
            }
        }
    }

    #[test]
    fn limits_are_for_their_port() {
        let of_port = RateLimit { port: Port::new(80), ..limit(1, 60, 1) };
        let (limits, now) = (limits(&[of_port]), Instant::now());
        assert_eq!(taken(&limits, 80, None, now), 1);
        assert_eq!(taken(&limits, 81, None, now), 100);
    }

    #[test]
    fn each_caller_has_its_own_and_strangers_share_one() {
        let by_caller = RateLimit { scope: RateLimitScope::Caller, ..limit(1, 60, 3) };
        let (limits, now) = (limits(&[by_caller]), Instant::now());
        let (anna, bert) = (id("anna"), id("bert"));
        assert_eq!(taken(&limits, 80, Some(&anna), now), 3);
        assert_eq!(taken(&limits, 80, Some(&bert), now), 3);
        assert_eq!(taken(&limits, 80, None, now), 3);
        assert_eq!(taken(&limits, 80, None, now), 0);
    }

    #[test]
    fn who_is_refused_by_one_limit_takes_of_none() {
        let by_caller = RateLimit { scope: RateLimitScope::Caller, ..limit(1, 60, 2) };
        let (limits, now) = (limits(&[limit(1, 60, 5), by_caller]), Instant::now());
        assert_eq!(taken(&limits, 80, Some(&id("anna")), now), 2);
        assert_eq!(taken(&limits, 80, Some(&id("bert")), now), 2);
        assert_eq!(taken(&limits, 80, Some(&id("carl")), now), 1, "all together five");
    }

    #[test]
    fn a_limit_that_stays_goes_on_where_it_was() {
        let (limits, now) = (limits(&[limit(1, 60, 3)]), Instant::now());
        assert_eq!(taken(&limits, 80, None, now), 3);
        limits.set(&[limit(1, 60, 3), limit(1, 60, 5)]);
        assert_eq!(taken(&limits, 80, None, now), 0);
        limits.set(&[limit(1, 60, 5)]);
        assert_eq!(taken(&limits, 80, None, now), 5);
        limits.set(&[]);
        assert_eq!(taken(&limits, 80, None, now), 100);
    }

    #[test]
    fn equal_limits_are_charged_once_each_however_often_they_are_set() {
        let twice = [limit(1, 60, 4), limit(1, 60, 4)];
        let (limits, now) = (limits(&twice), Instant::now());
        limits.set(&twice);
        assert_eq!(taken(&limits, 80, None, now), 4);
        limits.set(&twice);
        assert_eq!(taken(&limits, 80, None, now), 0, "both go on where they were");
    }

    #[test]
    fn callers_are_bounded_and_none_passes_by_that() {
        let by_caller = RateLimit { scope: RateLimitScope::Caller, ..limit(1, 60, 1) };
        let (limits, now) = (limits(&[by_caller]), Instant::now());
        let held = || limits.0.load()[0].callers.lock().buckets.len();
        let mut taken = 0;
        for caller in 0..CALLER_LIMIT + 100 {
            taken += usize::from(limits.take(80, Some(&id(&format!("c{caller}"))), now).is_ok());
        }
        // Those for whom there is no room share one.
        assert_eq!((held(), taken), (CALLER_LIMIT + 1, CALLER_LIMIT + 1));
        let later = now + Duration::from_secs(60);
        assert!(limits.take(80, Some(&id("late")), later).is_ok());
        assert_eq!(held(), 1, "those that are full made room");
    }

    proptest! {
        #[test]
        fn no_interval_sees_more_than_burst_and_rate(
            requests in 1_u32..20, burst in 1_u32..20,
            steps in proptest::collection::vec(0_u64..400, 1..200),
        ) {
            let (limits, start) = (limits(&[limit(requests, 1, burst)]), Instant::now());
            let (mut now, mut taken) = (start, 0_u32);
            for millis in steps {
                now += Duration::from_millis(millis);
                taken += u32::from(limits.take(80, None, now).is_ok());
                let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(requests);
                prop_assert!(f64::from(taken) <= most + 1e-6);
            }
        }
    }
}
