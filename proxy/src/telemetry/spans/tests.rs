//! What spans say of requests of all kinds.

use std::time::Duration;

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use http::{Method as HttpMethod, Version};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::*;
use crate::balance::backend::BackendState;
use crate::balance::endpoint::BalancedEndpoint;
use crate::metrics::Protection;
use crate::testing;

const IDS: TraceIds =
    TraceIds { trace: [1; 16], span: [2; 8], parent: Some([3; 8]), is_sampled: true };

/// A request that can be changed before it is told of.
struct Call {
    head: CallHead,
    end: CallEnd,
    attempts: u32,
    is_whole: bool,
}

fn call(direction: Direction) -> Call {
    let peer = ExpectedPeer::Mesh {
        identity: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
        pod_uid: testing::pod_uid("api"),
    };
    let endpoint = Endpoint {
        address: ([10, 0, 0, 9], 8080).into(),
        peer,
        zone: String::new(),
        node: String::new(),
        pod: "shop/api-1".to_owned(),
    };
    let is_outbound = direction == Direction::Outbound;
    let backend = BackendState::new("shop/api-v2:80".into());
    let (service, caller) = match is_outbound {
        true => ("shop/api:80", ""),
        false => ("", "spiffe://cluster.local/ns/shop/sa/web"),
    };
    Call {
        head: CallHead {
            began_at: std::time::UNIX_EPOCH + Duration::from_secs(5),
            direction,
            method: HttpMethod::GET,
            version: Version::HTTP_11,
            authority: "api.shop:80".into(),
            path: "/cart/7".into(),
            user_agent: "".into(),
            service: service.into(),
            caller: caller.into(),
            headers: None,
            trace: Some(IDS),
            trace_state: "a=1".into(),
        },
        end: CallEnd {
            status: 200,
            grpc_status: GrpcStatus::NotGrpc,
            tls: Protection::Mutual,
            error: "",
            backend: "shop/api-v2:80".into(),
            route: if is_outbound { "canary".into() } else { "".into() },
            endpoint: Some(BalancedEndpoint::new(endpoint.into(), backend, false)),
        },
        attempts: 1,
        is_whole: true,
    }
}

impl Call {
    fn span(&self) -> Span {
        let record = CallRecord {
            head: &self.head,
            end: &self.end,
            took_to_head: Duration::from_millis(3),
            took: Duration::from_millis(7),
            answered_in: None,
            attempts: self.attempts,
            request_bytes: 4,
            response_bytes: 9,
            is_whole: self.is_whole,
            response_headers: None,
        };
        span(&record, &IDS)
    }
}

fn said_of(span: &Span) -> Vec<String> {
    let mut said: Vec<String> = span
        .attributes
        .iter()
        .map(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            match value {
                Some(Value::StringValue(text)) => format!("{}={text}", attribute.key),
                Some(Value::IntValue(number)) => format!("{}={number}", attribute.key),
                other => panic!("{}: {other:?}", attribute.key),
            }
        })
        .collect();
    said.sort();
    said
}

