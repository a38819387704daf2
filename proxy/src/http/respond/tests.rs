//! Tests of the answers to errors: every variant, its row of docs/errors.md, and what is not told.

use std::collections::BTreeSet;
use std::io;

use http::Request;
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;

fn asked(version: Version, content_type: Option<&'static str>) -> Asked {
    let mut request = http::Request::new(());
    *request.version_mut() = version;
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Asked::new(&request)
}

fn own() -> Teller<'static> {
    Teller { source: Direction::Outbound, audience: Audience::Mesh, pod: Some("api-2") }
}

/// hyper makes its errors itself.
async fn hyper_error() -> hyper::Error {
    let never = service_fn(async |_request| Ok::<_, io::Error>(Response::new(Body::empty())));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(tokio_test_io()), never)
        .await
        .unwrap_err()
}

fn tokio_test_io() -> tokio::io::DuplexStream {
    let (mut near, far) = tokio::io::duplex(64);
    let write = tokio::io::AsyncWriteExt::write_all(&mut near, b"no request\r\n\r\n");
    futures_util::FutureExt::now_or_never(write).unwrap().unwrap();
    far
}

struct Row {
    error: ProxyError,
    status: u16,
    reason: &'static str,
    grpc: &'static str,
}

async fn every_error() -> Vec<Row> {
    let name = || "default/api:80".to_owned();
    let limit = Duration::from_secs(1);
    let row = |error, status, reason, grpc| Row { error, status, reason, grpc };
    let mut rows = vec![
        row(ProxyError::NoRoute { service: name() }, 404, "no_route", "12"),
        row(ProxyError::NoBackend { service: name() }, 500, "no_backend", "14"),
        row(ProxyError::NoEndpoint { backend: name() }, 503, "no_endpoint", "14"),
        row(ProxyError::Refused { reason: "no port 81".to_owned() }, 503, "refused", "14"),
        row(ProxyError::DestinationChanged, 503, "destination_changed", "14"),
        row(
            ProxyError::BackendLost { backend: name(), source: hyper_error().await.into() },
            502,
            "backend_lost",
            "14",
        ),
        row(ProxyError::ClientLost { source: hyper_error().await }, 499, "client_lost", "1"),
        row(ProxyError::RequestTimeout { limit }, 504, "request_timeout", "4"),
        row(ProxyError::BackendTimeout { limit }, 504, "backend_timeout", "4"),
        row(ProxyError::Overloaded { backend: name() }, 503, "overloaded", "8"),
        row(ProxyError::QueueTimeout { backend: name() }, 503, "queue_timeout", "8"),
        row(ProxyError::RateLimited { retry_after: limit }, 429, "rate_limited", "8"),
        row(ProxyError::Plaintext, 403, "plaintext", "7"),
        row(
            ProxyError::BadResponse { backend: name(), fault: Fault::LengthAndCoding },
            502,
            "bad_response",
            "14",
        ),
        row(ProxyError::NotSupported { what: "a test" }, 501, "not_supported", "12"),
        row(ProxyError::Internal { reason: "a test" }, 500, "internal", "13"),
    ];
    let abort = ProxyError::FaultAbort { status: StatusCode::IM_A_TEAPOT, grpc_status: 10 };
    rows.push(row(abort, 418, "fault_abort", "10"));
    // Each reason and status that a refusal of the gate has.
    for (refusal, status, reason) in [
        (Refusal::HostMissing, 400, "bad_request"),
        (Refusal::TargetTooLong, 414, "bad_request"),
        (Refusal::Expectation, 417, "bad_request"),
        (Refusal::FieldsTooLarge, 431, "bad_request"),
        (Refusal::Version, 505, "bad_request"),
        (Refusal::MethodTooLong, 501, "not_supported"),
        (Refusal::HeadTimeout, 408, "head_timeout"),
        (Refusal::BodyTimeout, 408, "body_timeout"),
        (Refusal::BodyTooSlow, 408, "body_too_slow"),
    ] {
        rows.push(row(ProxyError::BadRequest { refusal }, status, reason, "13"));
    }
    for (source, reason) in every_connect_error().await {
        let error = ProxyError::Connect { backend: name(), source: Box::new(source) };
        rows.push(row(error, 503, reason, "14"));
    }
    rows
}

