//! What objects mean together.

use std::net::SocketAddr;

use heddle_model::destination::Destination;
use heddle_model::endpoint::ExpectedPeer;
use heddle_model::names::ServicePort;
use heddle_model::resource::ResourceKey;
use heddle_model::route::{ConnectionRule, Hostname, PathMatch, RuleOrigin};
use proptest::prelude::*;

use super::*;
use crate::snapshot;

use crate::source::Unit;
use crate::source::document::read_file;

mod examples;
mod last_resort;
mod policies;
mod refresh;
mod routing;

fn events(text: &str) -> Vec<Event> {
    let content = read_file("test.yaml", text);
    let failed = Event::Failed { unit: Unit::File("test.yaml".into()), failures: content.failures };
    let applied = content.objects.into_iter().map(|object| Event::Applied(object.into()));
    applied.chain([failed]).collect()
}

/// A caller that the index does not know.
fn nobody() -> heddle_model::identity::PodUid {
    "nobody".parse().unwrap()
}

fn new_index() -> Index {
    Index::new("cluster.local".parse().unwrap())
}

fn apply(index: &mut Index, text: &str) -> Contents {
    for event in events(text) {
        index.apply(event);
    }
    index.contents(&Contents::default())
}

fn contents(text: &str) -> Contents {
    apply(&mut new_index(), text)
}

fn destination(contents: &Contents, address: &str) -> Destination {
    destination_for(contents, address, "nobody")
}

/// What an address means to one caller.
fn destination_for(contents: &Contents, address: &str, caller: &str) -> Destination {
    let key = ResourceKey::Destination(address.parse().unwrap());
    match &contents.resource(&key, &caller.parse().unwrap()).unwrap().content {
        snapshot::Content::Destination(destination) => destination.clone(),
        other @ (snapshot::Content::Workload(_) | snapshot::Content::Endpoints(_)) => {
            panic!("{other:?}")
        }
    }
}

fn backends<'a>(backends: impl Iterator<Item = (&'a ServicePort, u32)>) -> String {
    let shown: Vec<String> =
        backends.map(|(backend, weight)| format!("{backend}={weight}")).collect();
    shown.join(" ")
}

/// A destination as a person would write it down.
fn shown(contents: &Contents, address: &str) -> String {
    shown_destination(destination(contents, address))
}

fn shown_destination(destination: Destination) -> String {
    match destination {
        Destination::PassThrough => "pass through".to_owned(),
        Destination::Refused { reason } => format!("refused: {reason}"),
        Destination::Endpoint(endpoint) => format!(
            "endpoint {} of {} {:?} behind {:?}",
            endpoint.endpoint.pod,
            peer(&endpoint.endpoint.peer),
            endpoint.protocol,
            endpoint.service.map(|service| service.to_string())
        ),
        Destination::Service(service) => {
            let mut text = format!("{} {:?}\n", service.service, service.protocol);
            for rule in &service.http_rules {
                let matched: Vec<String> = rule
                    .matches
                    .iter()
                    .map(|one| match &one.path {
                        Some(PathMatch::Exact(path)) => format!("= {path}"),
                        Some(PathMatch::Prefix(path)) => format!("^ {path}"),
                        Some(PathMatch::Regex(path)) => format!("~ {path}"),
                        None => String::new(),
                    })
                    .collect();
                let origin = match &rule.origin {
                    RuleOrigin::ServiceDefault => "default".to_owned(),
                    RuleOrigin::Object { object, field } => format!("{object} {field}"),
                };
                let mut to = backends(rule.backends.iter().map(|one| (&one.backend, one.weight)));
                if rule.missing_weight > 0 {
                    to.push_str(&format!(" missing={}", rule.missing_weight));
                }
                let hosts: Vec<String> = rule.hostnames.iter().map(host).collect();
                let hosts = if hosts.is_empty() { String::new() } else { hosts.join(" ") + " " };
                text.push_str(&format!("  {hosts}[{}] -> {to} ({origin})\n", matched.join(", ")));
            }
            for rule in &service.tls_rules {
                let hosts: Vec<String> = rule.hostnames.iter().map(host).collect();
                let to = connections(&rule.connections);
                text.push_str(&format!("  tls {} -> {to}\n", hosts.join(" ")));
            }
            text.push_str(&format!("  tcp -> {}", connections(&service.connections)));
            text
        }
    }
}

fn host(hostname: &Hostname) -> String {
    match hostname {
        Hostname::Exact(name) => name.clone(),
        Hostname::Below(parent) => format!("*.{parent}"),
    }
}