#[test]
fn a_client_span_says_what_was_called_and_who_answered() {
    let span = Call { attempts: 3, ..call(Direction::Outbound) }.span();
    assert_eq!((span.name.as_str(), span.kind), ("GET canary", SpanKind::Client as i32));
    assert_eq!((&span.trace_id[..], &span.span_id[..]), (&[1; 16][..], &[2; 8][..]));
    assert_eq!((&span.parent_span_id[..], span.flags), (&[3; 8][..], 0x301));
    assert_eq!(span.trace_state, "a=1");
    assert_eq!(span.start_time_unix_nano, 5_000_000_000);
    assert_eq!(span.end_time_unix_nano, 5_007_000_000);
    assert_eq!(span.status, None);
    insta::assert_snapshot!(said_of(&span).join("\n"), @r"
    heddle.backend.pod=shop/api-1
    heddle.backend=shop/api-v2:80
    heddle.peer.identity=spiffe://cluster.local/ns/shop/sa/api
    heddle.route=canary
    heddle.service=shop/api:80
    heddle.tls=mtls
    http.request.body.size=4
    http.request.method=GET
    http.request.resend_count=2
    http.response.body.size=9
    http.response.status_code=200
    network.peer.address=10.0.0.9
    network.peer.port=8080
    network.protocol.version=1.1
    server.address=api.shop
    server.port=80
    url.full=http://api.shop:80/cart/7
    url.path=/cart/7
    url.scheme=http
    ");
}

#[test]
fn a_server_span_says_who_called() {
    let span = call(Direction::Inbound).span();
    assert_eq!((span.name.as_str(), span.kind), ("GET", SpanKind::Server as i32));
    insta::assert_snapshot!(said_of(&span).join("\n"), @r"
    heddle.backend=shop/api-v2:80
    heddle.peer.identity=spiffe://cluster.local/ns/shop/sa/web
    heddle.tls=mtls
    http.request.body.size=4
    http.request.method=GET
    http.response.body.size=9
    http.response.status_code=200
    network.protocol.version=1.1
    server.address=api.shop
    server.port=80
    url.path=/cart/7
    url.scheme=http
    ");
}

#[test]
fn a_call_of_grpc_is_named_by_its_method_and_says_how_it_ended() {
    let grpc = |path: &str, direction| {
        let Call { head, end, .. } = call(direction);
        let head = CallHead { path: path.into(), method: HttpMethod::POST, ..head };
        let end = CallEnd { grpc_status: GrpcStatus::Ended(Code::Unavailable), ..end };
        Call { head, end, attempts: 1, is_whole: true }.span()
    };
    let span = grpc("/shop.v1.Cart/Add", Direction::Inbound);
    assert_eq!(span.name, "shop.v1.Cart/Add");
    let said = said_of(&span);
    for wanted in [
        "rpc.system.name=grpc",
        "rpc.method=shop.v1.Cart/Add",
        "rpc.response.status_code=UNAVAILABLE",
        "error.type=UNAVAILABLE",
    ] {
        assert!(said.iter().any(|one| one == wanted), "{wanted}: {said:?}");
    }
    for path in ["/shop.v1.Cart", "/a/b/c", "/a b/c", "//", "/a/"] {
        assert_eq!(grpc(path, Direction::Outbound).name, "POST canary", "case: {path}");
    }
}

#[test]
fn a_span_fails_as_the_conventions_have_it() {
    use Direction::{Inbound, Outbound};
    let ended = GrpcStatus::Ended;
    for (case, direction, status, grpc, error, is_whole, expected) in [
        ("good", Outbound, 200, GrpcStatus::NotGrpc, "", true, (false, "")),
        ("a client's 404", Outbound, 404, GrpcStatus::NotGrpc, "", true, (true, "404")),
        ("a server's 404", Inbound, 404, GrpcStatus::NotGrpc, "", true, (false, "")),
        ("500", Inbound, 500, GrpcStatus::NotGrpc, "", true, (true, "500")),
        ("our own", Outbound, 503, GrpcStatus::NotGrpc, "no_endpoint", true, (true, "no_endpoint")),
        ("we refuse", Inbound, 403, GrpcStatus::NotGrpc, "policy", true, (false, "policy")),
        ("cut off", Inbound, 200, GrpcStatus::NotGrpc, "", false, (true, "response_broken")),
        ("gRPC, good", Outbound, 200, ended(Code::Ok), "", true, (false, "")),
        ("not found", Outbound, 200, ended(Code::NotFound), "", true, (true, "NOT_FOUND")),
        ("not found, here", Inbound, 200, ended(Code::NotFound), "", true, (false, "")),
        (
            "no such call",
            Inbound,
            200,
            ended(Code::Unimplemented),
            "",
            true,
            (true, "UNIMPLEMENTED"),
        ),
        ("gRPC, cut off", Inbound, 200, GrpcStatus::Broken, "", false, (true, "broken")),
    ] {
        let Call { head, end, .. } = call(direction);
        let end = CallEnd { status, grpc_status: grpc, error, ..end };
        let span = Call { head, end, attempts: 1, is_whole }.span();
        let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
        let said = said_of(&span);
        let error = said.iter().find_map(|one| one.strip_prefix("error.type="));
        assert_eq!((failed, error.unwrap_or_default()), expected, "case: {case}");
    }
}

#[test]
fn what_a_client_makes_up_is_told_as_such() {
    let Call { head, end, .. } = call(Direction::Inbound);
    let method = HttpMethod::from_bytes(b"BREW").unwrap();
    let head = CallHead { method, authority: "[fd42::1]:81".into(), ..head };
    let span = Call { head, end, attempts: 1, is_whole: true }.span();
    assert_eq!(span.name, "HTTP");
    let said = said_of(&span);
    for wanted in [
        "http.request.method=_OTHER",
        "http.request.method_original=BREW",
        "server.address=fd42::1",
        "server.port=81",
    ] {
        assert!(said.iter().any(|one| one == wanted), "{wanted}: {said:?}");
    }
}

#[test]
fn authorities_are_a_host_and_maybe_a_port() {
    for (authority, expected) in [
        ("a", ("a", None)),
        ("a:80", ("a", Some(80))),
        ("a:x", ("a:x", None)),
        ("[::1]:8080", ("::1", Some(8080))),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
        ("", ("", None)),
        (":80", (":80", None)),
    ] {
        assert_eq!(host_and_port(authority), expected, "case: {authority}");
    }
}

#[test]
fn a_client_that_went_has_no_status() {
    let Call { head, end, .. } = call(Direction::Outbound);
    let end = CallEnd { status: 499, error: CLIENT_CANCELLED, endpoint: None, ..end };
    let span = Call { head, end, attempts: 1, is_whole: false }.span();
    let said = said_of(&span);
    assert!(!said.iter().any(|one| one.starts_with("http.response.status_code")), "{said:?}");
    assert!(said.contains(&"error.type=client_cancelled".to_owned()), "{said:?}");
}
