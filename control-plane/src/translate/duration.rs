//! Durations in objects, as texts.

use std::time::Duration;

use crate::translate::Rejected;

/// Reads a duration, which may be zero.
pub fn any(text: &str, field: &str) -> Result<Duration, Rejected> {
    let duration = heddle_runtime::duration::parse(text)
        .map_err(|error| Rejected::invalid(field, error.to_string()))?;
    if duration > DURATION_LIMIT {
        return Err(Rejected::invalid(field, format!("{text:?} is longer than a year")));
    }
    Ok(duration)
}

/// Reads a duration that is not zero.
pub fn positive(text: &str, field: &str) -> Result<Duration, Rejected> {
    match any(text, field)? {
        Duration::ZERO => Err(Rejected::invalid(field, format!("{text:?} is no time at all"))),
        duration => Ok(duration),
    }
}

/// Nothing in a mesh waits longer.
const DURATION_LIMIT: Duration = Duration::from_secs(366 * 24 * 3600);
