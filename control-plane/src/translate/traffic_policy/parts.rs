//! The parts of a policy whose fields are each by itself a number or a time.

use std::time::Duration;

use heddle_model::policy::{CircuitLimits, Ejection, KeepAlive, RetryBudget};

use crate::source::traffic_policy as written;
use crate::translate::{Rejected, duration, number};

/// Puts a number in place of a default.
fn set<T: TryFrom<i64>>(
    place: &mut T,
    number: Option<i64>,
    range: std::ops::RangeInclusive<i64>,
    field: &str,
) -> Result<(), Rejected> {
    if let Some(number) = number {
        *place = number::between(number, range, field)?;
    }
    Ok(())
}

/// Puts a time in place of a default.
fn set_time(place: &mut Duration, text: Option<&String>, field: &str) -> Result<(), Rejected> {
    if let Some(text) = text {
        *place = duration::positive(text, field)?;
    }
    Ok(())
}

/// Zero means that they do not count.
fn failures(number: i64, field: &str) -> Result<Option<u32>, Rejected> {
    let number: u32 = number::between(number, 0..=COUNT_LIMIT, field)?;
    Ok((number > 0).then_some(number))
}

pub(super) fn ejection(written: &written::OutlierDetection) -> Result<Ejection, Rejected> {
    let field = |name: &str| format!("spec.outlierDetection.{name}");
    let mut found = Ejection::default();
    if let Some(number) = written.consecutive_responses {
        found.consecutive_responses = failures(number, &field("consecutiveResponses"))?;
    }
    if let Some(number) = written.consecutive_connection_failures {
        found.consecutive_connections = failures(number, &field("consecutiveConnectionFailures"))?;
    }
    let base = written.base_ejection_time.as_ref();
    set_time(&mut found.base_duration, base, &field("baseEjectionTime"))?;
    // A base that is set above the default of the maximum raises it, unless that is set as well.
    found.maximum_duration = found.maximum_duration.max(found.base_duration);
    let maximum = written.max_ejection_time.as_ref();
    set_time(&mut found.maximum_duration, maximum, &field("maxEjectionTime"))?;
    if found.maximum_duration < found.base_duration {
        let message = "is shorter than baseEjectionTime";
        return Err(Rejected::invalid(field("maxEjectionTime"), message));
    }
    let percent = written.max_ejection_percent;
    set(&mut found.maximum_percent, percent, 0..=100, &field("maxEjectionPercent"))?;
    Ok(found)
}

pub(super) fn limits(written: &written::CircuitBreaker) -> Result<CircuitLimits, Rejected> {
    let field = |name: &str| format!("spec.circuitBreaker.{name}");
    let mut found = CircuitLimits::default();
    let counts = 1..=COUNT_LIMIT;
    set(&mut found.connections, written.max_connections, counts.clone(), &field("maxConnections"))?;
    set(&mut found.requests, written.max_requests, counts, &field("maxRequests"))?;
    let pending = written.max_pending_requests;
    set(&mut found.pending, pending, 0..=COUNT_LIMIT, &field("maxPendingRequests"))?;
    if let Some(text) = &written.pending_timeout {
        found.pending_timeout = duration::any(text, &field("pendingTimeout"))?;
    }
    Ok(found)
}

pub(super) fn retry_budget(written: &written::RetryBudget) -> Result<RetryBudget, Rejected> {
    let field = |name: &str| format!("spec.retryBudget.{name}");
    let mut found = RetryBudget::default();
    set(&mut found.percent, written.percent, 0..=100, &field("percent"))?;
    let minimum = written.min_retries_per_second;
    set(&mut found.minimum_per_second, minimum, 0..=COUNT_LIMIT, &field("minRetriesPerSecond"))?;
    set_time(&mut found.interval, written.interval.as_ref(), &field("interval"))?;
    Ok(found)
}

pub(super) fn keep_alive(written: &written::KeepAlive) -> Result<KeepAlive, Rejected> {
    let field = |name: &str| format!("spec.keepAlive.{name}");
    let mut found = KeepAlive::default();
    set_time(&mut found.idle_timeout, written.idle_timeout.as_ref(), &field("idleTimeout"))?;
    set_time(&mut found.tcp_time, written.time.as_ref(), &field("time"))?;
    set_time(&mut found.tcp_interval, written.interval.as_ref(), &field("interval"))?;
    set(&mut found.tcp_probes, written.probes, 1..=127, &field("probes"))?;
    for (name, time) in [("time", found.tcp_time), ("interval", found.tcp_interval)] {
        // What the kernel counts in: see tcp(7), TCP_KEEPIDLE and TCP_KEEPINTVL.
        if time < Duration::from_secs(1) || time > Duration::from_secs(32_767) {
            return Err(Rejected::invalid(field(name), "will not do (want 1s to 32767s)"));
        }
    }
    Ok(found)
}

/// More would be no limit at all.
pub(super) const COUNT_LIMIT: i64 = 1_000_000_000;
