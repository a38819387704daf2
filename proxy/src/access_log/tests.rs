//! What is written down of which request and connection, and that nobody can forge a line.

use std::io::{self, Write};
use std::time::SystemTime;

use heddle_model::access_log::{AccessLog as Wanted, AccessLogWish};
use http::{Method, Version};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::access_log::metrics::LineMetrics;
use crate::http::call_record::{CallEnd, CallHead, TraceIds};
use crate::http::grpc::{Code, GrpcStatus};
use crate::metrics::Protection;
use crate::tcp::FlowCounter;

/// A log whose lines are kept.
#[derive(Clone)]
struct Kept {
    log: AccessLog,
    switch: Arc<Switch>,
    written: Arc<Mutex<Vec<u8>>>,
}

struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn new(mode: AccessLogMode, format: AccessLogFormat) -> Self {
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let switch = Arc::new(Switch::new(Wanted { mode, format }));
        let lines = Lines::to(LineMetrics::default(), Output(Arc::clone(&written)));
        Self { log: AccessLog::new(Arc::clone(&switch), lines, None), switch, written }
    }

    async fn lines(&self) -> Vec<String> {
        self.log.flush(Duration::from_secs(60)).await;
        let text = String::from_utf8(self.written.lock().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(ToOwned::to_owned).collect()
    }

    async fn objects(&self) -> Vec<Value> {
        let lines = self.lines().await;
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A request, as it is told of.
struct Call {
    head: CallHead,
    end: CallEnd,
    is_whole: bool,
}

impl Call {
    fn new(status: u16, error: &'static str) -> Self {
        let head = CallHead {
            began_at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_692_000_000_000),
            direction: Direction::Outbound,
            method: Method::GET,
            version: Version::HTTP_11,
            authority: "api:8080".into(),
            path: "/orders/7".into(),
            user_agent: "curl/8.14".into(),
            service: "shop/api:8080".into(),
            caller: "".into(),
            headers: None,
            trace: None,
            trace_state: "".into(),
        };
        let end = CallEnd {
            status,
            grpc_status: GrpcStatus::NotGrpc,
            tls: Protection::Plaintext,
            error,
            backend: "shop/api-v1:8080".into(),
            route: "api".into(),
            endpoint: None,
        };
        Self { head, end, is_whole: true }
    }

    fn grpc(mut self, status: GrpcStatus) -> Self {
        self.end.grpc_status = status;
        self
    }

    fn tell(&self, log: &AccessLog) {
        log.tell(&CallRecord {
            head: &self.head,
            end: &self.end,
            took_to_head: Duration::from_micros(1500),
            took: Duration::from_micros(2500),
            answered_in: Some(Duration::from_millis(1)),
            attempts: 2,
            request_bytes: 3,
            response_bytes: 42,
            is_whole: self.is_whole,
            response_headers: None,
        });
    }
}

fn inbound(mut call: Call) -> Call {
    call.head.direction = Direction::Inbound;
    call.head.service = "".into();
    call.head.caller = "spiffe://cluster.local/ns/shop/sa/web".into();
    call.head.version = Version::HTTP_2;
    call.head.trace =
        Some(TraceIds { trace: [0xab; 16], span: [0x01; 8], parent: None, is_sampled: true });
    call.end.tls = Protection::Mutual;
    call
}

#[tokio::test]
async fn a_request_is_one_object_of_json() {
    let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Json);
    Call::new(200, "").tell(&kept.log);
    inbound(Call::new(503, "connect")).grpc(GrpcStatus::Ended(Code::Unavailable)).tell(&kept.log);
    insta::assert_snapshot!(kept.lines().await.join("\n"), @r#"
    {"timestamp":"2026-11-26T11:20:00.002500Z","severity":"INFO","event.name":"heddle.http.request","heddle.direction":"outbound","http.request.method":"GET","server.address":"api","server.port":8080,"url.path":"/orders/7","network.protocol.name":"http","network.protocol.version":"1.1","http.response.status_code":200,"heddle.duration":0.002500,"heddle.head_duration":0.001500,"heddle.upstream_duration":0.001000,"http.request.body.size":3,"http.response.body.size":42,"http.request.resend_count":1,"heddle.service":"shop/api:8080","heddle.backend":"shop/api-v1:8080","heddle.route":"api","heddle.tls":"plaintext","user_agent.original":"curl/8.14"}
    {"timestamp":"2026-11-26T11:20:00.002500Z","severity":"ERROR","event.name":"heddle.http.request","heddle.direction":"inbound","http.request.method":"GET","server.address":"api","server.port":8080,"url.path":"/orders/7","network.protocol.name":"http","network.protocol.version":"2","http.response.status_code":503,"heddle.duration":0.002500,"error.type":"connect","rpc.system.name":"grpc","rpc.response.status_code":"UNAVAILABLE","heddle.head_duration":0.001500,"heddle.upstream_duration":0.001000,"http.request.body.size":3,"http.response.body.size":42,"http.request.resend_count":1,"heddle.backend":"shop/api-v1:8080","heddle.route":"api","heddle.peer.identity":"spiffe://cluster.local/ns/shop/sa/web","heddle.tls":"mtls","user_agent.original":"curl/8.14","trace_id":"abababababababababababababababab","span_id":"0101010101010101"}
    "#);
}

#[tokio::test]
async fn a_request_is_one_line_for_people() {
    let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Text);
    Call::new(200, "").tell(&kept.log);
    inbound(Call::new(503, "connect")).grpc(GrpcStatus::Ended(Code::Unavailable)).tell(&kept.log);
    let mut silent = Call::new(404, "no_route");
    silent.head.authority = "".into();
    silent.head.user_agent = "".into();
    silent.head.method = Method::from_bytes(b"BREW").unwrap();
    silent.tell(&kept.log);
    insta::assert_snapshot!(kept.lines().await.join("\n"), @r#"
    2026-11-26T11:20:00.002500Z outbound GET api:8080 /orders/7 HTTP/1.1 200 0.002500s head=0.001500s upstream=0.001000s request=3 response=42 resent=1 service=shop/api:8080 backend=shop/api-v1:8080 route=api tls=plaintext agent=curl/8.14
    2026-11-26T11:20:00.002500Z inbound GET api:8080 /orders/7 HTTP/2 503 0.002500s error=connect grpc=UNAVAILABLE head=0.001500s upstream=0.001000s request=3 response=42 resent=1 backend=shop/api-v1:8080 route=api peer=spiffe://cluster.local/ns/shop/sa/web tls=mtls agent=curl/8.14 trace=abababababababababababababababab span=0101010101010101
    2026-11-26T11:20:00.002500Z outbound BREW - /orders/7 HTTP/1.1 404 0.002500s error=no_route head=0.001500s upstream=0.001000s request=3 response=42 resent=1 service=shop/api:8080 backend=shop/api-v1:8080 route=api tls=plaintext
    "#);
}

#[tokio::test]
async fn the_mode_decides_which_requests_are_written_down() {
    for (case, call, is_error) in [
        ("success", Call::new(200, ""), false),
        ("the client's mistake", Call::new(404, ""), false),
        ("the application's", Call::new(500, ""), true),
        ("the proxy's answer", Call::new(503, "no_endpoint"), true),
        ("a client that was refused", Call::new(403, "plaintext"), true),
        ("a client that went away", Call::new(499, "client_cancelled"), true),
        ("gRPC", Call::new(200, "").grpc(GrpcStatus::Ended(Code::Ok)), false),
        (
            "gRPC that finds nothing",
            Call::new(200, "").grpc(GrpcStatus::Ended(Code::NotFound)),
            false,
        ),
        ("gRPC that fails", Call::new(200, "").grpc(GrpcStatus::Ended(Code::Internal)), true),
        ("gRPC that broke off", Call::new(200, "").grpc(GrpcStatus::Broken), true),
        ("broken off", Call { is_whole: false, ..Call::new(200, "") }, true),
        (
            "a stream of gRPC that its caller leaves",
            Call { is_whole: false, ..Call::new(200, "").grpc(GrpcStatus::Ended(Code::Cancelled)) },
            false,
        ),
    ] {
        for (mode, expected) in [
            (AccessLogMode::Off, 0),
            (AccessLogMode::Errors, usize::from(is_error)),
            (AccessLogMode::All, 1),
        ] {
            let kept = Kept::new(mode, AccessLogFormat::Json);
            call.tell(&kept.log);
            let told = kept.objects().await;
            assert_eq!(told.len(), expected, "case: {case}, {mode}");
            for line in told {
                assert_eq!(line["severity"] == "ERROR", is_error, "case: {case}: {line}");
                assert_eq!(line.get("error.type").is_some(), is_error, "case: {case}: {line}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_workload_says_counts_from_the_next_line_on() {
    let kept = Kept::new(AccessLogMode::Off, AccessLogFormat::Text);
    let call = Call::new(200, "");
    call.tell(&kept.log);
    let wish = |mode| AccessLogWish { mode: Some(mode), format: Some(AccessLogFormat::Json) };
    kept.switch.follow(wish(AccessLogMode::All));
    call.tell(&kept.log);
    kept.switch.follow(wish(AccessLogMode::Errors));
    call.tell(&kept.log);
    kept.switch.follow(AccessLogWish::default());
    Call::new(500, "").tell(&kept.log);
    assert_eq!(kept.objects().await.len(), 1);
}

#[tokio::test]
async fn whatever_a_client_writes_it_is_one_line_that_says_so() {
    for (case, text) in [
        ("a line feed", "/a\n2026-11-26T11:20:00.000000Z outbound GET api /forged"),
        ("a carriage return", "/a\r{\"timestamp\":\"forged\"}"),
        ("quotes", "/a\",\"http.response.status_code\":200,\"x\":\""),
        ("a terminal's colours", "/\x1b[2K\x1b[31mforged"),
        ("a terminal's colours in one byte", "/\u{9b}31m"),
        ("zero", "/\0"),
        ("no UTF-8 once", "/\u{fffd}"),
        ("spaces", "/a 200 0.000001s error=none"),
        ("text that runs backwards", "/\u{202e}a"),
    ] {
        let mut call = Call::new(503, "connect");
        call.head.path = text.into();
        call.head.authority = text.into();
        call.head.user_agent = text.into();
        let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Json);
        call.tell(&kept.log);
        let told = kept.objects().await;
        assert_eq!(told.len(), 1, "case: {case}");
        assert_eq!(told[0]["url.path"], text, "case: {case}");
        assert_eq!(told[0]["user_agent.original"], text, "case: {case}");
        assert_eq!(told[0]["http.response.status_code"], 503, "case: {case}");

        let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Text);
        call.tell(&kept.log);
        let lines = kept.lines().await;
        assert_eq!(lines.len(), 1, "case: {case}");
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
        assert!(lines[0].bytes().all(is_plain), "case: {case}: {}", lines[0]);
        let quoted = format!("\"{}\"", text.escape_default());
        let begins =
            format!("2026-11-26T11:20:00.002500Z outbound GET {quoted} {quoted} HTTP/1.1 503 ");
        assert!(lines[0].starts_with(&begins), "case: {case}: {}", lines[0]);
    }
}

proptest! {
    #[test]
    fn a_line_is_bounded_whatever_is_written(length in 0..5000_usize, letter in any::<char>()) {
        let mut call = inbound(Call::new(200, ""));
        let text: String = std::iter::repeat_n(letter, length).collect();
        call.head.path = text.as_str().into();
        call.head.authority = text.as_str().into();
        call.head.user_agent = text.as_str().into();
        let record = CallRecord {
            head: &call.head,
            end: &call.end,
            took_to_head: Duration::ZERO,
            took: Duration::ZERO,
            answered_in: None,
            attempts: 0,
            request_bytes: 0,
            response_bytes: 0,
            is_whole: true,
            response_headers: None,
        };
        let record = request::record(&record);
        for line in [json::line(&record), text::line(&record)] {
            prop_assert!(line.len() < 32 * 1024, "{}", line.len());
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
}

fn target() -> Target {
    Target {
        service: "shop/db:5432".into(),
        backend: "shop/db:5432".into(),
        pod: "db-0".to_owned(),
        address: Some(([10, 42, 0, 9], 5432).into()),
        identity: Some("spiffe://cluster.local/ns/shop/sa/db".parse().unwrap()),
        tls: Protection::Mutual,
        protocol: "opaque",
    }
}

fn passage() -> Passage {
    let client = Some(([10, 42, 0, 7], 40_000).into());
    Passage::begun(Direction::Outbound, client, Some(([10, 43, 0, 2], 5432).into()))
}

fn bytes() -> ByteCounters {
    let counter = || FlowCounter::new(Counter::default());
    ByteCounters { to_server: counter(), to_client: counter() }
}

#[tokio::test]
async fn a_connection_is_told_of_once_with_how_it_ended() {
    let broken = io::Error::from(io::ErrorKind::ConnectionReset);
    for (case, expected, reason) in [
        ("complete", "completed", None),
        ("broken", "failed", Some("broken")),
        ("dropped", "failed", Some("aborted")),
        ("refused", "refused", Some("no_endpoint")),
    ] {
        let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Json);
        let passage = passage();
        let transfer = kept.log.carried(&passage, target(), &bytes());
        match case {
            "complete" => transfer.complete(),
            "broken" => transfer.fail("broken", &broken),
            "dropped" => drop(transfer),
            _ => kept.log.refused(&passage, "no_endpoint", &broken),
        }
        // Whoever resets it does not know that it was told of.
        kept.log.refused(&passage, "again", &broken);
        let told = kept.objects().await;
        assert_eq!(told.len(), 1, "case: {case}");
        let told = &told[0];
        assert_eq!(told["heddle.outcome"], expected, "case: {case}: {told}");
        assert_eq!(told["error.type"].as_str(), reason, "case: {case}: {told}");
        assert_eq!(told["server.port"], 5432, "case: {case}: {told}");
        if expected != "refused" {
            assert_eq!(told["heddle.peer.identity"], "spiffe://cluster.local/ns/shop/sa/db");
            assert_eq!(told["heddle.bytes.to_server"], 0, "case: {case}: {told}");
        }
    }
}

#[tokio::test]
async fn connections_that_went_well_are_no_errors() {
    for format in [AccessLogFormat::Json, AccessLogFormat::Text] {
        let kept = Kept::new(AccessLogMode::Errors, format);
        let passage = passage();
        kept.log.carried(&passage, target(), &bytes()).complete();
        kept.log.turned_away(Direction::Inbound, ([10, 42, 0, 7], 1).into(), "connection_limit");
        let lines = kept.lines().await;
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("connection_limit"), "{}", lines[0]);
    }
}

#[tokio::test]
async fn a_connection_is_one_line_for_people() {
    let kept = Kept::new(AccessLogMode::All, AccessLogFormat::Text);
    let (carried, refused) = (passage(), passage());
    kept.log.carried(&carried, target(), &bytes()).complete();
    let error = io::Error::other("two\nlines");
    kept.log.refused(&refused, "connect", &error);
    let lines = kept.lines().await;
    // Without the time of day, and what it took.
    let stable = |line: &String| {
        let words =
            line.split(' ').skip(1).filter(|word| !word.ends_with('s') || word.contains('='));
        words.collect::<Vec<_>>().join(" ")
    };
    let lines: Vec<String> = lines.iter().map(stable).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    outbound tcp 10.42.0.7:40000 10.43.0.2:5432 completed to_server=0 to_client=0 protocol=opaque service=shop/db:5432 backend=shop/db:5432 pod=db-0 endpoint=10.42.0.9:5432 peer=spiffe://cluster.local/ns/shop/sa/db tls=mtls
    outbound tcp 10.42.0.7:40000 10.43.0.2:5432 refused error=connect message="two\nlines"
    "#);
}

#[test]
fn the_document_has_every_field() {
    let document = include_str!("../../../docs/access-log.md");
    let call = inbound(Call::new(503, "connect")).grpc(GrpcStatus::Ended(Code::Unavailable));
    let mut brew = Call::new(200, "");
    brew.head.method = Method::from_bytes(b"BREW").unwrap();
    let told = |call: &Call| -> Vec<&'static str> {
        let record = CallRecord {
            head: &call.head,
            end: &call.end,
            took_to_head: Duration::ZERO,
            took: Duration::ZERO,
            answered_in: Some(Duration::ZERO),
            attempts: 2,
            request_bytes: 0,
            response_bytes: 0,
            is_whole: true,
            response_headers: None,
        };
        request::record(&record).attributes.iter().map(|attribute| attribute.name).collect()
    };
    let (passage, error) = (passage(), io::Error::other("why"));
    let refused = Refused { passage: &passage, reason: "connect", error: Some(&error) }.record();
    let log = AccessLog::default();
    let carried = log.carried(&passage, target(), &bytes());
    let carried = carried.record();
    let connections = refused.attributes.iter().chain(&carried.attributes);
    let names = told(&call).into_iter().chain(told(&brew)).chain(connections.map(|one| one.name));
    let mut count = 0;
    for name in names.filter(|name| !name.is_empty()).chain(["timestamp", "severity", "event.name"])
    {
        assert!(document.contains(&format!("`{name}`")), "docs/access-log.md does not have {name}");
        count += 1;
    }
    assert!(count > 40, "{count}");
}

#[test]
fn a_collector_is_told_the_same() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

    let call = inbound(Call::new(503, "connect")).grpc(GrpcStatus::Ended(Code::Unavailable));
    let record = CallRecord {
        head: &call.head,
        end: &call.end,
        took_to_head: Duration::from_millis(1),
        took: Duration::from_millis(2),
        answered_in: None,
        attempts: 1,
        request_bytes: 3,
        response_bytes: 42,
        is_whole: true,
        response_headers: None,
    };
    let record = request::record(&record);
    let made = otlp::log_record(&record);
    assert_eq!(made.event_name, "heddle.http.request");
    assert_eq!((made.severity_text.as_str(), made.severity_number), ("ERROR", 17));
    assert_eq!((made.trace_id, made.span_id, made.flags), (vec![0xab; 16], vec![1; 8], 1));
    assert_eq!(made.time_unix_nano, 1_795_692_000_002_000_000);
    let object: Value = serde_json::from_slice(&json::line(&record)).unwrap();
    let mut names = Vec::new();
    for attribute in &made.attributes {
        let said = match attribute.value.as_ref().and_then(|value| value.value.as_ref()).unwrap() {
            Any::StringValue(text) => Value::from(text.as_str()),
            Any::IntValue(number) => Value::from(*number),
            Any::DoubleValue(number) => Value::from(*number),
            Any::BoolValue(_)
            | Any::ArrayValue(_)
            | Any::KvlistValue(_)
            | Any::BytesValue(_)
            | Any::StringValueStrindex(_) => panic!("{attribute:?}"),
        };
        assert_eq!(object[&attribute.key], said, "{}", attribute.key);
        names.push(attribute.key.as_str());
    }
    // What has a place of its own in OTLP is not said twice.
    let own_place = ["timestamp", "severity", "event.name", "trace_id", "span_id"];
    for name in object.as_object().unwrap().keys() {
        assert!(own_place.contains(&name.as_str()) != names.contains(&name.as_str()), "{name}");
    }
}
