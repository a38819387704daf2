//! Which requests are sent again, and after which wait. Pure: randomness is passed in. The sending is
//! in resend.rs. Sources: Gateway API v1, HTTPRouteRetry; GEP-1731.
//!
//! A rule with retries sends again, as often as it says:
//! - what could not be connected to an endpoint, be it told by this proxy or by the endpoint's own;
//! - what was answered with one of its codes, whatever the method: who names a code says that a request
//!   so answered may be sent again;
//! - what was not answered in the time of one attempt, or lost with its connection, if its method is
//!   idempotent (RFC 9110, section 9.2.2), since it may have been processed.
//!
//! A gRPC status that comes without a message counts as the code that gRPC gives it:
//! UNAVAILABLE as 503, DEADLINE_EXCEEDED as 504, RESOURCE_EXHAUSTED as 429, UNKNOWN and INTERNAL as 500.
//! Nothing is sent again after a part of its response was passed on, without a copy of all of its body
//! (kept.rs), or if it asks for a tunnel.

use std::time::Duration;

use heddle_model::route::Retry;
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use rand::Rng;

use crate::http::attempt::is_idempotent;
use crate::http::filter::Unservable;
use crate::http::respond::ProxyError;
use crate::http::send::tells_of_dead_application;

/// A rule's retries.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    codes: Vec<StatusCode>,
    attempts: u32,
    backoff: Duration,
}

impl RetryPolicy {
    /// Refuses codes that are none of an error, and more attempts than anybody can want.
    pub fn compile(retry: &Retry) -> Result<Self, Unservable> {
        let mut codes = Vec::with_capacity(retry.codes.len());
        for (index, code) in retry.codes.iter().enumerate() {
            let status = StatusCode::from_u16(*code).ok().filter(|_| (400..600).contains(code));
            codes.push(status.ok_or_else(|| Unservable {
                part: format!("retry.codes[{index}]"),
                reason: format!("{code}; want 400 to 599"),
            })?);
        }
        if retry.attempts > ATTEMPT_LIMIT {
            return Err(Unservable {
                part: "retry.attempts".to_owned(),
                reason: format!("{}; want {ATTEMPT_LIMIT} at most", retry.attempts),
            });
        }
        Ok(Self { codes, attempts: retry.attempts, backoff: retry.backoff })
    }

    /// How often a request is sent again at most.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether an attempt that went so is a reason for another.
    pub fn asks_again<B>(
        &self,
        outcome: Result<&Response<B>, &ProxyError>,
        method: &Method,
    ) -> bool {
        match outcome {
            Ok(response) => {
                let headers = response.headers();
                let code = grpc_code(headers).unwrap_or(response.status());
                self.codes.contains(&code) || tells_of_dead_application(headers)
            }
            Err(error) => match error {
                ProxyError::Connect { .. } => true,
                ProxyError::BackendLost { .. } | ProxyError::BackendTimeout { .. } => {
                    is_idempotent(method)
                }
                ProxyError::NoRoute { .. }
                | ProxyError::NoBackend { .. }
                | ProxyError::NoEndpoint { .. }
                | ProxyError::Refused { .. }
                | ProxyError::DestinationChanged
                | ProxyError::ClientLost { .. }
                | ProxyError::RequestTimeout { .. }
                | ProxyError::Overloaded { .. }
                | ProxyError::FaultAbort { .. }
                | ProxyError::BadRequest { .. }
                | ProxyError::BadResponse { .. }
                | ProxyError::NotSupported { .. }
                | ProxyError::QueueTimeout { .. }
                | ProxyError::RateLimited { .. }
                | ProxyError::Plaintext
                | ProxyError::Internal { .. } => false,
            },
        }
    }

    /// How long to wait after `number` further attempts before the next: twice as long each time, and
    /// up to half of it longer by chance, so that those who failed together do not come back together.
    pub fn wait(&self, number: u32, random: &mut impl Rng) -> Duration {
        let factor = 1_u32.checked_shl(number).unwrap_or(u32::MAX);
        let longest = self.backoff.max(BACKOFF_LIMIT);
        let wait = self.backoff.saturating_mul(factor).min(longest);
        wait + wait.mul_f64(random.random_range(0.0..=0.5))
    }
}

/// The HTTP status of a gRPC status that is in the headers, as it is where there is no message. The
/// other way round of gRPC's "HTTP to gRPC Status Code Mapping", where that has one.
fn grpc_code(headers: &HeaderMap) -> Option<StatusCode> {
    match headers.get("grpc-status")?.as_bytes() {
        b"2" | b"13" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        b"4" => Some(StatusCode::GATEWAY_TIMEOUT),
        b"8" => Some(StatusCode::TOO_MANY_REQUESTS),
        b"14" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    }
}