fn connections(rule: &ConnectionRule) -> String {
    let mut to = backends(rule.backends.iter().map(|one| (&one.backend, one.weight)));
    if rule.missing_weight > 0 {
        to.push_str(&format!(" missing={}", rule.missing_weight));
    }
    to
}

fn peer(peer: &ExpectedPeer) -> String {
    match peer {
        ExpectedPeer::Plaintext => "plaintext".to_owned(),
        ExpectedPeer::Mesh { identity, pod_uid } => format!("{identity} {pod_uid}"),
    }
}

fn endpoints(contents: &Contents, service: &str, port: u16) -> Vec<String> {
    let key = ServicePort {
        service: heddle_model::names::ServiceName {
            namespace: "shop".into(),
            name: service.into(),
        },
        port: heddle_model::names::Port::new(port).unwrap(),
    };
    match &contents.resource(&ResourceKey::Endpoints(key), &nobody()).unwrap().content {
        snapshot::Content::Endpoints(set) => set
            .endpoints
            .iter()
            .map(|endpoint| format!("{} {}", endpoint.address, peer(&endpoint.peer)))
            .collect(),
        other @ (snapshot::Content::Workload(_) | snapshot::Content::Destination(_)) => {
            panic!("{other:?}")
        }
    }
}

fn conditions(contents: &Contents, kind: &str, name: &str) -> String {
    let status = contents
        .objects
        .iter()
        .find(|status| status.reference.kind == kind && status.reference.name == name)
        .unwrap_or_else(|| panic!("{kind} {name} has a status"));
    let shown: Vec<String> = status
        .conditions
        .iter()
        .map(|one| format!("{} {} {} {}", one.kind, one.state, one.reason, one.message))
        .collect();
    shown.join("\n")
}

fn pod(name: &str, address: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: {name}-uid, annotations: \
         {{heddle.dev/injected: 'true'{rest}}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: a, \
         ports: [{{containerPort: 9000}}]}}]}}\nstatus: {{podIPs: [{address}]}}\n---\n"
    )
}

fn service(name: &str, address: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{clusterIP: \
         {address}, ports: [{ports}]}}\n---\n"
    )
}

fn slice(service: &str, suffix: &str, endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{suffix}, \
         namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: \
         [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]\n---\n"
    )
}

fn split(name: &str, leaves: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {{name: {name}, namespace: \
         shop}}\nspec: {{service: api, backends: [{leaves}]}}\n---\n"
    )
}

fn route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: \
         shop}}\nspec: {{parentRefs: [{{kind: Service, group: '', name: api}}], {spec}}}\n---\n"
    )
}

const HTTP: &str = "{port: 80, name: http}";

fn shop() -> String {
    service("api", "10.43.0.1", "{port: 80, name: http}, {port: 5432}")
        + &service("v1", "10.43.0.2", "{port: 80, name: http}, {port: 5432}")
        + &service("v2", "10.43.0.3", "{port: 80, name: http}, {port: 5432}")
        + &service("web", "None", HTTP)
        + &pod("a", "{ip: 10.42.0.1}, {ip: 'fd42::1'}", "")
        + &pod("b", "{ip: 10.42.0.2}", "")
        + &slice(
            "v1",
            "x",
            "{addresses: [10.42.0.1], targetRef: {kind: Pod, uid: a-uid}}, {addresses: [10.42.0.2], \
             targetRef: {kind: Pod, uid: b-uid}, conditions: {ready: false}}",
        )
        + &slice("web", "x", "{addresses: [10.42.0.2]}")
}

