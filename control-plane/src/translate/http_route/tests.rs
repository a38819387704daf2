//! What routes are read as, and what is said of those that cannot be served.

use std::time::Duration;

use heddle_model::route::{HttpMatch, PathMatch};

use super::*;
use crate::translate::precedence;
use crate::translate::route::BackendTarget;
use crate::translate::test_objects::read;

fn check(spec: &str) -> Result<HttpRoute, String> {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
    );
    let (reference, route) = read::<Custom<HttpRouteSpec>>(&text);
    translate(&route, &reference).map_err(|rejected| format!("{:?} {rejected}", rejected.reason))
}

fn with_rule(rule: &str) -> String {
    format!("{{parentRefs: [{{kind: Service, group: '', name: api}}], rules: [{rule}]}}")
}

#[test]
fn a_route_of_a_service_is_read() {
    let route = check(
        "{parentRefs: [{kind: Service, group: core, name: api, port: 80}, {kind: Gateway, name: g}], \
         rules: [{matches: [{path: {value: /a/}, method: GET, headers: [{name: X, value: v}, {name: x, \
         value: w}]}], timeouts: {request: 2s, backendRequest: 500ms}, backendRefs: [{name: v2, port: 80}]}, \
         {backendRefs: [{name: v1, port: 80, weight: 9}, {name: v2, port: 80}]}]}",
    )
    .unwrap();
    assert_eq!(route.parents.len(), 1);
    let [first, second] = route.rules.as_slice() else { panic!("two rules") };
    assert_eq!(first.matches[0].condition.path, Some(PathMatch::Prefix("/a".into())));
    assert_eq!(first.matches[0].condition.headers.len(), 1);
    assert_eq!(first.timeouts.backend_request, Some(Duration::from_millis(500)));
    assert_eq!(second.matches[0].condition.path, Some(PathMatch::Prefix("/".into())));
    assert_eq!(second.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [9, 1]);
}