async fn every_connect_error() -> Vec<(ConnectError, &'static str)> {
    let address = ([10, 0, 0, 1], 80).into();
    let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let tls = heddle_tls::connect::ConnectError::NotReady;
    vec![
        (ConnectError::Tcp { address, source: io() }, "connect"),
        (ConnectError::Local { source: io() }, "local"),
        (ConnectError::CertificateExpired, "certificate_expired"),
        (ConnectError::Timeout { address, limit: Duration::from_secs(1) }, "connect_timeout"),
        (ConnectError::Tls { address, source: tls }, "tls"),
        (
            ConnectError::ApplicationTls {
                address,
                source: heddle_tls::https::HttpsError::NotReady,
            },
            "application_tls",
        ),
        (ConnectError::Http { address, source: hyper_error().await }, "http_handshake"),
        (ConnectError::PortZero { address }, "port_zero"),
        (ConnectError::FailedBefore { address }, "connect_failed_before"),
    ]
}

/// A new variant does not compile without a place here, nor pass without a row above.
fn place(error: &ProxyError) -> usize {
    match error {
        ProxyError::NoRoute { .. } => 0,
        ProxyError::NoBackend { .. } => 1,
        ProxyError::NoEndpoint { .. } => 2,
        ProxyError::Refused { .. } => 3,
        ProxyError::DestinationChanged => 4,
        ProxyError::BackendLost { .. } => 5,
        ProxyError::ClientLost { .. } => 6,
        ProxyError::RequestTimeout { .. } => 7,
        ProxyError::BackendTimeout { .. } => 8,
        ProxyError::Overloaded { .. } => 9,
        ProxyError::BadRequest { .. } => 10,
        ProxyError::NotSupported { .. } => 11,
        ProxyError::Internal { .. } => 12,
        ProxyError::BadResponse { .. } => 13,
        ProxyError::FaultAbort { .. } => 14,
        ProxyError::QueueTimeout { .. } => 23,
        ProxyError::RateLimited { .. } => 24,
        ProxyError::Plaintext => 25,
        ProxyError::Connect { source, .. } => {
            15 + match **source {
                ConnectError::Tcp { .. } => 0,
                ConnectError::Local { .. } => 1,
                ConnectError::CertificateExpired => 2,
                ConnectError::Timeout { .. } => 3,
                ConnectError::Tls { .. } => 4,
                ConnectError::Http { .. } => 5,
                ConnectError::PortZero { .. } => 6,
                ConnectError::FailedBefore { .. } => 7,
                // It is told as being overloaded.
                ConnectError::TooMany => return 9,
                ConnectError::ApplicationTls { .. } => return 26,
            }
        }
    }
}

const PLACES: usize = 27;

#[tokio::test]
async fn every_error_has_its_status_and_reason() {
    let rows = every_error().await;
    let places: BTreeSet<usize> = rows.iter().map(|row| place(&row.error)).collect();
    assert_eq!(places, (0..PLACES).collect(), "the table has a row for every variant");
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = crate::metrics::Metrics::register(&mut registry);
    for Row { error, status, reason, grpc } in rows {
        let response = respond(&error, asked(Version::HTTP_11, None), own());
        assert_eq!(response.status().as_u16(), status, "case: {error:?}");
        assert_eq!(response.headers()[ERROR_HEADER], reason, "case: {error:?}");
        assert_eq!(response.headers()[SOURCE_HEADER], "outbound", "case: {error:?}");
        let call = asked(Version::HTTP_2, Some("application/grpc+proto"));
        let response = respond(&error, call, own());
        assert_eq!(response.status(), StatusCode::OK, "case: {error:?}");
        assert_eq!(response.headers()["grpc-status"], grpc, "case: {error:?}");
        assert_eq!(call.code(&error).map(Code::as_str), Some(grpc), "case: {error:?}");
        metrics.count_error(&error);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let series = format!("heddle_http_errors_total{{reason=\"{reason}\"}} ");
        assert!(text.contains(&series), "{series} in:\n{text}");
    }
}

