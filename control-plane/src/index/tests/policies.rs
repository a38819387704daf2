//! Which policies count, and where they end up.

use heddle_model::policy::{BackendPolicy, Balance, Preference};
use heddle_model::workload::Workload;

use super::*;

pub(super) fn policy(name: &str, target: &str, rest: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
         {{targetRefs: [{{kind: Service, name: {target}}}], {rest}}}\n---\n"
    )
}

fn old(text: String) -> String {
    text.replace("namespace: shop}", "namespace: shop, creationTimestamp: '2020-01-01T00:00:00Z'}")
}

fn used(contents: &Contents, service: &str, port: u16) -> BackendPolicy {
    let service =
        heddle_model::names::ServiceName { namespace: "shop".into(), name: service.into() };
    let key = ServicePort { service, port: heddle_model::names::Port::new(port).unwrap() };
    match &contents.endpoints[&key].content {
        snapshot::Content::Endpoints(set) => set.policy.clone(),
        other @ (snapshot::Content::Workload(_) | snapshot::Content::Destination(_)) => {
            panic!("{other:?}")
        }
    }
}

fn workload(contents: &Contents, uid: &str) -> Workload {
    let key = ResourceKey::Workload(uid.parse().unwrap());
    match &contents.resource(&key, &nobody()).unwrap().content {
        snapshot::Content::Workload(workload) => workload.clone(),
        other @ (snapshot::Content::Endpoints(_) | snapshot::Content::Destination(_)) => {
            panic!("{other:?}")
        }
    }
}

const ROUND_ROBIN: &str = "loadBalancing: {type: RoundRobin}";
const RANDOM: &str = "loadBalancing: {type: Random}";

#[test]
fn a_policy_is_of_the_ports_of_its_service() {
    let contents = contents(&(shop() + &policy("p", "v1", ROUND_ROBIN)));
    assert_eq!(used(&contents, "v1", 80).balance, Balance::RoundRobin);
    assert_eq!(used(&contents, "v1", 5432).balance, Balance::RoundRobin);
    assert_eq!(used(&contents, "v2", 80), BackendPolicy::default());
    let conditions = conditions(&contents, "TrafficPolicy", "p");
    assert_eq!(conditions, "Accepted True Accepted \nResolvedRefs True ResolvedRefs ");
}