#[test]
fn what_cannot_be_served_rejects_the_route_with_the_field() {
    let filter = |filter: &str| with_rule(&format!("{{filters: [{filter}]}}"));
    let redirect =
        |part: &str| filter(&format!("{{type: RequestRedirect, requestRedirect: {part}}}"));
    let mirror = |part: &str| {
        filter(&format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: m, port: 80}}, {part}}}}}"
        ))
    };
    let cors = |part: &str| filter(&format!("{{type: CORS, cors: {part}}}"));
    let headers = |part: &str| {
        filter(&format!("{{type: RequestHeaderModifier, requestHeaderModifier: {part}}}"))
    };
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}";
    let rows = [
        "{hostnames: [a_b], parentRefs: [], rules: []}".to_owned(),
        "{parentRefs: [{kind: Service, group: '', name: api, port: 0}]}".to_owned(),
        with_rule("{backendRefs: [{name: v1}]}"),
        with_rule("{backendRefs: [{name: v1, port: 80, weight: -1}]}"),
        with_rule("{matches: [{path: {type: Exact, value: a}}]}"),
        with_rule("{timeouts: {request: soon}}"),
        with_rule("{timeouts: {request: 1s, backendRequest: 2s}}"),
        with_rule("{retry: {codes: [503, 200]}}"),
        with_rule("{retry: {attempts: -1}}"),
        with_rule("{retry: {backoff: soon}}"),
        with_rule("{sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}"),
        filter("{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}"),
        filter("{type: RequestHeaderModifier}"),
        filter("{type: URLRewrite, urlRewrite: {hostname: a}, cors: {}}"),
        filter(
            "{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}",
        ),
        filter("{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}"),
        filter("{type: URLRewrite, urlRewrite: {hostname: 'a b'}}"),
        headers("{set: [{name: Host, value: 'a b'}]}"),
        headers("{add: [{name: Host, value: a}]}"),
        headers("{remove: [host]}"),
        headers("{set: [{name: X-Forwarded-Client-Cert, value: a}]}"),
        filter(
            "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Host, value: a}]}}",
        ),
        headers("{add: [{name: Transfer-Encoding, value: chunked}]}"),
        headers("{add: [{name: 'a b', value: c}]}"),
        headers("{set: [{name: a, value: \"b\\r\\nc: d\"}]}"),
        headers("{remove: [connection]}"),
        redirect("{statusCode: 200}"),
        redirect("{port: 0}"),
        redirect("{path: {type: ReplaceFullPath, replaceFullPath: a}}"),
        redirect("{path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}"),
        redirect("{path: {type: ReplaceFullPath, replacePrefixMatch: /a}}"),
        with_rule(&format!(
            "{{matches: [{{path: {{value: /a}}}}, {{path: {{type: Exact, value: /a}}}}], filters: [{{type: \
             URLRewrite, urlRewrite: {{{prefix}}}}}]}}"
        )),
        with_rule(
            "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: v1, port: 80}]}",
        ),
        mirror("percent: 101"),
        mirror("percent: 1, fraction: {numerator: 1}"),
        mirror("fraction: {numerator: 2, denominator: 1}"),
        cors("{allowOrigins: ['*', 'https://a.b']}"),
        cors("{allowOrigins: [a.b]}"),
        cors("{allowMethods: ['G T']}"),
        cors("{maxAge: -1}"),
        with_rule(
            "{backendRefs: [{name: v1, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}]}",
        ),
    ];
    let shown: Vec<String> = rows.iter().map(|spec| check(spec).unwrap_err()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_proxies_could_not_match_by_is_the_fault_of_its_route_with_the_field() {
    for (part, expected) in [
        ("path: {type: RegularExpression, value: '/(a'}", "path.value"),
        (r"path: {type: RegularExpression, value: '/(\w{100}){100}'}", "path.value"),
        ("headers: [{name: a, value: '(b', type: RegularExpression}]", "headers[0].value"),
        ("headers: [{name: a, value: b}, {name: 'a b', value: c}]", "headers[1].name"),
        ("headers: [{name: '', value: c}]", "headers[0].name"),
        ("queryParams: [{name: a, value: '[', type: RegularExpression}]", "queryParams[0].value"),
    ] {
        let error = check(&with_rule(&format!("{{matches: [{{{part}}}]}}"))).unwrap_err();
        let expected = format!("Invalid spec.rules[0].matches[0].{expected}: ");
        assert!(error.starts_with(&expected), "case: {part}: {error}");
    }
}

#[test]
fn a_backend_of_another_kind_is_kept_as_unusable() {
    let rule =
        "{backendRefs: [{name: a, kind: Bucket, group: x.y}, {name: b, namespace: n, port: 1}]}";
    let route = check(&with_rule(rule)).unwrap();
    let reasons: Vec<&str> = route.rules[0]
        .backends
        .iter()
        .map(|backend| match &backend.target {
            BackendTarget::Unusable { reason, .. } => *reason,
            BackendTarget::Service(_) => "usable",
        })
        .collect();
    assert_eq!(reasons, ["InvalidKind", "usable"]);
}

#[test]
fn the_most_specific_match_comes_first() {
    let route = check(&with_rule(
        "{matches: [{path: {value: /}}, {path: {type: Exact, value: /a}}, {path: {value: /a/b}}, \
         {path: {value: /a}}, {path: {value: /a}, method: GET}, {path: {value: /a}, headers: [{name: x, \
         value: v}]}, {path: {value: /a}, queryParams: [{name: q, value: v}]}, \
         {path: {type: RegularExpression, value: '/[a-z]+'}}]}",
    ))
    .unwrap();
    let order: Vec<String> = precedence::in_order(&[&route])
        .into_iter()
        .map(|chosen| {
            let HttpMatch { path, headers, query_parameters, method } = &chosen.one_match.condition;
            let path = match path {
                Some(PathMatch::Exact(path)) => format!("= {path}"),
                Some(PathMatch::Prefix(path)) => format!("^ {path}"),
                Some(PathMatch::Regex(path)) => format!("~ {path}"),
                None => "any".to_owned(),
            };
            let extra = (method.is_some(), headers.len(), query_parameters.len());
            format!("{path} {extra:?}")
        })
        .collect();
    insta::assert_snapshot!(order.join("\n"), @r"
    = /a (false, 0, 0)
    ~ /[a-z]+ (false, 0, 0)
    ^ /a/b (false, 0, 0)
    ^ /a (true, 0, 0)
    ^ /a (false, 1, 0)
    ^ /a (false, 0, 1)
    ^ /a (false, 0, 0)
    ^ / (false, 0, 0)
    ");
}

#[test]
fn of_equal_matches_the_older_route_wins() {
    let mut young = check(&with_rule("{}")).unwrap();
    let mut old = young.clone();
    young.reference.name = "young".into();
    old.reference.name = "old".into();
    let metadata = |second| k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        creation_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            k8s_openapi::jiff::Timestamp::from_second(second).unwrap(),
        )),
        ..Default::default()
    };
    young.seniority = Seniority::new(&metadata(2), &young.reference);
    old.seniority = Seniority::new(&metadata(1), &old.reference);
    let first =
        |routes: &[&HttpRoute]| precedence::in_order(routes)[0].route.reference.name.clone();
    assert_eq!(first(&[&young, &old]), "old");
    assert_eq!(first(&[&old, &young]), "old");
}

