//! Filters and faults between real clients and real servers.

use heddle_model::filter::{
    Cors, Fault, FaultAbort, FaultDelay, Fraction, HeaderChange, HttpFilter, NamedValue,
    PathChange, Redirect, Rewrite,
};
use heddle_model::route::{Hostname, HttpMatch, HttpRule, PathMatch};

use super::recorder::{Recorder, backend, rule};
use super::*;
use crate::testing::Answered;

fn set(name: &str, value: &str) -> HeaderChange {
    let named = NamedValue { name: name.to_owned(), value: value.to_owned() };
    HeaderChange { set: vec![named], ..HeaderChange::default() }
}

fn add(name: &str, value: &str) -> HeaderChange {
    let HeaderChange { set, .. } = set(name, value);
    HeaderChange { add: set, ..HeaderChange::default() }
}

fn on_prefix(prefix: &str, rule: HttpRule) -> HttpRule {
    let path = Some(PathMatch::Prefix(prefix.to_owned()));
    HttpRule { matches: vec![HttpMatch { path, ..HttpMatch::default() }], ..rule }
}

fn header<'a>(answer: &'a Answered, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn headers_are_changed_per_rule_and_then_per_backend() {
    let server = Recorder::new("server", &[200]).await;
    let of_backend = vec![
        HttpFilter::RequestHeaders(set("x-both", "backend")),
        HttpFilter::RequestHeaders(add("x-added", "backend")),
        HttpFilter::ResponseHeaders(set("x-by", "backend")),
    ];
    let of_rule = vec![
        HttpFilter::RequestHeaders(set("x-both", "rule")),
        HttpFilter::RequestHeaders(set("x-rule", "rule")),
        HttpFilter::RequestHeaders(add("x-added", "rule")),
        HttpFilter::ResponseHeaders(set("x-by", "rule")),
        HttpFilter::ResponseHeaders(set("x-answered", "rule")),
    ];
    let backends = vec![backend("api-v1", 1, of_backend), backend("api-v2", 0, Vec::new())];
    let proxy = Proxy::routing(vec![rule(of_rule, backends)], vec![("api-v1", server.endpoints())]);
    // A client cannot take away what the route sets.
    let request = Request::get("/").header("x-added", "client").header("connection", "x-rule");
    let answer = proxy.ask(request).await;
    assert_eq!(header(&answer, "x-by"), Some("backend"));
    assert_eq!(header(&answer, "x-answered"), Some("rule"));
    let seen = &server.seen()[0];
    assert_eq!(seen.headers["x-both"], "backend");
    assert_eq!(seen.headers["x-rule"], "rule");
    let added: Vec<_> = seen.headers.get_all("x-added").iter().collect();
    assert_eq!(added, ["client", "rule", "backend"]);
}

#[tokio::test]
async fn a_redirect_is_answered_and_nothing_is_sent() {
    let server = Recorder::new("server", &[200]).await;
    let redirect = HttpFilter::Redirect(Redirect {
        scheme: Some("https".to_owned()),
        hostname: Some("example.org".to_owned()),
        path: Some(PathChange::Prefix("/new".to_owned())),
        port: None,
        status: 308,
    });
    let dressed = HttpFilter::ResponseHeaders(set("x-answered", "proxy"));
    let rule = rule(vec![redirect, dressed], vec![backend("api-v1", 1, Vec::new())]);
    let proxy = Proxy::routing(vec![on_prefix("/old", rule)], vec![("api-v1", server.endpoints())]);
    let answer = proxy.ask(Request::get("/old/a?b=c")).await;
    assert_eq!(answer.status, 308);
    assert_eq!(header(&answer, "location"), Some("https://example.org/new/a?b=c"));
    assert_eq!(header(&answer, "x-answered"), Some("proxy"));
    assert_eq!(header(&answer, "x-heddle-error"), None);
    assert_eq!(server.count(), 0);
    let (backend, backend_pod) = ("".into(), "".into());
    let counted = RequestLabels { backend, backend_pod, ..labels("api", 308) };
    assert_eq!(proxy.count(|_| true, &[counted]), 1);
}

#[tokio::test]
async fn a_rewrite_reaches_the_backend_in_both_versions() {
    let server = Recorder::new("server", &[200]).await;
    let rewrite = HttpFilter::Rewrite(Rewrite {
        hostname: Some("inner.example.org".to_owned()),
        path: Some(PathChange::Prefix("/".to_owned())),
    });
    let rule = rule(vec![rewrite], vec![backend("api-v1", 1, Vec::new())]);
    let proxy = Proxy::routing(vec![on_prefix("/api", rule)], vec![("api-v1", server.endpoints())]);
    assert_eq!(proxy.ask(Request::get("/api/a?b=c")).await.status, 200);
    let mut sender = breaking::http2_client(&proxy).await;
    let request = Request::get("http://outer/api/a?b=c");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let seen = server.seen();
    assert_eq!(seen[0].target, "/a?b=c");
    assert_eq!(seen[0].headers["host"], "inner.example.org");
    assert_eq!(seen[1].target, "http://inner.example.org/a?b=c");
}