#[test]
fn an_address_means_a_service_a_pod_or_nothing() {
    let contents = contents(&shop());
    let rows = [
        "10.43.0.1:80",
        "10.43.0.1:5432",
        "10.43.0.1:81",
        "10.42.0.2:8080",
        "10.42.0.1:1",
        "8.8.8.8:53",
    ];
    let shown: Vec<String> =
        rows.iter().map(|row| format!("{row}: {}", shown(&contents, row))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn only_ready_endpoints_of_known_pods_are_told() {
    let mut index = new_index();
    let contents = apply(&mut index, &shop());
    assert_eq!(
        endpoints(&contents, "v1", 80),
        ["10.42.0.1:8080 spiffe://cluster.local/ns/shop/sa/a a-uid"]
    );
    assert_eq!(endpoints(&contents, "v2", 80), [""; 0]);
    let strangers = slice(
        "v2",
        "y",
        "{addresses: [10.42.0.7], targetRef: {kind: Pod, uid: later-uid}}, {addresses: [192.0.2.1]}",
    );
    let contents = apply(&mut index, &strangers);
    // A pod that is not known yet may have a proxy: it must wait.
    assert_eq!(endpoints(&contents, "v2", 80), ["192.0.2.1:8080 plaintext"]);
    let contents = apply(&mut index, &pod("later", "{ip: 10.42.0.7}", ""));
    assert_eq!(endpoints(&contents, "v2", 80).len(), 2);
}

#[test]
fn endpoints_that_are_about_to_end_are_told_where_there_is_no_other() {
    let ending = "conditions: {ready: false, serving: true, terminating: true}";
    let both = |second: &str| {
        let listed = format!(
            "{{addresses: [10.42.0.1], targetRef: {{kind: Pod, uid: a-uid}}, {ending}}}, \
             {{addresses: [10.42.0.2], targetRef: {{kind: Pod, uid: b-uid}}, {second}}}"
        );
        contents(&(shop() + &slice("v2", "y", &listed)))
    };
    let told = |second: &str| endpoints(&both(second), "v2", 80).join(", ");
    assert!(told("conditions: {ready: true}").starts_with("10.42.0.2:8080"));
    assert!(told("conditions: {ready: false}").starts_with("10.42.0.1:8080"));
    assert_eq!(told(ending).matches("8080").count(), 2);
}

#[test]
fn a_route_is_told_apart_by_its_parents() {
    let text = shop()
        + &route(
            "r",
            "rules: [{backendRefs: [{name: v1, port: 80}]}], parentRefs: [{kind: Gateway, name: g}, \
             {kind: Service, group: '', name: api}, {kind: Service, group: '', name: none}]",
        )
        .replace("parentRefs: [{kind: Service, group: '', name: api}], ", "");
    let contents = contents(&text);
    let status = contents.objects.iter().find(|status| status.reference.name == "r").unwrap();
    let shown: Vec<String> = status
        .parents
        .iter()
        .map(|parent| {
            let accepted = &parent.conditions[0];
            format!("{} {} {} {}", parent.index, accepted.state, accepted.reason, accepted.message)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1 True Accepted ",
            "2 False NoMatchingParent spec.parentRefs[2]: service shop/none does not exist"
        ]
    );
}

#[test]
fn a_pod_with_two_addresses_is_one_endpoint() {
    let both = "{addresses: [10.42.0.1], targetRef: {kind: Pod, uid: a-uid}}";
    let v6 = "{addresses: ['fd42::1'], targetRef: {kind: Pod, uid: a-uid}}";
    let contents = contents(&(shop() + &slice("v2", "4", both) + &slice("v2", "6", v6)));
    assert_eq!(endpoints(&contents, "v2", 80).len(), 1);
    assert!(endpoints(&contents, "v2", 80)[0].starts_with("10.42.0.1"));

    let plain = shop().replace("heddle.dev/injected: 'true'", "heddle.dev/injected: 'false'");
    let contents =
        apply(&mut new_index(), &(plain + &slice("v2", "4", both) + &slice("v2", "6", v6)));
    assert_eq!(
        endpoints(&contents, "v2", 80),
        ["10.42.0.1:8080 plaintext"],
        "one without a proxy, too"
    );
}

#[test]
fn an_address_that_was_used_again_is_the_younger_pods() {
    let aged = |name: &str, year: u32| {
        pod(name, "{ip: 10.42.0.9}", "").replace(
            "namespace: shop, uid",
            &format!("namespace: shop, creationTimestamp: '{year}-01-01T00:00:00Z', uid"),
        )
    };
    let contents = contents(&(aged("old", 2020) + &aged("young", 2026)));
    assert!(shown(&contents, "10.42.0.9:80").starts_with("endpoint young"));
}

#[test]
fn a_split_is_one_rule_and_the_backends_of_other_connections() {
    let leaves = "{service: v1, weight: 90}, {service: v2, weight: 10}";
    let contents = contents(&(shop() + &split("s", leaves)));
    insta::assert_snapshot!(shown(&contents, "10.43.0.1:80"));
    assert_eq!(
        conditions(&contents, "TrafficSplit", "s"),
        "Accepted True Accepted \nResolvedRefs True ResolvedRefs "
    );
}

#[test]
fn a_route_beats_a_split_and_is_put_in_order() {
    let rules = "rules: [{matches: [{path: {value: /}}, {path: {type: Exact, value: /x}}], backendRefs: \
                 [{name: v1, port: 80}]}, {matches: [{path: {value: /b}}], backendRefs: [{name: v2, port: \
                 80}]}]";
    let leaves = "{service: v1, weight: 1}, {service: v2, weight: 1}";
    let contents = contents(&(shop() + &split("s", leaves) + &route("r", rules)));
    insta::assert_snapshot!(format!(
        "{}\n{}",
        shown(&contents, "10.43.0.1:80"),
        conditions(&contents, "TrafficSplit", "s")
    ));
}

#[test]
fn a_backend_that_does_not_exist_fails_its_share_and_is_told() {
    let rules = "rules: [{backendRefs: [{name: v1, port: 80, weight: 9}, {name: v3, port: 80}]}, {matches: \
                 [{path: {value: /only}}], backendRefs: [{name: v1, port: 81}]}, {matches: [{path: {value: \
                 /far}}], backendRefs: [{name: v1, port: 80}, {name: v1, namespace: far, port: 80}]}]";
    let contents = contents(&(shop() + &route("r", rules)));
    insta::assert_snapshot!(format!(
        "{}\n{}",
        shown(&contents, "10.43.0.1:80"),
        conditions(&contents, "HTTPRoute", "r")
    ));
}

#[test]
fn a_route_whose_service_does_not_exist_says_so() {
    let text = shop() + &route("r", "rules: []").replace("name: api}", "name: apy}");
    let gateway =
        route("g", "rules: []").replace("kind: Service, group: '', name: api", "name: gw");
    let contents = contents(&(text + &gateway));
    insta::assert_snapshot!(format!(
        "{}\n{}",
        conditions(&contents, "HTTPRoute", "r"),
        conditions(&contents, "HTTPRoute", "g")
    ));
}

#[test]
fn a_refused_object_keeps_its_last_good_state() {
    let mut index = new_index();
    let good = apply(&mut index, &(shop() + &split("s", "{service: v1, weight: 1}")));
    let before = shown(&good, "10.43.0.1:80");
    let mut said = Vec::new();
    for leaves in [
        "{service: v1, weight: -1}",
        "{service: v1, weight: 1}, {service: v9, weight: 1}",
        "{service: v1, weight: 1}, {service: web, weight: 1}",
        "{service: v1, wieght: 1}",
    ] {
        let contents = apply(&mut index, &split("s", leaves));
        assert_eq!(shown(&contents, "10.43.0.1:80"), before, "case: {leaves}");
        said.push(conditions(&contents, "TrafficSplit", "s"));
    }
    let contents = apply(&mut index, &split("s", "{service: v2, weight: 1}"));
    assert!(shown(&contents, "10.43.0.1:80").contains("v2"));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_leaf_that_goes_away_fails_its_share_and_is_told() {
    let mut index = new_index();
    let leaves = "{service: v1, weight: 1}, {service: v2, weight: 1}";
    let before = apply(&mut index, &(shop() + &split("s", leaves)));
    index.apply(Event::Deleted(ObjectReference {
        kind: "Service".into(),
        namespace: "shop".into(),
        name: "v2".into(),
    }));
    let contents = index.contents(&before);
    assert_eq!(shown(&contents, "10.43.0.1:80"), shown(&before, "10.43.0.1:80"));
    insta::assert_snapshot!(conditions(&contents, "TrafficSplit", "s"));
}

#[test]
fn of_two_that_want_the_same_the_older_has_it() {
    let old = |text: String| {
        text.replace(
            "namespace: shop}",
            "namespace: shop, creationTimestamp: '2020-01-01T00:00:00Z'}",
        )
    };
    let text = shop()
        + &split("a", "{service: v1, weight: 1}")
        + &old(split("b", "{service: v2, weight: 1}"))
        + &old(service("other", "10.43.0.2", HTTP));
    let contents = contents(&text);
    assert!(shown(&contents, "10.43.0.1:80").contains("v2"));
    assert!(shown(&contents, "10.43.0.2:80").starts_with("shop/other"));
    insta::assert_snapshot!(format!(
        "{}\n{}",
        conditions(&contents, "TrafficSplit", "a"),
        conditions(&contents, "Service", "v1")
    ));
}

#[test]
fn an_opaque_port_is_opaque_at_both_ends() {
    let opaque = pod("c", "{ip: 10.42.0.3}", ", heddle.dev/opaque-ports: '8080'");
    let text = shop() + &opaque + &slice("v2", "z", "{addresses: [10.42.0.3]}");
    let contents = contents(&text);
    assert!(shown(&contents, "10.43.0.3:80").starts_with("shop/v2:80 Opaque"));
    assert!(shown(&contents, "10.42.0.3:8080").contains("Opaque"));
    let key = ResourceKey::Workload("c-uid".parse().unwrap());
    let workload = contents.resource(&key, &nobody()).unwrap();
    insta::assert_snapshot!(format!("{:?}", workload.content));
}

#[test]
fn kinds_of_others_are_named_as_ignored() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    insta::assert_snapshot!(conditions(&contents(text), "Deployment.apps", "d"));
}

#[test]
fn resources_that_did_not_change_are_shared() {
    let mut index = new_index();
    let before = apply(&mut index, &shop());
    for event in events(&split("s", "{service: v1, weight: 1}")) {
        index.apply(event);
    }
    let after = index.contents(&before);
    for (key, resource) in before.endpoints.iter() {
        assert!(std::sync::Arc::ptr_eq(resource, &after.endpoints[key]), "case: {key}");
    }
    let changed =
        before.destinations.iter().filter(|(key, resource)| **resource != after.destinations[*key]);
    let mut names: Vec<String> = changed.map(|(key, _)| key.to_string()).collect();
    names.sort();
    assert_eq!(names, ["shop/api:5432", "shop/api:80"]);
}

/// Everything that a proxy could be told, and every status.
fn everything(contents: &Contents) -> String {
    let mut lines: Vec<String> = Vec::new();
    for address in [
        "10.43.0.1:80",
        "10.43.0.1:5432",
        "10.43.0.2:80",
        "10.43.0.3:80",
        "10.42.0.1:8080",
        "10.42.0.2:8080",
        "10.42.0.2:9000",
        "10.43.0.9:80",
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let resource = contents.resource(&ResourceKey::Destination(address), &nobody()).unwrap();
        lines.push(format!("{address} {:x} {:?}", resource.digest, resource.origins));
    }
    for address in ["10.43.0.1:80", "10.43.0.3:80"] {
        lines.push(format!("{:?}", destination_for(contents, address, "w-uid")));
    }
    for name in ["api", "v1", "v2", "web"] {
        lines.extend(endpoints(contents, name, 80));
    }
    let mut policies: Vec<String> = contents
        .endpoints
        .iter()
        .map(|(port, resource)| format!("{port} {:x} {:?}", resource.digest, resource.origins))
        .collect();
    policies.sort();
    lines.extend(policies);
    for uid in ["a-uid", "b-uid"] {
        let key = ResourceKey::Workload(uid.parse().unwrap());
        lines.push(format!(
            "{:?}",
            contents.resource(&key, &nobody()).map(|resource| resource.digest)
        ));
    }
    lines.push(format!("{:?}", contents.last_resort));
    lines.push(format!("{:#?}", contents.objects));
    lines.join("\n")
}

fn pool() -> Vec<Event> {
    let rules = "rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: v2, port: 80}]}]";
    let text = shop()
        + &last_resort::unheard()
        + &split("s", "{service: v1, weight: 9}, {service: v2, weight: 1}")
        + &split("t", "{service: v1, weight: 1}")
        + &route("r", rules)
        + &route("q", rules)
        + &service("other", "10.43.0.2", HTTP)
        + &routing::caller("w", "web")
        + &routing::consumer("own", "{name: v2, namespace: shop, port: 80}")
        + &policies::policy("p", "v1", "rateLimit: [{requests: 9}], slowStart: {window: 9s}")
        + &policies::policy("o", "v1", "loadBalancing: {type: Random}")
        + &route("g", rules)
            .replace("kind: HTTPRoute", "kind: GRPCRoute")
            .replace("name: api}", "name: v2}");
    events(&text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_after_any_order_of_events_equals_one_built_at_once(
        order in Just(pool()).prop_shuffle(),
        looks in proptest::collection::vec(any::<bool>(), 32),
        repeated in proptest::collection::vec(0_usize..24, 0..6),
    ) {
        let mut at_once = new_index();
        for event in pool() {
            at_once.apply(event);
        }
        let expected = everything(&at_once.contents(&Contents::default()));

        let mut index = new_index();
        let mut previous = Contents::default();
        // Objects that are deleted and applied again, or applied twice, leave no trace.
        for event in repeated.iter().filter_map(|at| order.get(*at)) {
            index.apply(event.clone());
            if let Event::Applied(object) = event {
                index.apply(Event::Deleted(object.reference.clone()));
            }
        }
        for (event, look) in order.into_iter().zip(looks.into_iter().chain(std::iter::repeat(false))) {
            index.apply(event);
            if look {
                previous = index.contents(&previous);
            }
        }
        prop_assert_eq!(everything(&index.contents(&previous)), expected);
    }
}
