//! What GRPCRoutes are read as.

use super::*;
use crate::translate::precedence;
use crate::translate::test_objects::read;

fn check(rules: &str) -> Result<HttpRoute, String> {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: \
         [{{kind: Service, group: '', name: api}}], rules: [{rules}]}}\n"
    );
    let (reference, route) = read::<Custom<GrpcRouteSpec>>(&text);
    translate(&route, &reference).map_err(|rejected| rejected.to_string())
}

fn path_of(method: &str) -> Result<PathMatch, String> {
    let mut route = check(&format!("{{matches: [{{method: {method}}}]}}"))?;
    Ok(route.rules.remove(0).matches.remove(0).condition.path.unwrap())
}

#[test]
fn methods_are_paths() {
    for (method, expected) in [
        ("{service: a.B, method: C}", PathMatch::Exact("/a.B/C".into())),
        ("{service: a.B}", PathMatch::Prefix("/a.B".into())),
        ("{method: C}", PathMatch::Regex("/[^/]+/C".into())),
        (
            "{type: RegularExpression, service: 'a|b', method: 'Get.*'}",
            PathMatch::Regex("/(?:a|b)/(?:Get.*)".into()),
        ),
        ("{type: RegularExpression, service: 'a.*'}", PathMatch::Regex("/(?:a.*)/[^/]+".into())),
        ("{type: RegularExpression, method: C}", PathMatch::Regex("/[^/]+/(?:C)".into())),
    ] {
        assert_eq!(path_of(method), Ok(expected), "case: {method}");
    }
}

#[test]
fn a_method_that_means_nothing_is_refused_with_the_field() {
    let field = "spec.rules[0].matches[0].method";
    for (method, part) in [
        ("{}", ""),
        ("{service: 'a/b'}", ".service"),
        ("{service: a, method: 'b c'}", ".method"),
        ("{service: a, method: b.c}", ".method"),
        ("{type: RegularExpression}", ""),
        ("{type: RegularExpression, service: 'a)|(b'}", ".service"),
        ("{type: RegularExpression, method: '['}", ".method"),
    ] {
        let error = path_of(method).unwrap_err();
        assert!(error.starts_with(&format!("{field}{part}: ")), "case: {method}: {error}");
    }
}

#[test]
fn every_call_is_matched_without_matches() {
    let route = check("{backendRefs: [{name: a, port: 1}]}").unwrap();
    let condition = &route.rules[0].matches[0].condition;
    assert_eq!(condition.path, Some(PathMatch::Prefix("/".into())));
    assert_eq!(condition.method.as_deref(), Some("POST"));
}

#[test]
fn the_longer_service_then_method_then_more_headers_come_first() {
    let route = check(
        "{matches: [{}, {method: {method: LongMethod}}, {method: {service: a.Long}}, {method: {service: a.B, \
         method: C}}, {method: {service: a.Long, method: D}}, {method: {service: a.B, method: C}, headers: \
         [{name: x, value: y}]}]}",
    )
    .unwrap();
    let order: Vec<usize> =
        precedence::in_order(&[&route]).iter().map(|candidate| candidate.match_index).collect();
    assert_eq!(order, [4, 2, 5, 3, 1, 0]);
}

#[test]
fn filters_headers_and_sessions_are_read() {
    let route = check(
        "{matches: [{headers: [{name: x, value: 'a.*', type: RegularExpression}]}], filters: [{type: \
         RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}, {type: RequestMirror, \
         requestMirror: {backendRef: {name: m, port: 1}, percent: 5}}], sessionPersistence: {type: Header, \
         sessionName: s}, backendRefs: [{name: a, port: 1, filters: [{type: ResponseHeaderModifier, \
         responseHeaderModifier: {remove: [c]}}]}]}",
    )
    .unwrap();
    let rule = &route.rules[0];
    assert_eq!((rule.filters.len(), rule.backends[0].filters.len()), (2, 1));
    assert_eq!(rule.matches[0].condition.headers.len(), 1);
    assert_eq!(rule.session.as_ref().unwrap().name, "s");
    let error =
        check("{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}");
    assert!(error.unwrap_err().starts_with("spec.rules[0].filters[0].type: ExtensionRef"));
}
