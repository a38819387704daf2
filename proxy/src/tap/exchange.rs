//! What a tap is told of a request. Pure.

use std::time::{Duration, SystemTime};

use heddle_model::tap::Shown;
use heddle_proto::tap as wire;
use http::Version;

use crate::http::call_record::{CallEnd, CallHead, CallRecord};
use crate::http::grpc::GrpcStatus;
use crate::metrics::{Direction, Protection};
use crate::tap::{redact, trace};

/// A record, without what is not to be seen.
pub fn of(record: &CallRecord<'_>, shown: &Shown, is_match: bool) -> wire::Exchange {
    let CallRecord { head, end, took_to_head, took, answered_in, attempts, .. } = record;
    let CallHead { began_at, direction, method, version, authority, path, service, .. } = head;
    let CallEnd { status, grpc_status, tls, error, backend, route, endpoint } = end;
    let peer = match direction {
        Direction::Inbound => head.caller.to_string(),
        Direction::Outbound => end.server().map(ToString::to_string).unwrap_or_default(),
    };
    let side = match direction {
        Direction::Inbound => wire::Side::Inbound,
        Direction::Outbound => wire::Side::Outbound,
    };
    wire::Exchange {
        workload: None,
        side: side.into(),
        began_unix_nanos: nanos(
            began_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        ),
        to_head_nanos: nanos(*took_to_head),
        took_nanos: nanos(*took),
        answered_in_nanos: answered_in.map(nanos),
        method: method.as_str().chars().take(METHOD_LIMIT).collect(),
        authority: authority.to_string(),
        path: redact::path(path),
        http_version: http_version(*version).to_owned(),
        status: u32::from(*status),
        grpc_status: match grpc_status {
            GrpcStatus::NotGrpc | GrpcStatus::Broken => None,
            GrpcStatus::Ended(code) => code.as_str().parse().ok(),
        },
        error: (*error).to_owned(),
        mtls: *tls == Protection::Mutual,
        service: service.to_string(),
        backend: backend.to_string(),
        route: route.to_string(),
        endpoint_pod: endpoint.as_ref().map(|it| it.endpoint.pod.clone()).unwrap_or_default(),
        endpoint_address: endpoint
            .as_ref()
            .map(|it| it.endpoint.address.to_string())
            .unwrap_or_default(),
        peer,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        attempts: *attempts,
        is_whole: record.is_whole,
        request_headers: redact::headers(head.headers.as_ref(), shown),
        response_headers: redact::headers(record.response_headers, shown),
        trace: trace::told(record),
        is_match,
    }
}

fn http_version(version: Version) -> &'static str {
    if version >= Version::HTTP_2 {
        "2"
    } else if version == Version::HTTP_11 {
        "1.1"
    } else {
        "1.0"
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Longer than any that is registered.
const METHOD_LIMIT: usize = 64;
