//! What is told of a request of HTTP, from what is known of it when it is over. Pure.
//!
//! No query, no header but the authority and the user agent, and nothing of a body: what may be secret is
//! not even here to be left out.

use std::fmt::Write as _;

use http::Version;

use crate::access_log::record::{Event, Label, Record};
use crate::http::call_record::{CallEnd, CallHead, CallRecord};
use crate::http::grpc::GrpcStatus;
use crate::metrics::calls::is_failure;
use crate::metrics::method::Method;
use crate::metrics::{Direction, Protection};
use crate::telemetry::calls::{error_type, grpc_status};

/// The line of a request.
pub(super) fn record<'a>(call: &CallRecord<'a>) -> Record<'a> {
    let CallRecord { head, end, .. } = *call;
    let error = reason(call);
    let at = head.began_at.checked_add(call.took).unwrap_or(head.began_at);
    let mut record = Record::new(Event::Request, at, !error.is_empty());
    asked(&mut record, head);
    record.number("http.response.status_code", Label::Place, end.status);
    record.seconds("heddle.duration", Label::Place, call.took);
    record.owned("error.type", Label::Named("error"), error);
    answered(&mut record, call);
    routed(&mut record, head, end);
    record.text("user_agent.original", Label::Named("agent"), &head.user_agent);
    record.trace = head.trace;
    if let Some(trace) = &head.trace {
        record.owned("trace_id", Label::Named("trace"), hexadecimal(&trace.trace));
        record.owned("span_id", Label::Named("span"), hexadecimal(&trace.span));
    }
    record
}

fn asked<'a>(record: &mut Record<'a>, head: &'a CallHead) {
    record.text("heddle.direction", Label::Place, head.direction.as_str());
    let method = Method::from(&head.method).as_str();
    record.text("", Label::Place, head.method.as_str());
    record.text("http.request.method", Label::Unsaid, method);
    if method != head.method.as_str() {
        let original = head.method.as_str();
        record.text("http.request.method_original", Label::Unsaid, original);
    }
    record.text("", Label::Place, &head.authority);
    let (host, port) = host_and_port(&head.authority);
    record.text("server.address", Label::Unsaid, host);
    if let Some(port) = port {
        record.number("server.port", Label::Unsaid, port);
    }
    record.text("url.path", Label::Place, &head.path);
    let version = version(head.version);
    record.owned("", Label::Place, format!("HTTP/{version}"));
    record.text("network.protocol.name", Label::Unsaid, "http");
    record.text("network.protocol.version", Label::Unsaid, version);
}

fn answered(record: &mut Record<'_>, call: &CallRecord<'_>) {
    let status = call.end.grpc_status;
    let is_grpc = status != GrpcStatus::NotGrpc;
    record.text("rpc.system.name", Label::Unsaid, if is_grpc { "grpc" } else { "" });
    record.text("rpc.response.status_code", Label::Named("grpc"), grpc_status(status));
    record.seconds("heddle.head_duration", Label::Named("head"), call.took_to_head);
    if let Some(answered) = call.answered_in {
        record.seconds("heddle.upstream_duration", Label::Named("upstream"), answered);
    }
    record.number("http.request.body.size", Label::Named("request"), call.request_bytes);
    record.number("http.response.body.size", Label::Named("response"), call.response_bytes);
    // The first time is none again.
    let resent = call.attempts.saturating_sub(1);
    if resent > 0 {
        record.number("http.request.resend_count", Label::Named("resent"), resent);
    }
}

fn routed<'a>(record: &mut Record<'a>, head: &'a CallHead, end: &'a CallEnd) {
    record.text("heddle.service", Label::Named("service"), &head.service);
    record.text("heddle.backend", Label::Named("backend"), &end.backend);
    record.text("heddle.route", Label::Named("route"), &end.route);
    let endpoint = end.endpoint.as_ref().map(|endpoint| &endpoint.endpoint);
    record.text("heddle.endpoint.pod", Label::Named("pod"), endpoint.map_or("", |one| &one.pod));
    let address = endpoint.map(|endpoint| endpoint.address);
    let names = ["network.peer.address", "network.peer.port"];
    record.address(names, Label::Named("endpoint"), address);
    let peer = match (head.direction, end.tls) {
        (Direction::Inbound, _) => head.caller.to_string(),
        (Direction::Outbound, Protection::Mutual) => {
            end.server().map(ToString::to_string).unwrap_or_default()
        }
        (Direction::Outbound, Protection::Plaintext) => String::new(),
    };
    record.owned("heddle.peer.identity", Label::Named("peer"), peer);
    record.text("heddle.tls", Label::Named("tls"), end.tls.as_str());
}

/// Whether it is among the errors.
pub(super) fn has_failed(call: &CallRecord<'_>) -> bool {
    !reason(call).is_empty()
}

/// Why a request is among the errors; empty: it is not. The proxy's own reasons are all there, also those
/// that blame the client: somebody was refused.
fn reason(call: &CallRecord<'_>) -> String {
    let CallEnd { status, grpc_status, error, .. } = *call.end;
    if !error.is_empty() || is_failure(status, grpc_status, error) {
        return error_type(status, grpc_status, error);
    }
    // The status of gRPC tells of this by itself.
    let is_broken = grpc_status == GrpcStatus::NotGrpc && !call.is_whole;
    if is_broken { INCOMPLETE.to_owned() } else { String::new() }
}

/// The port only if it is one: the rest is what it is, a text of the client's.
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        None => (authority, None),
    }
}

/// As semantic conventions write it.
fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of a response that has not passed whole: who was asked broke it off, or the client went away.
const INCOMPLETE: &str = "incomplete";
