//! Route matching by table, and against an oracle that is written another way.

use std::time::Duration;

use heddle_model::filter::{Fault, FaultAbort, Fraction, HttpFilter, PathChange, Rewrite};
use heddle_model::names::{Port, ServiceName, ServicePort};
use heddle_model::policy::SessionPersistence;
use heddle_model::route::{HttpBackend, Retry};
use proptest::prelude::*;

use heddle_model::route::{Hostname, HttpMatch, NamedMatch, PathMatch, ValueMatch};

use super::*;

fn rule(matches: Vec<HttpMatch>) -> HttpRule {
    let object = ObjectReference {
        kind: "HTTPRoute".to_owned(),
        namespace: "default".to_owned(),
        name: "api".to_owned(),
    };
    let origin = RuleOrigin::Object { object, field: "spec.rules[0]".to_owned() };
    HttpRule { matches, ..HttpRule::to(Vec::new(), origin) }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn on_path(path: PathMatch) -> HttpMatch {
    HttpMatch { path: Some(path), ..HttpMatch::default() }
}

fn on_header(name: &str, value: ValueMatch) -> HttpMatch {
    let headers = vec![NamedMatch { name: name.to_owned(), value }];
    HttpMatch { headers, ..HttpMatch::default() }
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.to_owned())
}

fn is_match(matches: Vec<HttpMatch>, request: &Request<()>) -> bool {
    compile(&[rule(matches)]).unwrap()[0].matches(request)
}

#[test]
fn paths_match_as_the_gateway_api_has_it() {
    let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
    let regex = |text: &str| PathMatch::Regex(text.to_owned());
    for (path, target, expected) in [
        (PathMatch::Exact("/a".to_owned()), "/a", true),
        (PathMatch::Exact("/a".to_owned()), "/a?b=c", true),
        (PathMatch::Exact("/a".to_owned()), "/a/", false),
        (PathMatch::Exact("/a".to_owned()), "/A", false),
        (prefix("/"), "/", true),
        (prefix("/"), "/a/b", true),
        (prefix("/a"), "/a", true),
        (prefix("/a"), "/a/", true),
        (prefix("/a"), "/a/b", true),
        (prefix("/a"), "/ab", false),
        (prefix("/a/"), "/a", true),
        (prefix("/a/"), "/a/b", true),
        (prefix("/a/"), "/ab", false),
        (prefix("/a/b"), "/a", false),
        (regex("/v[0-9]+"), "/v12", true),
        (regex("/v[0-9]+"), "/v12/a", false),
        (regex("/v[0-9]+"), "/x/v12", false),
        (regex("/a|/ab"), "/ab", true),
        (regex("/a.*"), "/abc", true),
    ] {
        let case = format!("{path:?} {target}");
        let found = is_match(vec![on_path(path)], &request("GET", target, &[]));
        assert_eq!(found, expected, "case: {case}");
    }
}

#[test]
fn all_conditions_of_a_match_must_hold_and_one_match_is_enough() {
    let both = HttpMatch {
        path: Some(PathMatch::Prefix("/a".to_owned())),
        headers: vec![NamedMatch { name: "X-Canary".to_owned(), value: exact("yes") }],
        query_parameters: vec![NamedMatch { name: "v".to_owned(), value: exact("2 3") }],
        method: Some("GET".to_owned()),
    };
    let yes = [("x-canary", "yes")];
    for (case, method, target, headers, expected) in [
        ("all", "GET", "/a?v=2+3", &yes[..], true),
        ("another path", "GET", "/b?v=2+3", &yes, false),
        ("another method", "POST", "/a?v=2+3", &yes, false),
        ("no header", "GET", "/a?v=2+3", &[], false),
        ("no parameter", "GET", "/a", &yes, false),
    ] {
        let request = request(method, target, headers);
        assert_eq!(is_match(vec![both.clone()], &request), expected, "case: {case}");
        let other = on_path(PathMatch::Exact("/b".to_owned()));
        let found = is_match(vec![both.clone(), other], &request);
        assert_eq!(found, expected || target.starts_with("/b"), "case: {case}, or /b");
    }
    assert!(is_match(Vec::new(), &request("GET", "/", &[])), "no condition: every request");
}