/// With the waits in between, more takes longer than anybody waits.
const ATTEMPT_LIMIT: u32 = 100;
/// A wait grows up to this, or stays what it is if that is longer.
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::connect::ConnectError;

    fn policy(codes: &[u16]) -> RetryPolicy {
        let retry =
            Retry { codes: codes.to_vec(), attempts: 3, backoff: Duration::from_millis(100) };
        RetryPolicy::compile(&retry).unwrap()
    }

    fn response(status: u16, headers: &[(&'static str, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn responses_are_reasons_by_their_code() {
        let all = policy(&[500, 503, 504, 429]);
        for (case, policy, response, expected) in [
            ("a code", policy(&[500, 503]), response(503, &[]), true),
            ("another", policy(&[500, 503]), response(502, &[]), false),
            ("success", policy(&[500, 503]), response(200, &[]), false),
            ("no codes", policy(&[]), response(503, &[]), false),
            (
                "no connection to the application",
                policy(&[]),
                response(503, &[("x-heddle-error", "connect_timeout")]),
                true,
            ),
            (
                "lost by the other proxy: it may have been processed",
                policy(&[]),
                response(502, &[("x-heddle-error", "backend_lost")]),
                false,
            ),
            ("UNAVAILABLE", all.clone(), response(200, &[("grpc-status", "14")]), true),
            ("DEADLINE_EXCEEDED", all.clone(), response(200, &[("grpc-status", "4")]), true),
            ("RESOURCE_EXHAUSTED", all.clone(), response(200, &[("grpc-status", "8")]), true),
            ("INTERNAL", all.clone(), response(200, &[("grpc-status", "13")]), true),
            ("UNKNOWN", all.clone(), response(200, &[("grpc-status", "2")]), true),
            ("NOT_FOUND", all.clone(), response(200, &[("grpc-status", "5")]), false),
            ("OK", all, response(200, &[("grpc-status", "0")]), false),
            ("UNAVAILABLE for 500", policy(&[500]), response(200, &[("grpc-status", "14")]), false),
        ] {
            for method in [Method::GET, Method::POST] {
                let found = policy.asks_again(Ok(&response), &method);
                assert_eq!(found, expected, "case: {case}, {method}");
            }
        }
    }

    #[test]
    fn failures_are_reasons_unless_the_request_may_have_been_processed() {
        let limit = Duration::from_secs(1);
        let backend = || "default/api:80".to_owned();
        let address = ([10, 0, 0, 1], 80).into();
        let source = Box::new(ConnectError::Timeout { address, limit });
        for (error, get, post) in [
            (ProxyError::Connect { backend: backend(), source }, true, true),
            (ProxyError::BackendTimeout { limit }, true, false),
            (ProxyError::RequestTimeout { limit }, false, false),
            (ProxyError::NoEndpoint { backend: backend() }, false, false),
            (ProxyError::Overloaded { backend: backend() }, false, false),
        ] {
            for (method, expected) in [
                (Method::GET, get),
                (Method::PUT, get),
                (Method::POST, post),
                (Method::PATCH, post),
            ] {
                let found = policy(&[503, 504]).asks_again::<()>(Err(&error), &method);
                assert_eq!(found, expected, "case: {method} {error:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_reason_is_refused() {
        for (codes, attempts, part) in [
            (vec![503, 200], 1, "codes[1]"),
            (vec![600], 1, "codes[0]"),
            (vec![503], ATTEMPT_LIMIT + 1, "attempts"),
        ] {
            let retry = Retry { codes, attempts, backoff: Duration::ZERO };
            let refused = RetryPolicy::compile(&retry).unwrap_err();
            assert_eq!(refused.part, format!("retry.{part}"));
        }
    }

    proptest! {
        #[test]
        fn waits_double_within_their_bounds(
            backoff_millis in 0..20_000_u64,
            number in 0..200_u32,
            seed: u64,
        ) {
            let backoff = Duration::from_millis(backoff_millis);
            let policy = RetryPolicy { codes: Vec::new(), attempts: 3, backoff };
            let wait = policy.wait(number, &mut SmallRng::seed_from_u64(seed));
            let mut expected = backoff;
            for _doubled in 0..number {
                expected = (expected * 2).min(backoff.max(BACKOFF_LIMIT));
            }
            prop_assert!(wait >= expected, "{wait:?} is less than {expected:?}");
            prop_assert!(wait <= expected.mul_f64(1.5) + Duration::from_nanos(1));
        }
    }
}
