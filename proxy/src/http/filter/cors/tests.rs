//! Preflights and responses by table, the cases of the Gateway API's conformance tests among them.

use std::time::Duration;

use super::*;

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn cors(origins: &[&str], methods: &[&str], headers: &[&str], credentials: bool) -> Cors {
    Cors {
        allow_origins: list(origins),
        allow_methods: list(methods),
        allow_headers: list(headers),
        expose_headers: Vec::new(),
        allow_credentials: credentials,
        max_age: Duration::from_secs(5),
    }
}

/// `cors-multiple-origins-methods-headers` of the conformance tests.
fn multiple() -> Cors {
    Cors {
        expose_headers: list(&["x-header-3", "x-header-4"]),
        max_age: Duration::from_secs(3600),
        ..cors(
            &["https://www.foo.com", "https://*.bar.com"],
            &["GET", "OPTIONS"],
            &["x-header-1", "x-header-2"],
            true,
        )
    }
}

fn preflight(origin: &str, method: &str, headers: Option<&str>) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::OPTIONS)
        .header(ORIGIN, origin)
        .header(ACCESS_CONTROL_REQUEST_METHOD, method);
    if let Some(headers) = headers {
        request = request.header(ACCESS_CONTROL_REQUEST_HEADERS, headers);
    }
    request.body(()).unwrap()
}