#[test]
fn values_match_by_the_whole_of_them() {
    let regex = |text: &str| ValueMatch::Regex(text.to_owned());
    let on_parameter = |value| {
        let query_parameters = vec![NamedMatch { name: "v".to_owned(), value }];
        HttpMatch { query_parameters, ..HttpMatch::default() }
    };
    for (value, found, expected) in [
        (exact("one"), "one", true),
        (exact("one"), "One", false),
        (exact("one"), "ones", false),
        (regex("o.e"), "one", true),
        (regex("o.e"), "ones", false),
        (regex("one|two"), "two", true),
        (regex("(?i)ONE"), "one", true),
        (regex(".*"), "", true),
    ] {
        let case = format!("{value:?} {found}");
        let header =
            is_match(vec![on_header("x", value.clone())], &request("GET", "/", &[("x", found)]));
        assert_eq!(header, expected, "case: {case}, a header");
        let target = format!("/?v={found}");
        let parameter = is_match(vec![on_parameter(value)], &request("GET", &target, &[]));
        assert_eq!(parameter, expected, "case: {case}, a parameter");
    }
}

#[test]
fn hosts_match_without_their_port_and_in_any_case() {
    let with =
        |hostnames: &[Hostname]| HttpRule { hostnames: hostnames.to_vec(), ..rule(Vec::new()) };
    let exact = || Hostname::Exact("api.example.com".to_owned());
    let below = || Hostname::Below("example.com".to_owned());
    for (case, hostnames, host, expected) in [
        ("none: every host", &[][..], "other", true),
        ("exact", &[exact()], "api.example.com", true),
        ("with a port", &[exact()], "api.example.com:8080", true),
        ("in capitals", &[exact()], "API.Example.com", true),
        ("another", &[exact()], "web.example.com", false),
        ("below", &[below()], "a.b.example.com:80", true),
        ("the parent", &[below()], "example.com", false),
        ("any of them", &[exact(), below()], "web.example.com", true),
        ("an address", &[exact()], "[::1]:80", false),
        ("no host", &[below()], "", false),
    ] {
        let compiled = compile(&[with(hostnames)]).unwrap().remove(0);
        let by_header = compiled.matches(&request("GET", "/", &[("host", host)]));
        assert_eq!(by_header, expected, "case: {case}");
        if !host.is_empty() {
            let by_target = compiled.matches(&request("GET", &format!("http://{host}/"), &[]));
            assert_eq!(by_target, expected, "case: {case}, in the target");
        }
    }
}

/// The first rule that a request is of.
fn first(rules: &[HttpRule], request: &Request<()>) -> Option<usize> {
    compile(rules).unwrap().iter().position(|rule| rule.matches(request))
}

