//! How many requests may be repeated: a part of those of the last seconds, and a few more. Source:
//! Finagle's RetryBudget and GEP-3388. Reads no clock: the time is passed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_model::policy::RetryBudget as Rules;
use parking_lot::Mutex;

/// What one backend's requests allow. Counting a request never waits.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Window,
    /// Taken by one at a time, so that no two take the same.
    retries: Mutex<Window>,
}

impl RetryBudget {
    /// A request was sent for the first time. `now` is since any fixed moment.
    pub fn count_request(&self, rules: &Rules, now: Duration) {
        self.requests.add(slot_at(rules.interval, now));
    }

    /// Whether a request may be repeated; if so, that is used up.
    pub fn may_retry(&self, rules: &Rules, now: Duration) -> bool {
        let slot = slot_at(rules.interval, now);
        let allowed = allowed(rules, self.requests.sum(slot));
        let retries = self.retries.lock();
        let may = retries.sum(slot) < allowed;
        if may {
            retries.add(slot);
        }
        may
    }
}

/// Retries in one interval with so many requests.
fn allowed(rules: &Rules, requests: u64) -> u64 {
    let share = requests.saturating_mul(u64::from(rules.percent)) / 100;
    let reserve = u128::from(rules.minimum_per_second) * rules.interval.as_millis() / 1000;
    share.saturating_add(u64::try_from(reserve).unwrap_or(u64::MAX))
}

/// How many slots of the interval have begun since the fixed moment.
fn slot_at(interval: Duration, now: Duration) -> u32 {
    let length = (interval.as_millis() / SLOTS as u128).max(1);
    u32::try_from((now.as_millis() / length) & u128::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Counts of the last slots of time. Each word holds the number of the slot that it counts for, and
/// the count.
#[derive(Debug, Default)]
struct Window([AtomicU64; SLOTS]);

impl Window {
    fn add(&self, slot: u32) {
        let Some(word) = self.0.get(slot as usize % SLOTS) else { return };
        let update = |held: u64| {
            let count = if held >> 32 == u64::from(slot) { held & COUNT_MASK } else { 0 };
            Some(u64::from(slot) << 32 | (count + 1).min(COUNT_MASK))
        };
        // It never refuses.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    fn sum(&self, slot: u32) -> u64 {
        let is_recent = |word: &u64| u64::from(slot).wrapping_sub(word >> 32) < SLOTS as u64;
        let words = self.0.iter().map(|word| word.load(Ordering::Relaxed));
        words.filter(is_recent).map(|word| word & COUNT_MASK).sum()
    }
}

/// Finagle's window is as fine.
const SLOTS: usize = 10;
const COUNT_MASK: u64 = (1 << 32) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(percent: u32, minimum_per_second: u32) -> Rules {
        Rules { percent, minimum_per_second, interval: Duration::from_secs(10) }
    }

    /// How many of `tries` retries are allowed at `second`.
    fn retries(budget: &RetryBudget, rules: &Rules, second: u64, tries: u32) -> usize {
        let may = |_try: &u32| budget.may_retry(rules, Duration::from_secs(second));
        (0..tries).filter(may).count()
    }

    #[test]
    fn a_part_of_recent_requests_may_be_repeated() {
        for (case, rules, requests, second, expected) in [
            ("a fifth", rules(20, 0), 100, 0, 20),
            ("and a few", rules(20, 1), 100, 0, 30),
            ("only a few", rules(0, 1), 100, 0, 10),
            ("none", rules(0, 0), 100, 0, 0),
            ("of the last interval", rules(20, 0), 100, 9, 20),
            ("not of the one before", rules(20, 0), 100, 10, 0),
        ] {
            let budget = RetryBudget::default();
            for _ in 0..requests {
                budget.count_request(&rules, Duration::ZERO);
            }
            assert_eq!(retries(&budget, &rules, second, 1000), expected, "case: {case}");
        }
    }

    #[test]
    fn what_was_used_comes_back_with_time() {
        let (budget, rules) = (RetryBudget::default(), rules(0, 1));
        assert_eq!(retries(&budget, &rules, 0, 100), 10);
        assert_eq!(retries(&budget, &rules, 9, 100), 0);
        assert_eq!(retries(&budget, &rules, 10, 100), 10);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_the_budget(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..500), 0..300),
            percent in 0_u32..100,
        ) {
            let (budget, rules) = (RetryBudget::default(), rules(percent, 1));
            let (mut requests, mut retries, mut now) = (0_u64, 0_u64, Duration::ZERO);
            // Within one interval nothing is forgotten.
            for (is_request, millis) in steps {
                now = (now + Duration::from_millis(millis)).min(Duration::from_millis(9_999));
                if is_request {
                    budget.count_request(&rules, now);
                    requests += 1;
                } else if budget.may_retry(&rules, now) {
                    retries += 1;
                }
                prop_assert!(retries <= requests * u64::from(percent) / 100 + 10);
            }
        }
    }
}
