//! What is told of routes, from objects as they are written.

use std::sync::Arc;

use heddle_model::resource::Version;

use super::*;
use crate::index::Index;
use crate::source::Event;
use crate::source::document::read_file;

const OBJECTS: &str = "
kind: Service
apiVersion: v1
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.43.0.1, ports: [{port: 80, name: http}]}
---
kind: Service
apiVersion: v1
metadata: {name: v1, namespace: shop}
spec: {clusterIP: 10.43.0.2, ports: [{port: 80, name: http}]}
---
kind: Service
apiVersion: v1
metadata: {name: v2, namespace: other}
spec: {clusterIP: 10.43.0.3, ports: [{port: 80, name: http}]}
---
kind: TrafficSplit
apiVersion: split.smi-spec.io/v1alpha4
metadata: {name: api, namespace: shop}
spec: {service: api, backends: [{service: v1, weight: 90}, {service: api, weight: 10}]}
";

const ROUTES: &str = "
kind: HTTPRoute
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: old, namespace: shop, creationTimestamp: '2024-01-01T00:00:00Z'}
spec:
  parentRefs: [{kind: Service, group: '', name: api}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}}, {path: {type: PathPrefix, value: /a}}]
    backendRefs: [{name: v1, port: 80, weight: 3}, {name: gone, port: 80}, {name: v2, namespace: other, port: 80}]
  - backendRefs: [{name: v1, port: 81}]
---
kind: HTTPRoute
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: young, namespace: shop, creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  parentRefs: [{kind: Service, group: '', name: api}]
  hostnames: ['*.example.com']
  rules: [{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: v1, port: 80}]}]
---
kind: HTTPRoute
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: younger, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}
spec:
  parentRefs: [{kind: Service, group: '', name: api}]
  rules: [{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: v1, port: 80}]}]
---
kind: TCPRoute
apiVersion: gateway.networking.k8s.io/v1alpha2
metadata: {name: bytes, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: api}]
  rules: [{backendRefs: [{name: v1, port: 80}]}]
";

fn told(objects: &str, namespace: &str) -> Vec<wire::Route> {
    let mut index = Index::new("cluster.local".parse().unwrap());
    let content = read_file("test.yaml", objects);
    assert!(content.failures.is_empty(), "{:?}", content.failures);
    for object in content.objects {
        index.apply(Event::Applied(object.into()));
    }
    let contents = Arc::new(index.contents(&Contents::default()));
    let snapshot = Snapshot::first(Version(9), contents);
    routes(&snapshot, &Progress::default(), namespace, &|_| Vec::new()).routes
}

fn shadows(routes: &[wire::Route]) -> Vec<String> {
    let all = routes.iter().flat_map(|route| {
        route.shadows.iter().map(move |shadow| {
            let by = shadow.by.as_ref().map(|by| format!("{} {}", by.kind, by.name));
            let (by, by_field) = (by.unwrap_or_default(), &shadow.by_field);
            format!("{} {} {}: {by} {by_field}", route.kind, route.name, shadow.field)
        })
    });
    all.collect()
}

#[test]
fn routes_are_told_with_what_shadows_them() {
    let routes = told(&format!("{OBJECTS}---{ROUTES}"), "");
    assert_eq!(
        shadows(&routes),
        [
            "HTTPRoute younger spec.rules[0]: HTTPRoute old spec.rules[0]",
            "TCPRoute bytes : HTTPRoute old ",
            "TrafficSplit api : HTTPRoute young ",
        ]
    );
    let young = routes.iter().find(|route| route.name == "young").unwrap();
    assert_eq!(young.hostnames, ["*.example.com"]);
    assert_eq!(young.rules[0].matches.len(), 1);
}

#[test]
fn a_backend_that_gets_nothing_says_why() {
    let routes = told(&format!("{OBJECTS}---{ROUTES}"), "shop");
    let old = routes.iter().find(|route| route.name == "old").unwrap();
    let problems: Vec<(u32, &str)> = old
        .rules
        .iter()
        .flat_map(|rule| &rule.backends)
        .map(|backend| (backend.weight, backend.problem.as_str()))
        .collect();
    assert_eq!(
        problems,
        [
            (3, ""),
            (1, "service shop/gone does not exist"),
            (1, "service other/v2 is of another namespace, and no ReferenceGrant there allows it"),
            (1, "service shop/v1 has no port 81 (it has 80)"),
        ]
    );
}

#[test]
fn a_split_that_counts_is_shadowed_by_nothing() {
    let routes = told(OBJECTS, "shop");
    let [split] = routes.as_slice() else { panic!("{routes:?}") };
    assert_eq!(shadows(&routes), [""; 0]);
    let weights: Vec<u32> = split.rules[0].backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [9, 1]);
    assert!(told(OBJECTS, "other").is_empty());
}
