//! Which filters go together, in which order they are applied, and where a refused one is.

use std::time::Duration;

use heddle_model::filter::{Cors, HeaderChange, NamedValue, PathChange, Redirect, Rewrite};
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST};

use super::*;

fn set(name: &str, value: &str) -> HeaderChange {
    let named = NamedValue { name: name.to_owned(), value: value.to_owned() };
    HeaderChange { set: vec![named], ..HeaderChange::default() }
}

fn redirect() -> HttpFilter {
    HttpFilter::Redirect(Redirect {
        scheme: Some("https".to_owned()),
        hostname: None,
        path: None,
        port: None,
        status: 301,
    })
}

fn rewrite(path: PathChange) -> HttpFilter {
    HttpFilter::Rewrite(Rewrite { hostname: Some("b".to_owned()), path: Some(path) })
}

fn full() -> PathChange {
    PathChange::Full("/x".to_owned())
}

fn cors() -> HttpFilter {
    HttpFilter::Cors(Cors {
        allow_origins: vec!["*".to_owned()],
        allow_methods: Vec::new(),
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        allow_credentials: false,
        max_age: Duration::from_secs(5),
    })
}

fn found() -> Found<'static> {
    Found { port: Port::new(80).unwrap(), prefix: Some("/a") }
}

#[test]
fn a_refusal_names_the_filter() {
    let prefix = || rewrite(PathChange::Prefix("/x".to_owned()));
    for (case, filters, has_prefixes, part) in [
        ("two redirects", vec![redirect(), redirect()], true, "filters[1].requestRedirect"),
        ("two rewrites", vec![rewrite(full()), rewrite(full())], true, "filters[1].urlRewrite"),
        ("both", vec![redirect(), rewrite(full())], true, "filters[1].urlRewrite"),
        (
            "both, the other way",
            vec![rewrite(full()), redirect()],
            true,
            "filters[1].requestRedirect",
        ),
        ("two of CORS", vec![cors(), cors()], true, "filters[1].cors"),
        ("a prefix where none is matched", vec![cors(), prefix()], false, "filters[1]"),
        (
            "a part of one",
            vec![cors(), HttpFilter::RequestHeaders(set("a b", "1"))],
            true,
            "filters[1].requestHeaderModifier.set[0].name",
        ),
    ] {
        let refused = Filters::compile(&filters, has_prefixes).expect_err(case);
        assert_eq!(refused.part, part, "case: {case}");
    }
    assert!(Filters::compile(&[prefix()], true).unwrap().uses_prefix());
    assert!(!Filters::compile(&[rewrite(full())], false).unwrap().uses_prefix());
    let host = HttpFilter::RequestHeaders(set("host", "c"));
    assert!(Filters::compile(&[host, rewrite(full())], false).is_ok(), "a header is no rewrite");
}

#[test]
fn changes_of_requests_keep_their_order() {
    let host = || HttpFilter::RequestHeaders(set("Host", "c"));
    for (case, filters, expected) in [
        ("the rewrite last", vec![host(), rewrite(full())], "b"),
        ("the header last", vec![rewrite(full()), host()], "c"),
    ] {
        let mut request = Request::get("/a?q").header(HOST, "a").body(()).unwrap();
        let filters = Filters::compile(&filters, false).unwrap();
        filters.change_request(&mut request, None).unwrap();
        assert_eq!(request.headers()[HOST], expected, "case: {case}");
        assert_eq!(request.uri(), "/x?q", "case: {case}");
    }
}

#[test]
fn a_preflight_is_answered_before_a_redirect_and_all_else_is_redirected() {
    let filters = Filters::compile(&[redirect(), cors()], false).unwrap();
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .header(ORIGIN, "https://a.b")
        .header(ACCESS_CONTROL_REQUEST_METHOD, "GET")
        .body(())
        .unwrap();
    assert_eq!(filters.answer(&preflight, found()).unwrap().unwrap().status(), 200);
    let get = Request::get("/a").header(HOST, "a").body(()).unwrap();
    assert_eq!(filters.answer(&get, found()).unwrap().unwrap().status(), 301);
    let none = Filters::default();
    assert!(none.answer(&preflight, found()).unwrap().is_none());
    assert!(!none.change_responses());
}

#[test]
fn what_has_no_path_is_not_moved() {
    let about_all = Request::options("*").header(HOST, "a").body(()).unwrap();
    let tunnel = Request::connect("a:443").header(HOST, "a:443").body(()).unwrap();
    // RFC 8441: with a path, it is a request as any other.
    let extended = Request::connect("http://a/a").body(()).unwrap();
    let host = HttpFilter::Rewrite(Rewrite { hostname: Some("b".to_owned()), path: None });
    for (case, filter, request, expected) in [
        ("OPTIONS, redirected", redirect(), &about_all, Ok(None)),
        ("OPTIONS, rewritten", rewrite(full()), &about_all, Ok(None)),
        ("CONNECT, redirected", redirect(), &tunnel, Err("not_supported")),
        ("CONNECT, rewritten", rewrite(full()), &tunnel, Err("not_supported")),
        ("CONNECT, to another host", host, &tunnel, Err("not_supported")),
        ("CONNECT, with CORS", cors(), &tunnel, Ok(None)),
        ("CONNECT with a path, redirected", redirect(), &extended, Ok(Some(301))),
        ("CONNECT with a path, rewritten", rewrite(full()), &extended, Ok(None)),
    ] {
        let filters = Filters::compile(&[filter], true).unwrap();
        let answer = filters.answer(request, found());
        let answer = answer.map(|answer| answer.map(|answer| answer.status().as_u16()));
        assert_eq!(answer.map_err(|error| error.reason()), expected, "case: {case}");
    }
}

#[test]
fn changes_of_responses_come_after_cors() {
    let own = HttpFilter::ResponseHeaders(set("access-control-allow-origin", "https://own"));
    let filters = Filters::compile(&[own, cors()], false).unwrap();
    let mut headers = HeaderMap::new();
    filters.change_response(&mut headers, Some(&HeaderValue::from_static("https://a.b")));
    assert_eq!(headers["access-control-allow-origin"], "https://own");
}