/// The example of the Gateway API's guide "HTTP routing", in the order that its rules of precedence
/// make of it, and that of its guide "gRPC routing".
#[test]
fn the_examples_of_the_gateway_api_are_routed_as_it_says() {
    let on_host = |host: &str, matches| HttpRule {
        hostnames: vec![Hostname::Exact(host.to_owned())],
        ..rule(matches)
    };
    let canary = HttpMatch {
        headers: vec![NamedMatch { name: "env".to_owned(), value: exact("canary") }],
        ..on_path(PathMatch::Prefix("/".to_owned()))
    };
    let everything = || on_path(PathMatch::Prefix("/".to_owned()));
    let login = on_path(PathMatch::Prefix("/login".to_owned()));
    let of_method = |path: &str| HttpMatch {
        path: Some(PathMatch::Exact(path.to_owned())),
        method: Some("POST".to_owned()),
        ..HttpMatch::default()
    };
    let rules = [
        on_host("foo.example.com", vec![login]),
        on_host("bar.example.com", vec![canary]),
        on_host("bar.example.com", vec![everything()]),
        on_host("grpc.example.com", vec![of_method("/com.example.User/Login")]),
        on_host(
            "grpc.example.com",
            vec![HttpMatch {
                path: Some(PathMatch::Prefix("/com.example.Things".to_owned())),
                ..HttpMatch::default()
            }],
        ),
    ];
    for (method, host, path, headers, expected) in [
        ("GET", "foo.example.com", "/login", &[][..], Some(0)),
        ("GET", "foo.example.com", "/login/a", &[], Some(0)),
        ("GET", "foo.example.com", "/", &[], None),
        ("GET", "bar.example.com", "/a", &[("env", "canary")], Some(1)),
        ("GET", "bar.example.com", "/a", &[("env", "production")], Some(2)),
        ("GET", "bar.example.com", "/a", &[], Some(2)),
        ("GET", "baz.example.com", "/login", &[], None),
        ("POST", "grpc.example.com", "/com.example.User/Login", &[], Some(3)),
        ("POST", "grpc.example.com", "/com.example.User/Logout", &[], None),
        ("POST", "grpc.example.com", "/com.example.Things/DoThing", &[], Some(4)),
        ("POST", "grpc.example.com", "/com.example.ThingsAndMore/Do", &[], None),
    ] {
        let target = format!("http://{host}{path}");
        let found = first(&rules, &request(method, &target, headers));
        assert_eq!(found, expected, "case: {method} {target} {headers:?}");
    }
}

#[test]
fn the_longest_prefix_by_which_a_request_matches_is_replaced() {
    let path = PathChange::Prefix("/x".to_owned());
    let rewrite = HttpFilter::Rewrite(Rewrite { hostname: None, path: Some(path) });
    let with = |matches| HttpRule { filters: vec![rewrite.clone()], ..rule(matches) };
    let prefix = |text: &str| on_path(PathMatch::Prefix(text.to_owned()));
    let both = || vec![prefix("/a"), prefix("/a/b/")];
    let on_method = HttpMatch { method: Some("GET".to_owned()), ..HttpMatch::default() };
    for (case, rule, target, expected) in [
        ("the longer", with(both()), "/a/b/c", Some("/a/b")),
        ("the shorter", with(both()), "/a/c", Some("/a")),
        ("no path", with(vec![on_method.clone()]), "/a", Some("")),
        ("no match at all", with(Vec::new()), "/a", Some("")),
        ("nobody asks", HttpRule { filters: Vec::new(), ..with(both()) }, "/a", None),
    ] {
        let compiled = compile(&[rule]).unwrap().remove(0);
        let found = compiled.prefix_to_replace(&request("GET", target, &[]));
        assert_eq!(found, expected, "case: {case}");
    }
}

#[test]
fn a_refusal_of_a_filter_names_its_field() {
    let prefix = || {
        let path = Some(PathChange::Prefix("/x".to_owned()));
        HttpFilter::Rewrite(Rewrite { hostname: None, path })
    };
    let bad = || {
        let hostname = Some("a b".to_owned());
        HttpFilter::Rewrite(Rewrite { hostname, path: None })
    };
    let backend = |filters| {
        let service = ServiceName { namespace: "default".to_owned(), name: "api".to_owned() };
        let backend = ServicePort { service, port: Port::new(80).unwrap() };
        HttpBackend { backend, weight: 1, filters }
    };
    let retry = Retry { codes: vec![1], attempts: 1, backoff: Duration::ZERO };
    let abort = FaultAbort { status: 1, grpc_status: 1, fraction: Fraction::ALL };
    let on_exact = || vec![on_path(PathMatch::Exact("/a".to_owned()))];
    for (rule, field) in [
        (HttpRule { filters: vec![bad()], ..rule(Vec::new()) }, "filters[0].urlRewrite.hostname"),
        (HttpRule { filters: vec![prefix()], ..rule(on_exact()) }, "filters[0]"),
        (
            HttpRule {
                backends: vec![backend(Vec::new()), backend(vec![bad()])],
                ..rule(Vec::new())
            },
            "backendRefs[1].filters[0].urlRewrite.hostname",
        ),
        (
            HttpRule { backends: vec![backend(vec![prefix()])], ..rule(on_exact()) },
            "backendRefs[0].filters[0]",
        ),
        (HttpRule { retry: Some(retry), ..rule(Vec::new()) }, "retry.codes[0]"),
        (
            HttpRule { fault: Fault { delay: None, abort: Some(abort) }, ..rule(Vec::new()) },
            "fault.abort.status",
        ),
    ] {
        let refused = compile(&[rule]).unwrap_err();
        assert_eq!(refused.field, format!("spec.rules[0].{field}"));
        assert_eq!(refused.origin.unwrap().to_string(), "HTTPRoute default/api");
    }
}

