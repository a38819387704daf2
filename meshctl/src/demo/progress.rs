//! Where the demo is: written by the director, shown by the screen.

use std::time::Duration;

use tokio::time::Instant;

/// The shares that go to v2, in order.
pub const STEPS: [u8; 4] = [0, 10, 50, 100];

/// Where the demo is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The world comes up.
    Starting,
    /// The world is up; the load has no answer yet.
    Opening,
    /// The file was changed; not every proxy has acknowledged yet.
    Changing {
        /// From 1.
        step: usize,
        /// The share of v2 that is wanted.
        percent: u8,
    },
    /// Answers are counted.
    Counting {
        /// From 1.
        step: usize,
        /// The share of v2 that is wanted.
        percent: u8,
        /// When this step ends.
        until: Instant,
    },
    /// The last answers are waited for.
    Finishing,
}

impl Phase {
    /// The share of v2 that is wanted.
    pub fn percent(self) -> Option<u8> {
        match self {
            Self::Changing { percent, .. } | Self::Counting { percent, .. } => Some(percent),
            Self::Starting | Self::Opening => None,
            Self::Finishing => STEPS.last().copied(),
        }
    }

    /// For people, at a moment.
    pub fn describe(self, now: Instant) -> String {
        let steps = STEPS.len();
        match self {
            Self::Starting => {
                "starting the control plane, four workloads and their proxies".to_owned()
            }
            Self::Opening => "starting the load, waiting for its first answer".to_owned(),
            Self::Changing { step, percent } => {
                format!("step {step} of {steps}: {percent} % to v2, waiting for every proxy")
            }
            Self::Counting { step, percent, until } => {
                let left = seconds_left(until.saturating_duration_since(now));
                format!("step {step} of {steps}: {percent} % to v2, {left} s left")
            }
            Self::Finishing => "done, waiting for the last answers".to_owned(),
        }
    }
}

/// Rounded up: the last second is shown as 1, not as 0.
fn seconds_left(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
