//! The wall clock, in one place, so that everything else takes the time as an argument.

use std::time::SystemTime;

/// The present wall-clock time. Durations are measured with `tokio::time::Instant` instead.
pub fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    SystemTime::now()
}