#[test]
fn every_filter_is_read() {
    let filter = |filter: &str| {
        let rule = format!("{{matches: [{{path: {{value: /a}}}}], filters: [{filter}]}}");
        let mut route = check(&with_rule(&rule)).unwrap();
        route.rules.remove(0).filters.remove(0)
    };
    let rows = [
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, \
         value: ' d '}, {name: C, value: e}], remove: [f]}}",
        "{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: b}]}}",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: 'a.b:80'}]}}",
        "{type: RequestRedirect, requestRedirect: {}}",
        "{type: RequestRedirect, requestRedirect: {scheme: https, hostname: A.example.com, port: 8443, \
         statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /b}}}",
        "{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: \
         /b/}}}",
        "{type: URLRewrite, urlRewrite: {hostname: b, path: {type: ReplacePrefixMatch, \
         replacePrefixMatch: ''}}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}, percent: 42}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: m, namespace: n, port: 80}, fraction: \
         {numerator: 5, denominator: 1000}}}",
        "{type: CORS, cors: {allowOrigins: ['https://*.example.com', 'http://a:8080'], allowMethods: ['*'], \
         allowHeaders: [x-a], exposeHeaders: [x-b], allowCredentials: true, maxAge: 60}}",
        "{type: CORS, cors: {}}",
    ];
    let shown: Vec<String> = rows.iter().map(|row| format!("{:?}", filter(row))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn mirrors_may_be_several_and_backends_have_filters_of_their_own() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}";
    let own = "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}";
    let rule = format!(
        "{{filters: [{mirror}, {mirror}], backendRefs: [{{name: v1, port: 80, filters: [{own}, {mirror}]}}]}}"
    );
    let route = check(&with_rule(&rule)).unwrap();
    assert_eq!(route.rules[0].filters.len(), 2);
    assert_eq!(route.rules[0].backends[0].filters.len(), 2);
}

#[test]
fn retries_and_sessions_are_read_with_their_defaults() {
    let route = check(&with_rule(
        "{retry: {codes: [503, 500, 503], attempts: 3, backoff: 100ms}, sessionPersistence: {sessionName: s}}, \
         {retry: {}}",
    ))
    .unwrap();
    let retry = route.rules[0].retry.clone().unwrap();
    assert_eq!((retry.codes.as_slice(), retry.attempts), (&[503, 500][..], 3));
    assert_eq!(retry.backoff, Duration::from_millis(100));
    assert_eq!(route.rules[0].session.clone().unwrap().name, "s");
    let retry = route.rules[1].retry.clone().unwrap();
    assert_eq!(
        (retry.codes.len(), retry.attempts, retry.backoff),
        (0, 1, Duration::from_millis(25))
    );
}
