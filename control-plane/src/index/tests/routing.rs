//! Which routes count, for whom, and what is said of those that do not.

use super::*;

fn http(name: &str, rest: &str, backend: &str) -> String {
    route(name, &format!("{rest}rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]"))
}

fn of_kind(text: String, kind: &str) -> String {
    text.replace("kind: HTTPRoute", &format!("kind: {kind}"))
}

/// A route of namespace `web` for a service of `shop`.
pub(super) fn consumer(name: &str, backends: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: \
         web}}\nspec: {{parentRefs: [{{kind: Service, group: '', name: api, namespace: shop, port: 80}}], \
         rules: [{{backendRefs: [{backends}]}}]}}\n---\n"
    )
}

pub(super) fn caller(name: &str, namespace: &str) -> String {
    pod(name, "{ip: 10.42.7.7}", "").replace("namespace: shop", &format!("namespace: {namespace}"))
}

const API: &str = "10.43.0.1:80";

#[test]
fn a_consumers_route_is_for_callers_of_its_namespace_only() {
    let text = shop()
        + &http("r", "", "v1")
        + &consumer("own", "{name: v2, namespace: shop, port: 80}")
        + &caller("w", "web")
        + &caller("o", "other");
    let contents = contents(&text);
    let to = |caller: &str| shown_destination(destination_for(&contents, API, caller));
    assert!(to("w-uid").contains("shop/v2:80=1 (HTTPRoute web/own"), "{}", to("w-uid"));
    for other in ["o-uid", "a-uid", "nobody"] {
        assert!(to(other).contains("shop/v1:80=1 (HTTPRoute shop/r"), "case: {other}");
    }
    assert_eq!(
        conditions(&contents, "HTTPRoute", "own"),
        "Accepted True Accepted \nResolvedRefs True ResolvedRefs "
    );
}

#[test]
fn what_a_consumers_route_means_is_shared_by_its_namespace_and_kept() {
    let mut index = new_index();
    let text = shop()
        + &consumer("own", "{name: v2, namespace: shop, port: 80}")
        + &caller("w", "web")
        + &caller("x", "web");
    let before = apply(&mut index, &text);
    let asked = |contents: &Contents, caller: &str| {
        let key = ResourceKey::Destination(API.parse().unwrap());
        contents.resource(&key, &caller.parse().unwrap()).unwrap()
    };
    let own = asked(&before, "w-uid");
    assert!(std::sync::Arc::ptr_eq(&own, &asked(&before, "x-uid")));
    assert_ne!(own.digest, asked(&before, "a-uid").digest);
    let after = index.contents(&before);
    assert!(std::sync::Arc::ptr_eq(&own, &asked(&after, "w-uid")));
}

#[test]
fn hostnames_of_a_route_that_is_a_gateways_too_are_no_condition_in_the_mesh() {
    let named = http("r", "hostnames: [shop.example.com], ", "v1");
    let both = named.replace("name: api}]", "name: api}, {name: gateway}]");
    for (case, text, rule, said) in [
        ("of a service only", named, "shop.example.com [^ /]", "Accepted True Accepted "),
        (
            "of a gateway, too",
            both,
            "\n  [^ /]",
            "Accepted True Accepted spec.hostnames: do not count in the mesh, since one of the route's parents is \
             no Service",
        ),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let contents = contents(&(shop() + &of_kind(text.clone(), kind)));
            assert!(
                shown(&contents, API).contains(rule),
                "case: {case}: {}",
                shown(&contents, API)
            );
            let conditions = conditions(&contents, kind, "r");
            assert!(conditions.starts_with(&format!("{said}\n")), "case: {case}: {conditions}");
        }
    }
}

#[test]
fn a_service_of_another_namespace_needs_a_grant() {
    let far = |name: &str| {
        http(name, "", "far")
            .replace("{name: far, port: 80}", "{name: v9, namespace: far, port: 80}")
    };
    let service = service("v9", "10.43.9.9", HTTP).replace("namespace: shop", "namespace: far");
    let text = shop() + &service + &far("r");
    let grant = "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: \
                 far}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], \
                 to: [{group: '', kind: Service}]}\n";
    let refused = contents(&text);
    assert!(shown(&refused, API).contains("missing=1"));
    insta::assert_snapshot!(conditions(&refused, "HTTPRoute", "r"));
    let granted = contents(&(text + grant));
    assert!(shown(&granted, API).contains("far/v9:80=1"), "{}", shown(&granted, API));
}

