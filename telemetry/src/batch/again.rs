//! Whether a batch that was not taken is sent again, and when. Pure.
//!
//! Source: "OpenTelemetry Protocol", failures of OTLP/gRPC and OTLP/HTTP.

use std::time::Duration;

use http::StatusCode;
use prost::Message;
use tonic::Code;

use crate::collector::SendError;

/// What is done with a batch that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would never be taken.
    Never,
    /// It is sent again, after a while.
    Later,
    /// It is sent again when the receiver wants it.
    After(Duration),
}

pub(super) fn again(error: &SendError) -> Again {
    match error {
        SendError::NotConnected
        | SendError::Timeout
        | SendError::Connect { .. }
        | SendError::Http(_) => Again::Later,
        // It was taken, as far as can be known.
        SendError::Unreadable(_) => Again::Never,
        SendError::Status { status, retry_after } => match *status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => retry_after.map_or(Again::Later, Again::After),
            _ => Again::Never,
        },
        SendError::Refused(status) => match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => retry_delay(status.details()).map_or(Again::Later, Again::After),
            // What is exhausted for good is not told when to come again.
            Code::ResourceExhausted => {
                retry_delay(status.details()).map_or(Again::Never, Again::After)
            }
            Code::Ok
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Internal
            | Code::Unauthenticated => Again::Never,
        },
    }
}

/// What `google.rpc.RetryInfo` in a status says.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = StatusDetails::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with(RETRY_INFO))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let (seconds, nanos) = (delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos)))
}

/// The part of `google.rpc.Status` that is read.
#[derive(Clone, PartialEq, Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO: &str = "/google.rpc.RetryInfo";

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn details(seconds: i64, nanos: i32) -> Vec<u8> {
        let info = RetryInfo { retry_delay: Some(Delay { seconds, nanos }) };
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        let value = info.encode_to_vec();
        let other =
            Detail { type_url: "type.googleapis.com/google.rpc.Help".into(), value: vec![1] };
        StatusDetails { details: vec![other, Detail { type_url, value }] }.encode_to_vec()
    }

    #[test]
    fn what_may_be_taken_later_is_sent_again() {
        let http = |status: u16, seconds: Option<u64>| SendError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let grpc = |code, details: Vec<u8>| {
            SendError::Refused(Box::new(Status::with_details(code, "", details.into())))
        };
        let none = Vec::new;
        let half = Again::After(Duration::from_millis(2500));
        for (case, error, expected) in [
            ("no answer", SendError::Timeout, Again::Later),
            ("no connection", SendError::NotConnected, Again::Later),
            ("503", http(503, None), Again::Later),
            ("429 with a time", http(429, Some(7)), Again::After(Duration::from_secs(7))),
            ("502", http(502, None), Again::Later),
            ("504", http(504, None), Again::Later),
            ("400", http(400, Some(7)), Again::Never),
            ("500", http(500, None), Again::Never),
            ("a redirect", http(302, None), Again::Never),
            ("unavailable", grpc(Code::Unavailable, none()), Again::Later),
            ("unavailable with a time", grpc(Code::Unavailable, details(2, 500_000_000)), half),
            ("exhausted", grpc(Code::ResourceExhausted, none()), Again::Never),
            ("exhausted with a time", grpc(Code::ResourceExhausted, details(2, 500_000_000)), half),
            ("a negative time", grpc(Code::ResourceExhausted, details(-2, 0)), Again::Never),
            ("details that are none", grpc(Code::ResourceExhausted, vec![0xff]), Again::Never),
            ("not allowed", grpc(Code::PermissionDenied, none()), Again::Never),
            ("unimplemented", grpc(Code::Unimplemented, details(1, 0)), Again::Never),
        ] {
            assert_eq!(again(&error), expected, "case: {case}");
        }
    }
}
