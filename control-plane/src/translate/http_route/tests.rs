//! What routes are read as, and what is said of those that cannot be served.

use super::*;
use crate::translate::precedence;
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
    assert_eq!(first.matches[0].path, Some(PathMatch::Prefix("/a".into())));
    assert_eq!(first.matches[0].headers.len(), 1);
    assert_eq!(first.timeouts.backend_request, Some(Duration::from_millis(500)));
    assert_eq!(second.matches[0].path, Some(PathMatch::Prefix("/".into())));
    assert_eq!(second.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [9, 1]);
}

#[test]
fn what_cannot_be_served_rejects_the_route_with_the_field() {
    let rows = [
        "{hostnames: [a.b], parentRefs: [], rules: []}".to_owned(),
        "{parentRefs: [{kind: Service, group: '', name: api, namespace: other}]}".to_owned(),
        "{parentRefs: [{kind: Service, group: '', name: api, sectionName: http}]}".to_owned(),
        "{parentRefs: [{kind: Service, group: '', name: api, port: 0}]}".to_owned(),
        with_rule(
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]}",
        ),
        with_rule(
            "{backendRefs: [{name: v1, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}]}",
        ),
        with_rule("{backendRefs: [{name: v1}]}"),
        with_rule("{backendRefs: [{name: v1, port: 80, weight: -1}]}"),
        with_rule("{matches: [{path: {type: Exact, value: a}}]}"),
        with_rule("{timeouts: {request: soon}}"),
        with_rule("{timeouts: {request: 1s, backendRequest: 2s}}"),
    ];
    let shown: Vec<String> = rows.iter().map(|spec| check(spec).unwrap_err()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_backend_of_another_kind_or_namespace_is_kept_as_unusable() {
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
    assert_eq!(reasons, ["InvalidKind", "RefNotPermitted"]);
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
            let HttpMatch { path, headers, query_parameters, method } = &chosen.http_match;
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
    let first = |routes: &[&HttpRoute]| precedence::in_order(routes)[0].route.name.clone();
    assert_eq!(first(&[&young, &old]), "old");
    assert_eq!(first(&[&old, &young]), "old");
}