#[test]
fn a_second_parent_is_no_grant_to_the_callers_of_the_first() {
    let far = service("v9", "10.43.9.9", HTTP).replace("namespace: shop", "namespace: far");
    let with = |parents: &str| {
        http("r", "", "v9")
            .replace("{name: v9, port: 80}", "{name: v9, namespace: far, port: 80}")
            .replace("{kind: Service, group: '', name: api}", parents)
    };
    let api = "{kind: Service, group: '', name: api}";
    let v9 = "{kind: Service, group: '', name: v9, namespace: far}";
    let text = shop() + &far + &with(&format!("{api}, {v9}")) + &caller("w", "shop");
    let contents = contents(&text);
    assert!(shown(&contents, API).contains("missing=1"), "{}", shown(&contents, API));
    let own = shown_destination(destination_for(&contents, "10.43.9.9:80", "w-uid"));
    assert!(own.contains("-> far/v9:80=1 (HTTPRoute"), "its own service needs none: {own}");
    let said = conditions(&contents, "HTTPRoute", "r");
    assert!(said.contains("ResolvedRefs False RefNotPermitted"), "{said}");
}

#[test]
fn of_several_kinds_of_routes_the_most_special_counts() {
    let connections = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: t, \
                       namespace: shop}\nspec: {parentRefs: [{kind: Service, group: '', name: api}], rules: \
                       [{backendRefs: [{name: v1, port: 5432}]}]}\n---\n";
    let grpc =
        of_kind(http("g", "", "v2"), "GRPCRoute").replace("name: api}", "name: api, port: 80}");
    let http = http("h", "", "v1").replace("name: api}", "name: api, port: 80}");
    let contents = contents(&(shop() + connections + &grpc + &http));
    let mut said = vec![shown(&contents, API), shown(&contents, "10.43.0.1:5432")];
    for (kind, name) in [("GRPCRoute", "g"), ("HTTPRoute", "h"), ("TCPRoute", "t")] {
        said.push(format!("{kind} {}", conditions(&contents, kind, name)));
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_route_by_server_name_leaves_ports_what_they_are_to_all_that_is_not_encrypted() {
    let ports = "{port: 80, name: http}, {port: 81, name: grpc}, {port: 82, name: tcp}, {port: 83, name: \
                 https}, {port: 84, name: other}";
    let tls = of_kind(http("t", "hostnames: [a.b], ", "v1"), "TLSRoute");
    let contents = contents(&(shop() + &service("api", "10.43.0.1", ports) + &tls));
    for (port, expected) in
        [(80, "Detect"), (81, "Detect"), (82, "Opaque"), (83, "Tls"), (84, "Detect")]
    {
        let text = shown(&contents, &format!("10.43.0.1:{port}"));
        assert!(text.starts_with(&format!("shop/api:{port} {expected}\n")), "case: {text}");
        assert!(text.contains("  tls a.b -> shop/v1:80=1"), "case: {text}");
    }
}

#[test]
fn a_parent_that_does_not_exist_is_told_with_its_field() {
    let with = |name: &str, parent: &str| {
        http(name, "", "v1").replace("name: api}", &format!("name: {parent}}}"))
    };
    let text = shop()
        + &with("a", "api, port: 81")
        + &with("b", "api, sectionName: grpc")
        + &with("c", "api, sectionName: http, port: 5432")
        + &with("d", "web")
        + &with("f", "api, port: 5432")
        + &with("e", "api, sectionName: http");
    let contents = contents(&text);
    let said: Vec<String> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|name| conditions(&contents, "HTTPRoute", name).lines().next().unwrap().to_owned())
        .collect();
    insta::assert_snapshot!(said.join("\n"));
    assert!(shown(&contents, API).contains("HTTPRoute shop/e"));
    assert!(!shown(&contents, "10.43.0.1:5432").contains("shop/e"));
}

fn group(name: &str) -> String {
    format!(
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {{name: {name}, namespace: \
         shop}}\nspec: {{matches: [{{name: m, pathRegex: '/new/.*', methods: [GET]}}]}}\n---\n"
    )
}

fn matched_split(group: &str) -> String {
    split("s", "{service: v1, weight: 1}, {service: v2, weight: 3}")
        .replace("v1alpha2", "v1alpha4")
        .replace(
            "backends:",
            &format!("matches: [{{kind: HTTPRouteGroup, name: {group}}}], backends:"),
        )
}

