//! How long requests may take, and when they are sent again.

use std::time::Duration;

use gateway_api::experimental::httproutes::{HttpRouteRulesRetry, HttpRouteRulesTimeouts};
use heddle_model::route::{Retry, Timeouts};

use crate::translate::{Rejected, duration};

/// Reads the timeouts of a rule that is written at `field`. Zero means none, as the Gateway API has it.
pub(super) fn timeouts(
    timeouts: &HttpRouteRulesTimeouts,
    field: &str,
) -> Result<Timeouts, Rejected> {
    let read = |text: &Option<String>, name: &str| {
        let Some(text) = text else { return Ok(None) };
        let duration = duration::any(text, &format!("{field}.timeouts.{name}"))?;
        Ok((duration != Duration::ZERO).then_some(duration))
    };
    let request = read(&timeouts.request, "request")?;
    let backend_request = read(&timeouts.backend_request, "backendRequest")?;
    if request.zip(backend_request).is_some_and(|(request, backend)| backend > request) {
        let message = "is longer than timeouts.request, of which it is a part";
        return Err(Rejected::invalid(format!("{field}.timeouts.backendRequest"), message));
    }
    Ok(Timeouts { request, backend_request })
}

/// Reads a retry that is written at `field`.
pub(super) fn retry(retry: &HttpRouteRulesRetry, field: &str) -> Result<Retry, Rejected> {
    let attempts = retry.attempts.unwrap_or(RETRY_ATTEMPTS);
    let attempts = u32::try_from(attempts).ok().filter(|attempts| *attempts <= ATTEMPTS_LIMIT);
    let attempts = attempts.ok_or_else(|| {
        let message = format!(
            "{} will not do (want 0 to {ATTEMPTS_LIMIT})",
            retry.attempts.unwrap_or_default()
        );
        Rejected::invalid(format!("{field}.attempts"), message)
    })?;
    let mut codes = Vec::new();
    for (index, code) in retry.codes.iter().flatten().enumerate() {
        let valid = u16::try_from(*code).ok().filter(|code| (400..600).contains(code));
        let code = valid.ok_or_else(|| {
            let message = format!("{code} is no status of an error (want 400 to 599)");
            Rejected::invalid(format!("{field}.codes[{index}]"), message)
        })?;
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let backoff = retry.backoff.as_ref();
    let backoff =
        backoff.map(|text| duration::any(text, &format!("{field}.backoff"))).transpose()?;
    Ok(Retry { codes, attempts, backoff: backoff.unwrap_or(RETRY_BACKOFF) })
}

/// Of a retry that does not say.
const RETRY_ATTEMPTS: i64 = 1;
/// More would only be more load on what fails already.
const ATTEMPTS_LIMIT: u32 = 32;
/// Envoy's default of `base_interval`.
const RETRY_BACKOFF: Duration = Duration::from_millis(25);
