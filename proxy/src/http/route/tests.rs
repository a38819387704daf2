//! Route matching by table, and against an oracle that is written another way.

use proptest::prelude::*;

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
    path_matches
        && found.headers.iter().all(|named| {
            request.headers().get(&named.name).and_then(|found| found.to_str().ok())
                == Some(&value(&named.value))
        })
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
    let method = proptest::option::of("(GET|POST)");
    (path, header, method).prop_map(|(path, header, method)| HttpMatch {
        path,
        headers: header.into_iter().collect(),
        query_parameters: Vec::new(),
        method,
    })
}

proptest! {
    #[test]
    fn matching_agrees_with_the_oracle(
        matches in proptest::collection::vec(any_match(), 0..4),
        path in any_path(),
        method in "(GET|POST)",
        header in proptest::option::of("[12]"),
    ) {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("x", value.as_str())).collect();
        let request = request(&method, &path, &headers);
        let expected = matches.is_empty() || matches.iter().any(|found| oracle(found, &request));
        prop_assert_eq!(is_match(matches, &request), expected);
    }

    #[test]
    fn no_expression_panics(text in ".{0,40}") {
        let _ = compile(&[rule(vec![on_path(PathMatch::Regex(text))])]);
    }
}
