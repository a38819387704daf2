//! What a span says of a request: names, attributes and status as OpenTelemetry's semantic conventions
//! have them for HTTP and RPC, and the mesh's own beside them. Pure. No query, and no header's value but those of the trace.
//!
//! Source: semantic conventions 1.37, "HTTP spans" and "gRPC"; the proto's `SpanFlags`.

use heddle_telemetry::otlp::{number, text, unix_nanos};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::http::call_record::{CallEnd, CallHead, CallRecord, TraceIds};
use crate::http::grpc::{Code, GrpcStatus};
use crate::metrics::method::Method;
use crate::metrics::{CLIENT_CANCELLED, Direction, RESPONSE_BROKEN};
use crate::telemetry::calls::grpc_status;
use crate::telemetry::gather::SCOPE;

/// Who says so.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The span of a request that is over.
pub fn span(record: &CallRecord<'_>, ids: &TraceIds) -> Span {
    let CallRecord { head, end, .. } = record;
    let kind = match head.direction {
        Direction::Inbound => SpanKind::Server,
        Direction::Outbound => SpanKind::Client,
    };
    let error = error_type(record);
    let is_failure = tells_of_failure(record) || (end.error.is_empty() && !record.is_whole);
    let status = is_failure.then(failed);
    let began = unix_nanos(head.began_at);
    let took = u64::try_from(record.took.as_nanos()).unwrap_or(u64::MAX);
    // Whoever sent the request is in another process; of a trace that begins here there is nobody.
    let remote = if ids.parent.is_some() { HAS_IS_REMOTE | IS_REMOTE } else { HAS_IS_REMOTE };
    let mut attributes = of_http(record);
    attributes.extend(of_grpc(head, end));
    attributes.extend(of_mesh(record));
    attributes.extend(said("error.type", &error));
    Span {
        trace_id: ids.trace.to_vec(),
        span_id: ids.span.to_vec(),
        parent_span_id: ids.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        trace_state: head.trace_state.to_string(),
        flags: SAMPLED | remote,
        name: name(head, end),
        kind: kind.into(),
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(took),
        attributes,
        status,
        ..Span::default()
    }
}

/// Of few values, so that spans can be grouped by it: of gRPC the method's name, if it is one; else the
/// method, and the route's name if there is one.
fn name(head: &CallHead, end: &CallEnd) -> String {
    if let Some(method) = rpc_method(head, end) {
        return method.to_owned();
    }
    let known = Method::from(&head.method);
    let method = if known == Method::Other { "HTTP" } else { known.as_str() };
    match &*end.route {
        "" => method.to_owned(),
        route => format!("{method} {route}"),
    }
}

fn of_http(record: &CallRecord<'_>) -> Vec<KeyValue> {
    let CallRecord { head, end, .. } = record;
    let method = Method::from(&head.method);
    let mut attributes = vec![
        text("http.request.method", method.as_str()),
        text("url.scheme", "http"),
        text("url.path", &*head.path),
        text("network.protocol.version", version(head.version)),
        number("http.request.body.size", signed(record.request_bytes)),
        number("http.response.body.size", signed(record.response_bytes)),
    ];
    if method == Method::Other {
        attributes.extend(said("http.request.method_original", head.method.as_str()));
    }
    // A client that went has seen no answer.
    if end.error != CLIENT_CANCELLED {
        attributes.push(number("http.response.status_code", end.status.into()));
    }
    let (host, port) = host_and_port(&head.authority);
    attributes.extend(said("server.address", host));
    attributes.extend(port.map(|port| number("server.port", port.into())));
    if head.direction == Direction::Outbound {
        let at = port.map_or_else(String::new, |port| format!(":{port}"));
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("http://{bracketed}{at}{}", head.path);
        attributes.extend((!host.is_empty()).then(|| text("url.full", url)));
        if let Some(endpoint) = &end.endpoint {
            let address = endpoint.endpoint.address;
            attributes.push(text("network.peer.address", address.ip().to_string()));
            attributes.push(number("network.peer.port", address.port().into()));
        }
        if record.attempts > 1 {
            let again = i64::from(record.attempts) - 1;
            attributes.push(number("http.request.resend_count", again));
        }
    }
    attributes
}