/// What a browser is told, sorted, each as `name: value`.
fn told(cors: &Cors, request: &Request<()>) -> Vec<String> {
    let cors = CompiledCors::compile(cors).unwrap();
    let mut response = cors.answer_preflight(request).expect("it is a preflight");
    assert_eq!(response.status(), 200);
    cors.allow(response.headers_mut(), request.headers().get(ORIGIN));
    lines(response.headers())
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!(
            "{}: {}",
            name.as_str().trim_start_matches("access-control-"),
            value.to_str().unwrap()
        )
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

type Preflight = (&'static str, Cors, Request<()>, &'static [&'static str]);

fn preflights_of_names() -> Vec<Preflight> {
    vec![
        (
            "an exact origin",
            multiple(),
            preflight("https://www.foo.com", "GET", Some("x-header-1, x-header-2")),
            &[
                "allow-credentials: true",
                "allow-headers: x-header-1, x-header-2",
                "allow-methods: GET, OPTIONS",
                "allow-origin: https://www.foo.com",
                "expose-headers: x-header-3, x-header-4",
                "max-age: 3600",
                "vary: Origin",
            ][..],
        ),
        (
            "any number of labels",
            Cors { expose_headers: Vec::new(), ..multiple() },
            preflight("https://xpto.www.bar.com", "GET", None),
            &[
                "allow-credentials: true",
                "allow-headers: x-header-1, x-header-2",
                "allow-methods: GET, OPTIONS",
                "allow-origin: https://xpto.www.bar.com",
                "max-age: 3600",
                "vary: Origin",
            ],
        ),
        (
            "another origin",
            multiple(),
            preflight("https://foobar.com", "GET", None),
            &["vary: Origin"],
        ),
    ]
}

fn preflights_of_stars() -> Vec<Preflight> {
    let all = cors(&["*"], &["*"], &["*"], false);
    let all_with_credentials = cors(&["*"], &["*"], &["*"], true);
    vec![
        (
            "all, without credentials",
            all,
            preflight("https://foobar.com:12345", "PUT", Some("x-a, x-b")),
            &["allow-headers: x-a, x-b", "allow-methods: PUT", "allow-origin: *", "max-age: 5"],
        ),
        (
            "all, with credentials: never a star",
            all_with_credentials.clone(),
            preflight("https://foobar.com", "PUT", Some("x-a")),
            &[
                "allow-credentials: true",
                "allow-headers: x-a",
                "allow-methods: PUT",
                "allow-origin: https://foobar.com",
                "max-age: 5",
                "vary: Origin",
            ],
        ),
        (
            "all, with credentials: nobody is nobody",
            all_with_credentials.clone(),
            preflight("null", "PUT", Some("x-a")),
            &["vary: Origin"],
        ),
        (
            "all, with credentials: what is no origin",
            all_with_credentials.clone(),
            preflight("https://a.b/c", "PUT", None),
            &["vary: Origin"],
        ),
        (
            "no headers asked for",
            all_with_credentials,
            preflight("https://foobar.com", "PUT", None),
            &[
                "allow-credentials: true",
                "allow-methods: PUT",
                "allow-origin: https://foobar.com",
                "max-age: 5",
                "vary: Origin",
            ],
        ),
        (
            "nothing but an origin: the safe methods",
            cors(&["https://a.b"], &[], &[], false),
            preflight("https://a.b", "GET", None),
            &["allow-origin: https://a.b", "max-age: 5", "vary: Origin"],
        ),
    ]
}

#[test]
fn preflights_are_answered_as_the_gateway_api_has_it() {
    for (case, cors, request, expected) in
        preflights_of_names().into_iter().chain(preflights_of_stars())
    {
        assert_eq!(told(&cors, &request), expected, "case: {case}");
    }
}

#[test]
fn what_is_no_preflight_goes_to_the_backend() {
    let cors = CompiledCors::compile(&multiple()).unwrap();
    let mut get = preflight("https://www.foo.com", "GET", None);
    *get.method_mut() = Method::GET;
    let mut without_origin = preflight("https://www.foo.com", "GET", None);
    without_origin.headers_mut().remove(ORIGIN);
    let mut without_method = preflight("https://www.foo.com", "GET", None);
    without_method.headers_mut().remove(ACCESS_CONTROL_REQUEST_METHOD);
    for (case, request) in
        [("GET", get), ("no origin", without_origin), ("no method", without_method)]
    {
        assert!(cors.answer_preflight(&request).is_none(), "case: {case}");
    }
}

#[test]
fn responses_tell_who_may_read_them() {
    let exposing =
        |credentials| Cors { expose_headers: list(&["*"]), ..cors(&["*"], &[], &[], credentials) };
    for (case, cors, origin, backend, expected) in [
        (
            "a simple request",
            cors(&["https://a.b"], &[], &[], false),
            Some("https://a.b"),
            &[][..],
            &["allow-origin: https://a.b", "vary: Origin"][..],
        ),
        (
            "another origin, whatever the backend says",
            cors(&["https://a.b"], &[], &[], false),
            Some("https://c.d"),
            &[("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")],
            &["vary: Origin"],
        ),
        (
            "no origin: caches are told all the same",
            cors(&["https://a.b"], &[], &[], false),
            None,
            &[("vary", "accept")],
            &["vary: Origin", "vary: accept"],
        ),
        (
            "a backend that varies by itself",
            cors(&["https://a.b"], &[], &[], false),
            None,
            &[("vary", "accept, origin")],
            &["vary: accept, origin"],
        ),
        (
            "a backend with another answer",
            cors(&["https://a.b"], &[], &[], false),
            Some("https://a.b"),
            &[("access-control-allow-origin", "https://c.d")],
            &["allow-origin: https://a.b", "vary: Origin"],
        ),
        ("all", exposing(false), Some("null"), &[], &["allow-origin: *", "expose-headers: *"]),
        (
            "all exposed, with credentials",
            exposing(true),
            Some("https://a.b"),
            &[("x-a", "1"), ("set-cookie", "a=b")],
            &[
                "allow-credentials: true",
                "allow-origin: https://a.b",
                "expose-headers: access-control-allow-credentials, access-control-allow-origin, \
                 vary, x-a",
                "set-cookie: a=b",
                "vary: Origin",
                "x-a: 1",
            ],
        ),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in backend {
            headers
                .append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let origin = origin.map(HeaderValue::from_static);
        let cors = CompiledCors::compile(&cors).unwrap();
        cors.allow(&mut headers, origin.as_ref());
        assert_eq!(lines(&headers), expected, "case: {case}");
        cors.allow(&mut headers, origin.as_ref());
        assert_eq!(lines(&headers), expected, "case: {case}, twice");
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    for (cors, part) in [
        (cors(&["https://a.b", "a.b"], &[], &[], false), "allowOrigins[1]"),
        (cors(&["*"], &["G T"], &[], false), "allowMethods[0]"),
        (cors(&["*"], &["*"], &["x-a", "x b"], false), "allowHeaders[1]"),
        (Cors { expose_headers: list(&[""]), ..multiple() }, "exposeHeaders[0]"),
    ] {
        let refused = CompiledCors::compile(&cors).unwrap_err();
        assert_eq!(refused.part, format!("cors.{part}"));
    }
}