#[tokio::test]
async fn the_document_has_exactly_these_errors() {
    let rows = every_error().await;
    let in_code: BTreeSet<(String, String, String)> = rows
        .iter()
        // What it answers is in the route, and in the document's words.
        .filter(|row| row.reason != "fault_abort")
        .map(|row| (row.reason.to_owned(), row.status.to_string(), row.grpc.to_owned()))
        .collect();
    let document = include_str!("../../../../docs/errors.md");
    let in_document: BTreeSet<(String, String, String)> = document
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
            let grpc = cells.get(2)?.split(' ').next()?;
            let reason = cells.first()?.trim_matches('`');
            grpc.parse::<u8>().ok()?;
            let row = |status: &str| (reason.to_owned(), status.to_owned(), grpc.to_owned());
            Some(cells.get(1)?.split(", ").map(row).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    assert_eq!(in_document, in_code);
}

#[tokio::test]
async fn an_outsider_learns_the_reason_and_no_name() {
    let outsider =
        Teller { source: Direction::Inbound, audience: Audience::Outsider, pod: Some("api-2") };
    for Row { error, reason, .. } in every_error().await {
        for (case, asked) in [
            ("HTTP", asked(Version::HTTP_11, None)),
            ("gRPC", asked(Version::HTTP_2, Some("application/grpc"))),
        ] {
            let response = respond(&error, asked, outsider);
            assert_eq!(response.headers()[ERROR_HEADER], reason, "case: {error:?}");
            assert!(!response.headers().contains_key(PEER_HEADER), "case: {error:?}");
            let head = format!("{:?}", response.headers());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let said = head + &String::from_utf8_lossy(&body);
            for name in ["api", "default", "10.0.0.1"] {
                assert!(!said.contains(name), "{case}: {name} in {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_caller_in_the_mesh_learns_which_pod_failed() {
    let error = ProxyError::NoEndpoint { backend: "default/api:80".to_owned() };
    let response = respond(&error, asked(Version::HTTP_11, None), own());
    assert_eq!(response.headers()[PEER_HEADER], "api-2");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "default/api:80 has no ready endpoint (pod api-2)\n");
    let nowhere = Teller { pod: None, ..own() };
    let response = respond(&error, asked(Version::HTTP_11, None), nowhere);
    assert!(!response.headers().contains_key(PEER_HEADER));
}

#[test]
fn only_an_error_of_a_proxy_names_its_peer_and_none_outlives_an_application() {
    let mut headers = HeaderMap::new();
    name_peer_of_error(&mut headers, "api-2");
    assert!(headers.is_empty(), "an ordinary answer tells of no error");
    headers.insert(ERROR_HEADER, HeaderValue::from_static("connect"));
    headers.insert(PEER_HEADER, HeaderValue::from_static("forged"));
    name_peer_of_error(&mut headers, "api-2");
    assert_eq!(headers[PEER_HEADER], "api-2");
    headers.insert(SOURCE_HEADER, HeaderValue::from_static("inbound"));
    strip_error(&mut headers);
    assert!(headers.is_empty(), "{headers:?}");
}

#[test]
fn a_connection_that_leads_nowhere_is_closed() {
    let error = ProxyError::Refused { reason: "gone".to_owned() };
    let response = respond(&error, asked(Version::HTTP_11, None), own());
    assert_eq!(response.headers()[CONNECTION], "close");
    let response = respond(&error, asked(Version::HTTP_2, None), own());
    assert!(!response.headers().contains_key(CONNECTION));
}

#[test]
fn a_grpc_message_is_percent_encoded() {
    assert_eq!(percent_encode("50% of\n\u{e9}"), "50%25 of%0A%C3%A9");
}

#[test]
fn what_is_asked_is_known_by_its_head() {
    let web = Request::get("/").header(CONTENT_TYPE, "application/grpc-web").body(()).unwrap();
    assert!(!Asked::new(&web).is_grpc());
    assert_eq!(Asked::new(&web).code(&ProxyError::DestinationChanged), None);
}