fn of_grpc(head: &CallHead, end: &CallEnd) -> Vec<KeyValue> {
    let status = grpc_status(end.grpc_status);
    if status.is_empty() {
        return Vec::new();
    }
    let mut attributes =
        vec![text("rpc.system.name", "grpc"), text("rpc.response.status_code", status)];
    attributes.extend(rpc_method(head, end).map(|method| text("rpc.method", method)));
    attributes
}

fn of_mesh(record: &CallRecord<'_>) -> Vec<KeyValue> {
    let CallRecord { head, end, .. } = record;
    let server = || end.server().map(ToString::to_string).unwrap_or_default();
    let peer = match head.direction {
        Direction::Inbound => head.caller.to_string(),
        Direction::Outbound => server(),
    };
    let pod = end.endpoint.as_ref().map_or("", |endpoint| &endpoint.endpoint.pod);
    let pod = if head.direction == Direction::Outbound { pod } else { "" };
    let texts: [(&str, &str); 6] = [
        ("heddle.peer.identity", peer.as_str()),
        ("heddle.service", &head.service),
        ("heddle.backend", &end.backend),
        ("heddle.backend.pod", pod),
        ("heddle.route", &end.route),
        ("heddle.tls", end.tls.as_str()),
    ];
    texts.into_iter().filter_map(|(key, value)| said(key, value)).collect()
}

/// Why it failed: the proxy's own reason, or else the status that tells of it. Empty: it did not. What the
/// proxy refuses is told of also where it is the client's doing, and the span is no failure.
fn error_type(record: &CallRecord<'_>) -> String {
    let end = record.end;
    if !end.error.is_empty() {
        return end.error.to_owned();
    }
    match (tells_of_failure(record), end.grpc_status) {
        (true, GrpcStatus::NotGrpc) => end.status.to_string(),
        (true, GrpcStatus::Ended(_) | GrpcStatus::Broken) => {
            grpc_status(end.grpc_status).to_owned()
        }
        (false, _) if !record.is_whole => RESPONSE_BROKEN.to_owned(),
        (false, _) => String::new(),
    }
}

/// Whether its status tells of a failure. A client is let down by each error, a server has failed only if
/// it says so.
fn tells_of_failure(record: &CallRecord<'_>) -> bool {
    let CallRecord { head, end, .. } = record;
    let is_client = head.direction == Direction::Outbound;
    match end.grpc_status {
        GrpcStatus::Broken => true,
        GrpcStatus::Ended(Code::Ok) => false,
        GrpcStatus::Ended(code) => is_client || code.blames_server(),
        GrpcStatus::NotGrpc => end.status >= if is_client { 400 } else { 500 },
    }
}

fn failed() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}

/// `package.Service/Method`, if the path is one and no more.
fn rpc_method<'a>(head: &'a CallHead, end: &CallEnd) -> Option<&'a str> {
    let is_grpc = match end.grpc_status {
        GrpcStatus::NotGrpc => false,
        GrpcStatus::Ended(_) | GrpcStatus::Broken => true,
    };
    let method = head.path.strip_prefix('/').filter(|_| is_grpc)?;
    let (service, name) = method.split_once('/')?;
    let is_name = |text: &str| {
        let in_name = |octet: u8| octet.is_ascii_alphanumeric() || b"._".contains(&octet);
        !text.is_empty() && text.bytes().all(in_name)
    };
    (is_name(service) && is_name(name)).then_some(method)
}

/// Without brackets.
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let is_bare_ipv6 = authority.matches(':').count() > 1 && !authority.starts_with('[');
    let (host, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !is_bare_ipv6 && !name.is_empty() => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (authority, None),
        },
        Some(_) | None => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn said(key: &str, value: &str) -> Option<KeyValue> {
    (!value.is_empty()).then(|| text(key, value))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// W3C's flag, which spans have in their lowest bits.
const SAMPLED: u32 = 0x01;
/// It is known whether the parent is elsewhere.
const HAS_IS_REMOTE: u32 = 0x100;
/// It is.
const IS_REMOTE: u32 = 0x200;

#[cfg(test)]
mod tests;