#[test]
fn a_split_with_conditions_leaves_other_requests_to_its_root() {
    let mut index = new_index();
    let contents = apply(&mut index, &(shop() + &group("g") + &matched_split("g")));
    insta::assert_snapshot!(shown(&contents, API), @r"
    shop/api:80 Http1
      [~ /new/.*] -> shop/v1:80=1 shop/v2:80=3 (TrafficSplit shop/s spec.backends)
      [] -> shop/api:80=1 (TrafficSplit shop/s spec.backends)
      tcp -> shop/api:80=1
    ");
    let before = shown(&contents, API);
    index.apply(Event::Deleted(ObjectReference {
        kind: "HTTPRouteGroup".into(),
        namespace: "shop".into(),
        name: "g".into(),
    }));
    let contents = index.contents(&contents);
    assert_eq!(shown(&contents, API), before);
    let gone = conditions(&contents, "TrafficSplit", "s");
    let contents = apply(&mut index, &matched_split("h"));
    assert_eq!(shown(&contents, API), before);
    insta::assert_snapshot!(format!("{gone}\n{}", conditions(&contents, "TrafficSplit", "s")));
}

#[test]
fn a_leaf_without_the_roots_port_is_named_with_what_happens_to_its_share() {
    let mut index = new_index();
    let leaves = "{service: v1, weight: 9}, {service: v2, weight: 1}";
    let contents = apply(&mut index, &(shop() + &split("s", leaves)));
    let before = shown(&contents, API);
    let contents = apply(&mut index, &service("v2", "10.43.0.3", HTTP));
    assert_eq!(shown(&contents, API), before);
    let lost = conditions(&contents, "TrafficSplit", "s");
    let fresh =
        super::contents(&(shop() + &service("v2", "10.43.0.3", HTTP) + &split("s", leaves)));
    insta::assert_snapshot!(format!("{lost}\n{}", conditions(&fresh, "TrafficSplit", "s")));
}

#[test]
fn failures_on_purpose_come_from_the_route_before_the_policy_before_the_service() {
    let faulty = service("api", "10.43.0.1", "{port: 80, name: http}").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {heddle.dev/fault-abort: '500'}}",
    );
    let policy = "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\nspec: \
                  {targetRefs: [{kind: Service, name: api}], faultInjection: {abort: {httpStatus: 502}}}\n---\n";
    let own = http("r", "", "v1").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {heddle.dev/fault-abort: '504'}}",
    );
    let status = |text: String| match destination(&contents(&text), API) {
        Destination::Service(service) => {
            service.http_rules[0].fault.abort.as_ref().map(|abort| abort.status)
        }
        other @ (Destination::PassThrough
        | Destination::Refused { .. }
        | Destination::Endpoint(_)) => panic!("{other:?}"),
    };
    assert_eq!(status(shop()), None);
    assert_eq!(status(shop() + &faulty), Some(500));
    assert_eq!(status(shop() + &faulty + policy), Some(502));
    assert_eq!(status(shop() + &faulty + policy + &http("q", "", "v1")), Some(502));
    assert_eq!(status(shop() + &faulty + policy + &own), Some(504));
}

#[test]
fn what_is_left_of_a_failure_on_purpose_ends_it_and_holds_up_nothing() {
    let left = "{heddle.dev/fault-delay-percent: '10'}";
    let annotated = |text: String, annotations: &str| {
        text.replace("namespace: shop}", &format!("namespace: shop, annotations: {annotations}}}"))
    };
    let of_service = |ports: &str| service("api", "10.43.0.1", ports);
    let of_route = || http("r", "", "v1");
    let faults = |contents: &Contents, port: u16| match destination(
        contents,
        &format!("10.43.0.1:{port}"),
    ) {
        Destination::Service(service) => {
            service.http_rules.iter().filter(|rule| rule.fault.delay.is_some()).count()
        }
        other @ (Destination::PassThrough
        | Destination::Refused { .. }
        | Destination::Endpoint(_)) => panic!("{other:?}"),
    };
    let whole = "{heddle.dev/fault-delay: 1s, heddle.dev/fault-delay-percent: '10'}";
    for (case, kind, before, after, port) in [
        (
            "a service",
            "Service",
            annotated(of_service(HTTP), whole),
            annotated(of_service("{port: 81}"), left),
            81,
        ),
        ("a route", "HTTPRoute", annotated(of_route(), whole), annotated(of_route(), left), 80),
    ] {
        let mut index = new_index();
        let contents = apply(&mut index, &(shop() + &before));
        assert_eq!(faults(&contents, 80), 1, "case: {case}");
        let contents = apply(&mut index, &after);
        assert_eq!(faults(&contents, port), 0, "case: {case}");
        let name = if kind == "Service" { "api" } else { "r" };
        let said = conditions(&contents, kind, name);
        let expected = "Accepted True Accepted metadata.annotations.heddle.dev/fault-delay-percent: does nothing \
                        without heddle.dev/fault-delay; it makes no failures";
        assert!(said.starts_with(expected), "case: {case}: {said}");
    }
}

