//! Warnings that anybody can cause: at most one of a kind in a second. What is left out is counted by
//! a metric.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One kind of warning.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Whether to warn now.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_warning_is_due_once_in_a_second() {
        let throttle = Throttle::default();
        assert!(throttle.is_due());
        assert!(!throttle.is_due());
        tokio::time::advance(INTERVAL).await;
        assert!(throttle.is_due());
    }
}