#[test]
fn a_session_takes_no_header_that_others_go_by() {
    let ruled = |kind, name: &str| {
        let (absolute_timeout, idle_timeout) = (None, None);
        let name = name.to_owned();
        let session = SessionPersistence { name, kind, absolute_timeout, idle_timeout };
        compile(&[HttpRule { session: Some(session), ..rule(Vec::new()) }])
    };
    for name in [
        "Content-Length",
        "transfer-encoding",
        "transfer_encoding",
        "connection",
        "upgrade",
        "te",
        "keep-alive",
        "Host",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "x-heddle-error",
        "a b",
    ] {
        let refused = ruled(SessionKind::Header, name).expect_err(name);
        assert_eq!(refused.field, "spec.rules[0].sessionPersistence.sessionName", "case: {name}");
    }
    assert!(ruled(SessionKind::Header, "x-session").is_ok());
    assert!(ruled(SessionKind::SessionCookie, "host").is_ok(), "a cookie's name is another thing");
}

#[test]
fn a_repeated_header_is_one_with_commas() {
    let twice = request("GET", "/", &[("a", "1"), ("a", "2")]);
    assert!(is_match(vec![on_header("A", exact("1,2"))], &twice));
    assert!(!is_match(vec![on_header("a", exact("1"))], &twice));
    assert!(is_match(vec![on_header("a", ValueMatch::Regex("1.*".to_owned()))], &twice));
}

#[test]
fn of_two_conditions_on_one_header_the_first_counts() {
    let headers = vec![
        NamedMatch { name: "a".to_owned(), value: exact("1") },
        NamedMatch { name: "A".to_owned(), value: exact("2") },
    ];
    let both = HttpMatch { headers, ..HttpMatch::default() };
    assert!(is_match(vec![both], &request("GET", "/", &[("a", "1")])));
}

#[test]
fn a_refusal_names_object_field_and_reason() {
    for (found, field, reason) in [
        (on_path(PathMatch::Regex("/a(".to_owned())), "path.value", "unclosed group"),
        (on_path(PathMatch::Regex("a)|(b".to_owned())), "path.value", "unopened group"),
        (on_path(PathMatch::Regex("(a{1000}){1000}".to_owned())), "path.value", "simplify"),
        (on_path(PathMatch::Prefix("a".to_owned())), "path.value", "begin with a slash"),
        (on_header("a b", exact("1")), "headers[0].name", "not a header's name"),
        (on_header("a", ValueMatch::Regex("[".to_owned())), "headers[0].value", "unclosed"),
        (
            HttpMatch { method: Some("G T".to_owned()), ..HttpMatch::default() },
            "method",
            "not a method",
        ),
    ] {
        let refused = compile(&[rule(vec![HttpMatch::default(), found])]).unwrap_err();
        assert_eq!(refused.field, format!("spec.rules[0].matches[1].{field}"));
        assert!(refused.reason.contains(reason), "{}", refused.reason);
        assert_eq!(refused.origin.unwrap().to_string(), "HTTPRoute default/api");
    }
}

/// Elements of a path, compared one by one.
fn oracle_prefix(prefix: &str, path: &str) -> bool {
    let wanted: Vec<&str> = prefix.split('/').skip(1).collect();
    let wanted = match wanted.split_last() {
        Some((&"", rest)) => rest,
        Some(_) | None => &wanted[..],
    };
    let found: Vec<&str> = path.split('/').skip(1).collect();
    wanted.len() <= found.len() && wanted.iter().zip(&found).all(|(one, other)| one == other)
}

