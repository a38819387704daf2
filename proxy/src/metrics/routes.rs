//! What is counted of requests that routes send more than once: retries and mirrors.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::metrics::words;

/// The counters of retries and mirrors. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct RouteMetrics {
    /// `heddle_retries_total`.
    retries: Family<RetryLabels, Counter>,
    /// `heddle_mirrored_requests_total`.
    mirrored: Family<MirrorLabels, Counter>,
}

impl RouteMetrics {
    /// The registry appends `_total` to the names of counters.
    pub fn show(&self, registry: &mut Registry) {
        registry.register(
            "heddle_retries",
            "Requests sent again as routes have it, and those that were not, by outcome",
            self.retries.clone(),
        );
        registry.register(
            "heddle_mirrored_requests",
            "Copies of requests, by what became of them",
            self.mirrored.clone(),
        );
    }

    /// Counts what became of another attempt.
    pub fn count_retry(&self, outcome: RetryOutcome) {
        self.retries.get_or_create(&RetryLabels { outcome }).inc();
    }

    /// Counts what became of a copy.
    pub fn count_mirrored(&self, outcome: MirrorOutcome) {
        self.mirrored.get_or_create(&MirrorLabels { outcome }).inc();
    }

    /// How many attempts ended so.
    #[cfg(test)]
    pub(crate) fn retries(&self, outcome: RetryOutcome) -> u64 {
        self.retries.get_or_create(&RetryLabels { outcome }).get()
    }

    /// How many copies ended so.
    #[cfg(test)]
    pub(crate) fn mirrored(&self, outcome: MirrorOutcome) -> u64 {
        self.mirrored.get_or_create(&MirrorLabels { outcome }).get()
    }
}

words! {
    /// What became of another attempt at a request.
    RetryOutcome {
        /// It gave no reason for yet another.
        Succeeded = "succeeded",
        /// It gave one.
        Failed = "failed",
        /// It was not made: so many others were.
        OverBudget = "over_budget",
        /// It was not made: the body is too long, or had not all been sent.
        BodyNotKept = "body_not_kept",
    }
}

words! {
    /// What became of a copy of a request.
    MirrorOutcome {
        /// Somebody answered, whatever the answer.
        Answered = "answered",
        /// Nobody did.
        Failed = "failed",
        /// Not within its time.
        TimedOut = "timed_out",
        /// It was not sent: the original's body is too long.
        BodyTooLong = "body_too_long",
        /// It was not sent: the original's body did not come to its end.
        BrokenOff = "broken_off",
        /// It was not sent: so many others are under way.
        TooMany = "too_many",
    }
}

/// Labels of `heddle_retries_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    outcome: RetryOutcome,
}

/// Labels of `heddle_mirrored_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirrorLabels {
    outcome: MirrorOutcome,
}