#[test]
fn a_route_with_a_parent_that_exists_counts_there_and_says_what_is_wrong_with_the_others() {
    let both = http("r", "", "v1").replace(
        "name: api}",
        "name: gone}, {kind: Service, group: '', name: web}, {kind: Service, group: '', name: api}",
    );
    let contents = contents(&(shop() + &both));
    assert!(shown(&contents, API).contains("HTTPRoute shop/r"));
    assert_eq!(
        conditions(&contents, "HTTPRoute", "r"),
        "Accepted True Accepted spec.parentRefs[0]: service shop/gone does not exist; spec.parentRefs[1]: service \
         shop/web has no address of its own, by which its routes are known\nResolvedRefs True ResolvedRefs "
    );
}

#[test]
fn a_split_says_where_routes_count_instead_of_it_and_whether_it_counts_at_all() {
    let tcp = of_kind(http("t", "", "v1"), "TCPRoute");
    let leaves = split("s", "{service: v1, weight: 1}, {service: v2, weight: 3}");
    for (case, port, more, expected) in [
        ("alone", "{port: 80}", leaves.clone(), "True Accepted "),
        (
            "only requests, and a route for them",
            HTTP,
            leaves.clone() + &http("r", "", "v1"),
            "False Conflicted service shop/api:80 follows HTTPRoute shop/r",
        ),
        (
            "anything, and a route for requests",
            "{port: 80}",
            leaves.clone() + &http("r", "", "v1"),
            "True Accepted requests to service shop/api:80 follow HTTPRoute shop/r; other connections follow \
             this split",
        ),
        (
            "conditions on requests, and a route for them",
            "{port: 80}",
            group("g") + &matched_split("g") + &http("r", "", "v1"),
            "False Conflicted service shop/api:80 follows HTTPRoute shop/r",
        ),
        (
            "a route for all connections",
            "{port: 80}",
            leaves.clone() + &tcp,
            "False Conflicted service shop/api:80 follows TCPRoute shop/t",
        ),
        (
            "conditions on requests that are not read",
            "{port: 80, name: tcp}",
            group("g") + &matched_split("g"),
            "False Conflicted requests to service shop/api:80 (Opaque) are not read, and meet no condition",
        ),
    ] {
        let contents = contents(&(shop() + &service("api", "10.43.0.1", port) + &more));
        let said = conditions(&contents, "TrafficSplit", "s");
        assert!(said.starts_with(&format!("Accepted {expected}\n")), "case: {case}: {said}");
    }
}

#[test]
fn a_route_of_requests_to_a_port_that_a_pod_declares_opaque_says_so() {
    let opaque = pod("c", "{ip: 10.42.0.3}", ", heddle.dev/opaque-ports: '8080'");
    let text = shop()
        + &opaque
        + &slice("v2", "z", "{addresses: [10.42.0.3]}")
        + &http("r", "", "v1").replace("name: api}", "name: v2, port: 80}");
    let said = conditions(&contents(&text), "HTTPRoute", "r");
    let expected = "Accepted True Accepted spec.parentRefs[0]: requests to port 80 (Opaque) are not read, and \
                    follow no route\n";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_route_that_makes_too_many_rules_alone_is_told_so() {
    let matches = "{}, ".repeat(1024);
    let names = "hostnames: [a.b, aa.b, aaa.b, aaaa.b, aaaaa.b]";
    let large = route("r", &format!("{names}, rules: [{{matches: [{matches}]}}]"));
    let said = conditions(&contents(&(shop() + &large)), "HTTPRoute", "r");
    let expected =
        "Accepted False Conflicted for service shop/api:80 it makes more than 4096 rules alone; ";
    assert!(said.starts_with(expected), "{said}");
}