#[test]
fn the_older_policy_counts_and_one_of_a_port_before_both() {
    let text = shop()
        + &policy("young", "v1", RANDOM)
        + &old(policy("old", "v1", ROUND_ROBIN))
        + &policy("port", "v1, sectionName: http", "slowStart: {window: 9s}");
    let contents = contents(&text);
    assert_eq!(used(&contents, "v1", 5432).balance, Balance::RoundRobin);
    assert!(used(&contents, "v1", 80).slow_start.is_some());
    let said: Vec<String> = ["old", "young", "port"]
        .iter()
        .map(|name| format!("{name}: {}", conditions(&contents, "TrafficPolicy", name)))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn targets_and_ports_that_do_not_exist_are_told_with_their_fields() {
    let text = shop()
        + &policy("a", "v9", RANDOM)
        + &policy("b", "v1, sectionName: grpc", RANDOM)
        + &policy("c", "v2", "rateLimit: [{requests: 1, port: 81}]");
    let contents = contents(&text);
    let said: Vec<String> =
        ["a", "b", "c"].iter().map(|name| conditions(&contents, "TrafficPolicy", name)).collect();
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(used(&contents, "v1", 80), BackendPolicy::default());
}

#[test]
fn a_policy_with_a_target_that_exists_counts_there_and_names_the_other() {
    let text = shop() + &policy("p", "v1}, {kind: Service, name: v9", ROUND_ROBIN);
    let contents = contents(&text);
    assert_eq!(used(&contents, "v1", 80).balance, Balance::RoundRobin);
    assert_eq!(
        conditions(&contents, "TrafficPolicy", "p"),
        "Accepted True Accepted spec.targetRefs[1]: service shop/v9 does not exist\nResolvedRefs True \
         ResolvedRefs "
    );
}

#[test]
fn rate_limits_reach_the_pods_behind_the_service_with_their_own_ports() {
    let limits = "rateLimit: [{requests: 100}, {requests: 5, port: 80, scope: Caller}]";
    let contents = contents(&(shop() + &policy("p", "v1", limits)));
    for (case, uid, expected) in [
        ("ready", "a-uid", vec![(None, 100), (Some(8080), 5)]),
        ("not ready", "b-uid", vec![(None, 100), (Some(8080), 5)]),
    ] {
        let found = workload(&contents, uid).rate_limits;
        let found: Vec<(Option<u16>, u32)> = found
            .iter()
            .map(|limit| (limit.port.map(|port| port.number()), limit.requests))
            .collect();
        assert_eq!(found, expected, "case: {case}");
    }
    let key = ResourceKey::Workload("a-uid".parse().unwrap());
    let resource = contents.resource(&key, &nobody()).unwrap();
    assert!(resource.origins.iter().any(|origin| origin.kind == "TrafficPolicy"));
}

#[test]
fn what_is_close_is_said_by_the_policy_or_else_by_the_service() {
    let close = |text: &str| {
        shop().replace(
            "{clusterIP: 10.43.0.2,",
            &format!("{{clusterIP: 10.43.0.2, trafficDistribution: {text},"),
        )
    };
    let preference = |text: String| used(&contents(&text), "v1", 80).locality.preference;
    assert_eq!(preference(shop()), Preference::None);
    assert_eq!(preference(close("PreferClose")), Preference::SameZone);
    assert_eq!(preference(close("PreferSameNode")), Preference::SameNode);
    let other = policy("p", "v1", "locality: {preference: None}");
    assert_eq!(preference(close("PreferClose") + &other), Preference::None);
    let silent = policy("p", "v1", "locality: {minimumHealthyPercent: 50}");
    assert_eq!(preference(close("PreferClose") + &silent), Preference::SameZone);
}

#[test]
fn zones_and_nodes_are_the_slices_or_the_pods_or_the_nodes() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: east}}\n---\n";
    let on_node = pod("c", "{ip: 10.42.0.3}", "").replace("spec: {", "spec: {nodeName: n1, ");
    let labelled = pod("d", "{ip: 10.42.0.4}", "").replace(
        "namespace: shop, uid",
        "namespace: shop, labels: {topology.kubernetes.io/zone: west}, uid",
    );
    let text = shop()
        + node
        + &on_node
        + &labelled
        + &slice(
            "v2",
            "y",
            "{addresses: [10.42.0.3]}, {addresses: [10.42.0.4], zone: north, nodeName: n9}",
        );
    let contents = contents(&text);
    let key = ServicePort {
        service: heddle_model::names::ServiceName { namespace: "shop".into(), name: "v2".into() },
        port: heddle_model::names::Port::new(80).unwrap(),
    };
    let snapshot::Content::Endpoints(set) = &contents.endpoints[&key].content else {
        panic!("endpoints");
    };
    let shown: Vec<(&str, &str)> =
        set.endpoints.iter().map(|one| (one.zone.as_str(), one.node.as_str())).collect();
    assert_eq!(shown, [("east", "n1"), ("north", "n9")]);
    let own = |uid: &str| {
        let workload = workload(&contents, uid);
        (workload.zone, workload.node)
    };
    assert_eq!(own("c-uid"), ("east".to_owned(), "n1".to_owned()));
    assert_eq!(own("d-uid"), ("west".to_owned(), "n9".to_owned()));
    assert_eq!(own("a-uid"), (String::new(), String::new()));
}

#[test]
fn a_workloads_node_may_probe_it_from_addresses_that_are_no_pods() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.42.7.0/24, 10.42.9.0/24]}\n\
                status: {addresses: [{type: InternalIP, address: 10.0.0.7}]}\n---\n";
    let probe = "containers: [{readinessProbe: {httpGet: {port: 9000, path: /ready}}, ";
    let probed = pod("c", "{ip: 10.42.0.3}", "")
        .replace("spec: {", "spec: {nodeName: n1, ")
        .replace("containers: [{", probe);
    // By another plugin's custom the first address is a pod's.
    let first = pod("d", "{ip: 10.42.9.1}", "");
    let contents = contents(&(shop() + node + &probed + &first));
    let probes = workload(&contents, "c-uid").probes;
    let sources: Vec<String> = probes.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["10.0.0.7", "10.42.7.1"]);
    assert_eq!(probes.probes.len(), 1);
    let elsewhere = workload(&contents, "d-uid").probes;
    assert!(elsewhere.sources.is_empty(), "its node is not known");
}