#[tokio::test]
async fn a_request_is_routed_by_its_host() {
    let server = Recorder::new("server", &[200]).await;
    let for_hosts = HttpRule {
        hostnames: vec![
            Hostname::Exact("api".to_owned()),
            Hostname::Below("example.com".to_owned()),
        ],
        ..rule(Vec::new(), vec![backend("api-v1", 1, Vec::new())])
    };
    let proxy = Proxy::routing(vec![for_hosts], vec![("api-v1", server.endpoints())]);
    // The client names the host `api`, which a target in absolute form outdoes.
    for (target, expected) in [
        ("/", 200),
        ("http://a.b.EXAMPLE.com:80/", 200),
        ("http://example.com/", 404),
        ("http://web/", 404),
    ] {
        assert_eq!(proxy.ask(Request::get(target)).await.status, expected, "case: {target}");
    }
}

fn cors() -> HttpFilter {
    HttpFilter::Cors(Cors {
        allow_origins: vec!["https://*.example.com".to_owned()],
        allow_methods: vec!["PUT".to_owned()],
        allow_headers: vec!["x-a".to_owned()],
        expose_headers: vec!["x-by".to_owned()],
        allow_credentials: true,
        max_age: Duration::from_secs(60),
    })
}

#[tokio::test]
async fn browsers_are_told_who_may_call_also_when_a_request_fails() {
    let server = Recorder::new("server", &[200]).await;
    let rule = rule(vec![cors()], vec![backend("api-v1", 1, Vec::new())]);
    let endpoints = vec![("api-v1", server.endpoints())];
    let proxy = Proxy::routing(vec![rule.clone()], endpoints);
    let preflight = Request::options("/")
        .header("origin", "https://www.example.com")
        .header("access-control-request-method", "PUT");
    let answer = proxy.ask(preflight).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(header(&answer, "access-control-allow-methods"), Some("PUT"));
    assert_eq!(header(&answer, "access-control-allow-headers"), Some("x-a"));
    assert_eq!(header(&answer, "access-control-max-age"), Some("60"));
    assert_eq!(server.count(), 0);
    let asked = || Request::get("/").header("origin", "https://www.example.com");
    let failing = Proxy::routing(vec![rule], vec![("api-v1", Vec::new())]);
    for (answer, status) in [(proxy.ask(asked()).await, 200), (failing.ask(asked()).await, 503)] {
        assert_eq!(answer.status, status);
        let origin = header(&answer, "access-control-allow-origin");
        assert_eq!(origin, Some("https://www.example.com"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
        assert_eq!(header(&answer, "access-control-expose-headers"), Some("x-by"));
        assert_eq!(header(&answer, "vary"), Some("Origin"));
    }
    let other = proxy.ask(Request::get("/").header("origin", "https://example.org")).await;
    assert_eq!((other.status, other.text.as_str()), (200, "server"));
    assert_eq!(header(&other, "access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_fault_is_answered_in_the_terms_of_the_request() {
    let server = Recorder::new("server", &[200]).await;
    let abort = FaultAbort { status: 418, grpc_status: 10, fraction: Fraction::ALL };
    let fault = Fault { delay: None, abort: Some(abort) };
    let dressed = vec![HttpFilter::ResponseHeaders(set("x-answered", "proxy"))];
    let rule = HttpRule { fault, ..rule(dressed, vec![backend("api-v1", 1, Vec::new())]) };
    let proxy = Proxy::routing(vec![rule], vec![("api-v1", server.endpoints())]);
    let answer = proxy.ask(Request::get("/")).await;
    assert_eq!(answer.status, 418);
    assert_eq!(header(&answer, "x-heddle-error"), Some("fault_abort"));
    assert_eq!(header(&answer, "x-answered"), Some("proxy"));
    let answer = proxy.ask(Request::post("/").header("content-type", "application/grpc")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(header(&answer, "grpc-status"), Some("10"));
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_delay_is_a_part_of_the_requests_time() {
    let server = Recorder::new("server", &[200]).await;
    let delayed = |duration, request| {
        let delay = FaultDelay { duration, fraction: Fraction::ALL };
        let fault = Fault { delay: Some(delay), abort: None };
        let timeouts = Timeouts { request, backend_request: None };
        let rule = rule(Vec::new(), vec![backend("api-v1", 1, Vec::new())]);
        let rule = HttpRule { fault, timeouts, ..rule };
        Proxy::routing(vec![rule], vec![("api-v1", server.endpoints())])
    };
    let start = Instant::now();
    let answer = delayed(Duration::from_millis(100), None).ask(Request::get("/")).await;
    assert_eq!(answer.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    let limited = delayed(Duration::from_secs(3600), Some(Duration::from_millis(50)));
    let answer = limited.ask(Request::get("/")).await;
    assert_eq!(header(&answer, "x-heddle-error"), Some("request_timeout"));
    assert_eq!(server.count(), 1, "the second one was never sent");
}
