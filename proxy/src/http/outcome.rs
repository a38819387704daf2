//! What a response tells of the endpoint that gave it. Pure; what follows is in balance/ejection.rs.

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};

use crate::balance::ejection::Sign;

/// By its head; `None` if only the trailers will tell.
pub fn of_head(status: StatusCode, headers: &HeaderMap) -> Option<Sign> {
    if status.is_server_error() {
        return Some(Sign::BadResponse);
    }
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return of_trailers(headers);
    }
    Some(Sign::GoodResponse)
}

/// By a gRPC status; `None` if there is none.
pub fn of_trailers(trailers: &HeaderMap) -> Option<Sign> {
    let status = trailers.get("grpc-status")?;
    let is_bad = blames_endpoint(status.as_bytes());
    Some(if is_bad { Sign::BadResponse } else { Sign::GoodResponse })
}

/// Whether a gRPC status, as it is written, tells of a fault of this one endpoint.
fn blames_endpoint(status: &[u8]) -> bool {
    SERVER_FAULTS.iter().any(|code| code.as_bytes() == status)
}

/// Unknown, deadline exceeded, internal, unavailable, data loss. "Unimplemented" counts as a failure (see
/// `metrics/calls.rs`), but tells nothing of this endpoint: all others lack the method too, and who calls it
/// must not take them all away from everybody.
const SERVER_FAULTS: [&str; 5] = ["2", "4", "13", "14", "15"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_tell_of_their_endpoint() {
        for (case, status, headers, expected) in [
            ("ok", 200, &[][..], Some(Sign::GoodResponse)),
            ("the client's fault", 404, &[], Some(Sign::GoodResponse)),
            ("the server's", 503, &[], Some(Sign::BadResponse)),
            ("gRPC that has only begun", 200, &[("content-type", "application/grpc")], None),
            (
                "gRPC that is unavailable",
                200,
                &[("content-type", "application/grpc+proto"), ("grpc-status", "14")],
                Some(Sign::BadResponse),
            ),
            (
                "gRPC that does not find it",
                200,
                &[("content-type", "application/grpc"), ("grpc-status", "5")],
                Some(Sign::GoodResponse),
            ),
            ("no gRPC", 200, &[("grpc-status", "14")], Some(Sign::GoodResponse)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(of_head(status, &map), expected, "case: {case}");
        }
    }
}
