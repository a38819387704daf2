//! Which rule is meant, by table.

use heddle_report::routes::Parent;

use super::*;

fn backend(name: &str) -> Backend {
    Backend { backend: name.to_owned(), weight: 1, share: String::new(), problem: None }
}

fn route(kind: &str, name: &str, service: &str, rules: &[(&str, &[&str])]) -> RouteReport {
    RouteReport {
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        file: "api.yaml".to_owned(),
        parents: vec![Parent { service: service.to_owned(), port: None, port_name: None }],
        hostnames: Vec::new(),
        rules: rules
            .iter()
            .map(|(field, backends)| Rule {
                field: (*field).to_owned(),
                conditions: vec!["*".to_owned()],
                filters: Vec::new(),
                backends: backends.iter().map(|name| backend(name)).collect(),
                held: Vec::new(),
            })
            .collect(),
        conditions: Vec::new(),
        shadows: Vec::new(),
        proxies: 0,
        acknowledged: 0,
        refused: 0,
    }
}

fn routes() -> Vec<RouteReport> {
    let two: &[&str] = &["shop/api-v1", "shop/api-v2"];
    vec![
        route("TrafficSplit", "api", "shop/api", &[("spec.backends", two)]),
        route(
            "HTTPRoute",
            "web",
            "shop/web",
            &[
                ("spec.rules[0]", &["shop/blue:80", "shop/green:80"]),
                ("spec.rules[1]", &["shop/blue:80", "shop/green:80"]),
                ("spec.rules[2]", &["shop/blue:80"]),
            ],
        ),
    ]
}

fn planned(service: &str, typed: &[&str], rule: Option<usize>) -> Result<Change, String> {
    let weights: Vec<Weight> = typed.iter().map(|text| text.parse().unwrap()).collect();
    let wish = Wish { service, weights: &weights, route: None, rule };
    plan(&routes(), wish).map_err(|failure| failure.to_string())
}

#[test]
fn a_backend_is_meant_by_its_name_or_by_its_version() {
    for (case, typed) in [
        ("versions", ["v1=90", "v2=10"]),
        ("names", ["api-v1=90", "api-v2=10"]),
        ("with the namespace", ["shop/api-v1=90", "shop/api-v2=10"]),
        ("in any order", ["v2=10", "api-v1=90"]),
    ] {
        let change = planned("shop/api", &typed, None).unwrap();
        assert_eq!(change.place, Place::Split, "case: {case}");
        let expected = [("api-v1".to_owned(), 90), ("api-v2".to_owned(), 10)];
        assert_eq!(change.weights, expected, "case: {case}");
    }
}

#[test]
fn what_is_not_one_rules_backends_is_refused_with_the_reason() {
    for (case, service, typed, rule, expected) in [
        ("no split", "shop/store", &["a=1"][..], None, "nothing splits service shop/store"),
        (
            "an unknown backend",
            "shop/api",
            &["v1=1", "v3=1"],
            None,
            "no backend \"v3\" (it has api-v1, api-v2)",
        ),
        ("one is missing", "shop/api", &["v1=1"], None, "api-v2 is given no weight"),
        (
            "one is there twice",
            "shop/api",
            &["v1=1", "api-v1=2"],
            None,
            "\"api-v1\" is there twice",
        ),
        ("nothing is left", "shop/api", &["v1=0", "v2=0"], None, "all weights are 0"),
        ("two rules", "shop/web", &["blue=1", "green=1"], None, "--rule N"),
        (
            "no such rule",
            "shop/web",
            &["blue=1", "green=1"],
            Some(7),
            "no rule of service shop/web",
        ),
    ] {
        let failure = planned(service, typed, rule).unwrap_err();
        assert!(failure.contains(expected), "case: {case}: {failure}");
    }
    let change = planned("shop/web", &["blue=1", "green=3"], Some(1)).unwrap();
    assert_eq!(change.place.pointer(), "/spec/rules/1/backendRefs");
}
