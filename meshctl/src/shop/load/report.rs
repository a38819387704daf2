//! What the load generator reports: the line at its end, and the answer of `GET /stats`. Its fields
//! are stable: the demo and the end-to-end tests read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts since the first request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests begun. Always `succeeded + failed + in_flight`.
    pub sent: u64,
    /// Answered with 200 and a whole body.
    pub succeeded: u64,
    /// Everything else that has ended.
    pub failed: u64,
    /// Begun and not ended yet; zero at the end.
    pub in_flight: u64,
    /// Requests are numbered from 1 as they are begun; all up to this one have ended.
    pub completed_through: u64,
    /// Failures by reason: `resolve`, `connect`, `closed`, `timeout`, `body`, `body_without_length`,
    /// `protocol`, `status_503` and so on.
    pub failures: BTreeMap<String, u64>,
    /// Successes by value of the response header `x-shop-version`; answers without one are not here.
    pub versions: BTreeMap<String, u64>,
    /// From when a request was due to the last byte of its answer; successes only.
    pub latency_ms: LatencyReport,
    /// From the first request to now, or to the end.
    pub seconds: f64,
    /// How often the target did not answer yet, before counting began (`--wait-for-target`).
    pub attempts_before_first_answer: u64,
}

/// Milliseconds; absent when nothing succeeded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Half of all stay within this.
    pub p50: Option<f64>,
    /// 99 of 100 stay within this.
    pub p99: Option<f64>,
    /// The longest.
    pub longest: Option<f64>,
}

impl Report {
    /// For people.
    pub fn to_text(&self) -> String {
        let Self { sent, succeeded, failed, seconds, .. } = self;
        let mut text =
            format!("sent {sent}, succeeded {succeeded}, failed {failed} in {seconds:.1} s\n");
        if let (Some(p50), Some(p99)) = (self.latency_ms.p50, self.latency_ms.p99) {
            text.push_str(&format!("latency p50 {p50:.1} ms, p99 {p99:.1} ms\n"));
        }
        for (title, counts) in [("version", &self.versions), ("failed", &self.failures)] {
            for (key, count) in counts {
                text.push_str(&format!("{title} {key}: {count}\n"));
            }
        }
        text
    }
}
