//! How routes are shown.

use heddle_model::route::{HttpMatch, PathMatch};
use heddle_proto::{admin, discovery};

use super::*;

fn name(name: &str) -> Option<discovery::ServiceName> {
    Some(discovery::ServiceName { namespace: "shop".to_owned(), name: name.to_owned() })
}

fn rule(field: &str, prefix: &str, backends: &[(&str, u32, &str)]) -> admin::RouteRule {
    let condition =
        HttpMatch { path: Some(PathMatch::Prefix(prefix.to_owned())), ..HttpMatch::default() };
    admin::RouteRule {
        field: field.to_owned(),
        matches: vec![(&condition).into()],
        backends: backends
            .iter()
            .map(|(service, weight, problem)| admin::RouteBackend {
                service: name(service),
                port: 8080,
                weight: *weight,
                problem: (*problem).to_owned(),
            })
            .collect(),
        ..admin::RouteRule::default()
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> admin::Condition {
    admin::Condition {
        r#type: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn told() -> RoutesReport {
    let route = |name_given: &str, rules: Vec<admin::RouteRule>| admin::Route {
        kind: "HTTPRoute".to_owned(),
        namespace: "shop".to_owned(),
        name: name_given.to_owned(),
        file: "routes.yaml".to_owned(),
        parents: vec![admin::RouteParent {
            service: name("api"),
            port: 8080,
            port_name: String::new(),
        }],
        rules,
        conditions: vec![condition("Accepted", "True", "Accepted", "")],
        proxies: 3,
        acknowledged: 3,
        ..admin::Route::default()
    };
    let old = route(
        "old",
        vec![
            rule("spec.rules[0]", "/items", &[("api-v1", 9, ""), ("api-v2", 1, "")]),
            rule("spec.rules[1]", "/", &[("api-v1", 1, "")]),
        ],
    );
    let mut young = route("young", vec![rule("spec.rules[0]", "/items", &[("api-v1", 1, "")])]);
    young.hostnames = vec!["*.example.com".to_owned()];
    young.shadows = vec![admin::Shadow {
        port: Some(discovery::ServicePort { service: name("api"), port: 8080 }),
        callers: String::new(),
        field: "spec.rules[0]".to_owned(),
        by: Some(discovery::ObjectReference {
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "old".to_owned(),
        }),
        by_field: "spec.rules[0]".to_owned(),
    }];
    let missing = "service shop/gone does not exist";
    let mut broken = route("broken", vec![rule("spec.rules[0]", "/x", &[("gone", 1, missing)])]);
    let message = format!("spec.rules[0].backendRefs[0]: {missing}; its share of requests fails");
    broken.conditions.push(condition("ResolvedRefs", "False", "BackendNotFound", &message));
    broken.acknowledged = 1;
    broken.refused = 2;
    RoutesReport::from(admin::Routes { version: 7, routes: vec![young, old, broken] })
}

#[test]
fn routes_are_shown_with_what_is_wrong_below() {
    insta::assert_snapshot!(render::text(&told(), false, Colour::Never));
}

#[test]
fn routes_for_machines_have_stable_fields() {
    insta::assert_json_snapshot!(told());
}

#[test]
fn where_there_is_no_route_that_is_said_with_what_would_do() {
    let none = RoutesReport { version: 7, routes: Vec::new() };
    let text = render::text(&none, false, Colour::Never);
    assert!(text.starts_with("no route is attached") && text.contains("\ntry  "), "{text}");
}
