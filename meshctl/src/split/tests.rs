//! How splits are shown.

use heddle_proto::{admin, discovery};

use super::*;

fn name(name: &str) -> Option<discovery::ServiceName> {
    Some(discovery::ServiceName { namespace: "shop".to_owned(), name: name.to_owned() })
}

fn held(shares: [(&str, u32); 2], proxies: u32) -> admin::HeldShares {
    let shares = shares.map(|(service, weight)| discovery::WeightedBackend {
        backend: Some(discovery::ServicePort { service: name(service), port: 8080 }),
        weight,
    });
    admin::HeldShares { shares: shares.to_vec(), missing_weight: 0, proxies }
}

fn told(acknowledged: u32) -> SplitsReport {
    let backend = |service: &str, weight| admin::RouteBackend {
        service: name(service),
        port: 0,
        weight,
        problem: String::new(),
    };
    let rule = admin::RouteRule {
        field: "spec.backends".to_owned(),
        backends: vec![backend("api-v1", 9), backend("api-v2", 1)],
        held: vec![
            held([("api-v1", 9), ("api-v2", 1)], acknowledged),
            held([("api-v1", 1), ("api-v2", 0)], 3 - acknowledged),
        ],
        ..admin::RouteRule::default()
    };
    let route = admin::Route {
        kind: "TrafficSplit".to_owned(),
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
        parents: vec![admin::RouteParent {
            service: name("api"),
            port: 0,
            port_name: String::new(),
        }],
        rules: vec![rule],
        proxies: 3,
        acknowledged,
        ..admin::Route::default()
    };
    let routes = RoutesReport::from(admin::Routes { version: 7, routes: vec![route] });
    SplitsReport::of(routes.version, &routes.routes, Some("shop/api"))
}

#[test]
fn a_split_is_shown_as_it_is_wanted_and_as_proxies_act_on_it() {
    insta::assert_snapshot!(render::text(&told(2), None, false, Colour::Never));
}

#[test]
fn splits_for_machines_have_stable_fields() {
    insta::assert_json_snapshot!(told(2));
}

#[test]
fn where_nothing_is_split_that_is_said_with_what_would_do() {
    let none = SplitsReport::of(7, &[], None);
    let text = render::text(&none, None, false, Colour::Never);
    assert!(text.starts_with("nothing is split"), "{text}");
    assert!(text.contains("try  a TrafficSplit"), "{text}");
    let of_one = render::text(&none, Some("shop/api"), false, Colour::Never);
    assert!(of_one.starts_with("nothing splits service shop/api"), "{of_one}");
}