fn oracle(found: &HttpMatch, request: &Request<()>) -> bool {
    let path = request.uri().path();
    if let Some(method) = &found.method
        && method != request.method().as_str()
    {
        return false;
    }
    let path_matches = match &found.path {
        None => true,
        Some(PathMatch::Exact(exact)) => exact == path,
        Some(PathMatch::Prefix(prefix)) => oracle_prefix(prefix, path),
        Some(PathMatch::Regex(_)) => unreachable!("not generated"),
    };
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(exact) => exact.clone(),
        ValueMatch::Regex(_) => unreachable!("not generated"),
    };
    let parameters: Vec<(&str, &str)> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let parameter = |name: &str| {
        let first = parameters.iter().find(|(found, _value)| *found == name);
        first.map(|(_name, value)| (*value).to_owned())
    };
    path_matches
        && found.headers.iter().all(|named| {
            request.headers().get(&named.name).and_then(|found| found.to_str().ok())
                == Some(&value(&named.value))
        })
        && found
            .query_parameters
            .iter()
            .all(|named| parameter(&named.name) == Some(value(&named.value)))
}

/// Labels from the right, compared one by one.
fn oracle_host(hostnames: &[Hostname], host: &str) -> bool {
    let labels = |name: &str| name.rsplit('.').map(str::to_lowercase).collect::<Vec<_>>();
    let found = labels(host.split(':').next().unwrap());
    hostnames.is_empty()
        || hostnames.iter().any(|hostname| match hostname {
            Hostname::Exact(name) => labels(name) == found,
            Hostname::Below(parent) => {
                let parent = labels(parent);
                found.len() > parent.len() && found.starts_with(&parent)
            }
        })
}

fn any_hostname() -> impl Strategy<Value = Hostname> {
    let name = "[ab](\\.[ab]){0,2}";
    prop_oneof![name.prop_map(Hostname::Exact), name.prop_map(Hostname::Below)]
}

fn any_rule() -> impl Strategy<Value = HttpRule> {
    let hostnames = proptest::collection::vec(any_hostname(), 0..3);
    let matches = proptest::collection::vec(any_match(), 0..4);
    (hostnames, matches).prop_map(|(hostnames, matches)| HttpRule { hostnames, ..rule(matches) })
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]{0,2}", 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        Just(None),
        any_path().prop_map(|path| Some(PathMatch::Exact(path))),
        any_path().prop_map(|path| Some(PathMatch::Prefix(path))),
    ];
    let header = proptest::option::of("[12]").prop_map(|value| {
        value.map(|value| NamedMatch { name: "x".to_owned(), value: exact(&value) })
    });
    let parameter = proptest::option::weighted(0.3, "[12]").prop_map(|value| {
        value.map(|value| NamedMatch { name: "q".to_owned(), value: exact(&value) })
    });
    let method = proptest::option::of("(GET|POST)");
    (path, header, parameter, method).prop_map(|(path, header, parameter, method)| HttpMatch {
        path,
        headers: header.into_iter().collect(),
        query_parameters: parameter.into_iter().collect(),
        method,
    })
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_is_that_of_the_oracle(
        rules in proptest::collection::vec(any_rule(), 0..4),
        host in "[abA](\\.[ab]){0,3}(:80)?",
        path in any_path(),
        query in "(|\\?q=[12](&q=[12])?)",
        method in "(GET|POST)",
        header in proptest::option::of("[12]"),
    ) {
        let mut headers = vec![("host", host.as_str())];
        headers.extend(header.iter().map(|value| ("x", value.as_str())));
        let request = request(&method, &format!("{path}{query}"), &headers);
        let expected = rules.iter().position(|rule| {
            oracle_host(&rule.hostnames, &host)
                && (rule.matches.is_empty()
                    || rule.matches.iter().any(|found| oracle(found, &request)))
        });
        prop_assert_eq!(first(&rules, &request), expected);
    }

    #[test]
    fn no_expression_panics(text in ".{0,40}") {
        let _ = compile(&[rule(vec![on_path(PathMatch::Regex(text))])]);
    }
}
