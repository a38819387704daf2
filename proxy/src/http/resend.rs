//! Sends a request, and again as its rule's retries have it. Whether and when is decided in retry.rs;
//! each time is one of send.rs, with its own endpoint and its own limit.

use std::sync::Arc;

use tokio::time::Instant;

use crate::connect::Dialer;
use crate::http::call_record::Notes;
use crate::http::kept::Kept;
use crate::http::mirror::discard;
use crate::http::respond::ProxyError;
use crate::http::retry::RetryPolicy;
use crate::http::send::{Answer, Failure, Outgoing, send};
use crate::metrics::routes::RetryOutcome;

/// The outcome of the last attempt. `kept` is a copy of `outgoing`'s request.
pub async fn resend(
    dialer: &Dialer,
    mut outgoing: Outgoing,
    policy: &RetryPolicy,
    kept: Kept,
) -> Result<Answer, Failure> {
    let Outgoing { version, attempt_limit, direction, .. } = outgoing;
    let place = outgoing.place.clone();
    let session = outgoing.session.clone();
    let backend = Arc::clone(&outgoing.backend);
    let count = |outcome| dialer.metrics.routes.count_retry(outcome);
    let notes = outgoing.request.extensions().get::<Notes>().cloned();
    let mut number = 0;
    let mut avoid = Vec::new();
    loop {
        let mut outcome = send(dialer, outgoing).await;
        let seen = match &outcome {
            Ok(answer) => Ok(&answer.response),
            Err(failure) => Err(&failure.error),
        };
        let asks_again = policy.asks_again(seen, kept.method());
        if number > 0 {
            count(if asks_again { RetryOutcome::Failed } else { RetryOutcome::Succeeded });
        }
        if !asks_again || number == policy.attempts() {
            return outcome;
        }
        // What was not sent is there as it came, whatever its length.
        let unsent = outcome.as_mut().err().and_then(|failure| failure.unsent.take());
        let mut request = match unsent {
            Some(unsent) => unsent,
            None => match kept.now() {
                Ok(request) => Box::new(request),
                Err(_not_kept) => {
                    count(RetryOutcome::BodyNotKept);
                    return outcome;
                }
            },
        };
        if !backend.may_retry(Instant::now()) {
            count(RetryOutcome::OverBudget);
            return outcome;
        }
        avoid.extend(endpoint_of(&outcome));
        if let Ok(answer) = outcome {
            // Read to its end, its connection can be used again.
            dialer.tasks.spawn_quiet(discard(answer.response.into_body()));
        }
        let wait = policy.wait(number, &mut rand::rng());
        tokio::time::sleep(wait).await;
        number += 1;
        if let Some(notes) = &notes {
            request.extensions_mut().insert(notes.clone());
        }
        let (backend, avoid, session) = (Arc::clone(&backend), avoid.clone(), session.clone());
        let place = place.clone();
        outgoing =
            Outgoing { request, version, backend, session, avoid, attempt_limit, direction, place };
    }
}

/// Who let an attempt down. Others are preferred for the next.
fn endpoint_of(outcome: &Result<Answer, Failure>) -> Option<std::net::SocketAddr> {
    match outcome {
        Ok(answer) => Some(answer.endpoint.endpoint.address),
        // These are avoided by all requests, for a while.
        Err(Failure { error: ProxyError::Connect { .. }, .. }) => None,
        Err(failure) => failure.endpoint.as_ref().map(|endpoint| endpoint.endpoint.address),
    }
}
