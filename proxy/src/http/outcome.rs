//! What a response tells of the endpoint that gave it. Pure; what follows is in balance/ejection.rs.

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};

use crate::balance::ejection::Sign;

/// By its head; `None` if only the trailers will tell.
pub fn of_head(status: StatusCode, headers: &HeaderMap) -> Option<Sign> {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    of_fields(status.as_u16(), value(CONTENT_TYPE.as_str()), || value(GRPC_STATUS))
}

/// By what its head says.
pub fn of_fields<'a>(
    status: u16,
    content_type: Option<&[u8]>,
    grpc_status: impl FnOnce() -> Option<&'a [u8]>,
) -> Option<Sign> {
    if status >= 500 {
        return Some(Sign::BadResponse);
    }
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return grpc_status().map(of_grpc_status);
    }
    Some(Sign::GoodResponse)
}

/// By a gRPC status; `None` if there is none.
pub fn of_trailers(trailers: &HeaderMap) -> Option<Sign> {
    trailers.get(GRPC_STATUS).map(|status| of_grpc_status(status.as_bytes()))
}

/// By a gRPC status, as it is written.
pub fn of_grpc_status(status: &[u8]) -> Sign {
    if blames_endpoint(status) { Sign::BadResponse } else { Sign::GoodResponse }
}

/// Whether a gRPC status, as it is written, tells of a fault of this one endpoint.
fn blames_endpoint(status: &[u8]) -> bool {
    SERVER_FAULTS.iter().any(|code| code.as_bytes() == status)
}

/// Of gRPC's status, in a head or in trailers.
pub const GRPC_STATUS: &str = "grpc-status";
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
