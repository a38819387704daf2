//! Where only what stands behind services has changed, less is made anew, and the same comes of it.

mod random;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

/// Two services that share pods, one of which limits rates; a pod with an opaque port.
fn mesh() -> String {
    let service = |name: &str, last: u8| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: 10.43.0.{last}, ports: [{{name: http, port: 80}}]}}
---"
        )
    };
    let pods = ["a", "b", "c"].iter().zip(1..).map(|(name, last)| pod(name, last, ""));
    pods.chain([pod("d", 4, OPAQUE), service("api", 1), service("web", 2)]).collect::<String>()
        + "
apiVersion: v1
kind: Node
metadata: {name: one, labels: {topology.kubernetes.io/zone: east}}
---
apiVersion: heddle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: limits}
spec:
  targetRefs: [{kind: Service, name: api}]
  rateLimit: [{requests: 5}]
---
" + &slice("api", "api-1", &[A, B])
        + &slice("web", "web-1", &[A])
}

fn pod(name: &str, last: u8, annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, uid: {name}-uid, annotations: {{heddle.dev/injected: \"true\"{annotations}}}}}
spec: {{nodeName: one, containers: [{{name: app, ports: [{{containerPort: 8080}}]}}]}}
status: {{phase: Running, podIP: 10.42.0.{last}}}
---"
    )
}

/// The same, of one that says that it is ready.
fn ready(name: &str, last: u8) -> String {
    let conditions = "conditions: [{type: ContainersReady, status: \"True\"}]";
    pod(name, last, "").replace("phase: Running", &format!("phase: Running, {conditions}"))
}

const OPAQUE: &str = ", heddle.dev/opaque-ports: \"8080\"";
const A: &str = "addresses: [10.42.0.1], targetRef: {kind: Pod, uid: a-uid}";
const B: &str = "addresses: [10.42.0.2], targetRef: {kind: Pod, uid: b-uid}";
const B_UNREADY: &str =
    "addresses: [10.42.0.2], conditions: {ready: false}, targetRef: {kind: Pod, uid: b-uid}";
const B_ELSEWHERE: &str =
    "addresses: [10.42.0.2], zone: west, nodeName: two, targetRef: {kind: Pod, uid: b-uid}";
const C: &str = "addresses: [10.42.0.3]";
const D: &str = "addresses: [10.42.0.4], targetRef: {kind: Pod, uid: d-uid}";

fn slice(service: &str, name: &str, endpoints: &[&str]) -> String {
    let mut text = format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: ["
    );
    for endpoint in endpoints {
        write!(text, "{{{endpoint}}}, ").unwrap();
    }
    text + "]\n---\n"
}

/// All of it, in order.
fn whole(contents: &Contents) -> String {
    let shown = |resource: &Arc<crate::snapshot::Resource>| format!("{resource:?}");
    let endpoints: BTreeMap<_, _> =
        contents.endpoints.iter().map(|(key, it)| (key.to_string(), shown(it))).collect();
    let destinations: BTreeMap<_, _> =
        contents.destinations.iter().map(|(key, it)| (key.to_string(), shown(it))).collect();
    let workloads: BTreeMap<_, _> =
        contents.workloads.iter().map(|(key, it)| (key.to_string(), shown(it))).collect();
    let pod_ports: BTreeMap<_, _> = contents.pod_ports.iter().collect();
    let pods: BTreeMap<_, _> =
        contents.pods.iter().map(|(uid, pod)| (uid.to_string(), pod)).collect();
    let owners: BTreeMap<_, _> = contents.pods_by_address.iter().collect();
    let not_ready: BTreeMap<_, _> =
        contents.not_ready.iter().map(|(key, it)| (key.to_string(), it)).collect();
    format!(
        "{endpoints:#?}{destinations:#?}{workloads:#?}{pod_ports:#?}{not_ready:#?}{pods:#?}{owners:#?}{:#?}{:#?}",
        contents.last_resort, contents.objects
    )
}

#[test]
fn what_is_refreshed_is_what_would_be_made_anew() {
    let mut index = new_index();
    let mut text = mesh();
    for event in events(&text).into_iter().chain([Event::Synced]) {
        index.apply(event);
    }
    let mut contents = index.contents(&Contents::default());
    for (case, changes, refreshed) in [
        ("nothing", vec![], true),
        ("one is not ready", vec![slice("api", "api-1", &[A, B_UNREADY])], true),
        ("and is again", vec![slice("api", "api-1", &[A, B])], true),
        ("one comes, by its address", vec![slice("api", "api-1", &[A, B, C])], true),
        ("one goes, which limits nothing any more", vec![slice("api", "api-1", &[B, C])], true),
        ("one is elsewhere", vec![slice("api", "api-1", &[B_ELSEWHERE, C])], true),
        (
            "they come to another service",
            vec![slice("api", "api-1", &[C]), slice("web", "web-1", &[A, B])],
            true,
        ),
        ("one says that it is opaque", vec![slice("web", "web-1", &[A, D])], false),
        ("and goes", vec![slice("web", "web-1", &[A])], false),
        ("all go", vec![slice("web", "web-1", &[])], true),
        ("a slice of another service", vec![slice("web", "api-1", &[C])], false),
        ("a new slice", vec![slice("api", "api-2", &[A, B])], false),
        ("and what it says then", vec![slice("api", "api-2", &[B])], true),
        ("a slice says the same", vec![slice("api", "api-2", &[B])], true),
        ("a pod says the same", vec![pod("b", 2, "") + "\n"], true),
        ("a pod says that it is ready", vec![ready("b", 2) + "\n"], true),
        (
            "with what follows",
            vec![ready("a", 1) + "\n", slice("api", "api-2", &[B_UNREADY])],
            true,
        ),
        ("another address of a pod", vec![ready("a", 9) + "\n"], false),
        ("an opaque port of a pod", vec![pod("a", 1, OPAQUE) + "\n"], false),
    ] {
        for change in &changes {
            for event in events(change) {
                // A file of its own says nothing of what is wrong with the others.
                if matches!(event, Event::Applied(_)) {
                    index.apply(event);
                }
            }
            let name = change.split_once("name: ").unwrap().1.split(',').next().unwrap();
            text = text
                .split("---\n")
                .filter(|part| !part.contains(&format!("metadata: {{name: {name},")))
                .map(|part| format!("{part}---\n"))
                .collect::<String>()
                + change;
        }
        let next = index.contents(&contents);
        assert_eq!(index.what_changed().is_some(), refreshed, "case: {case}");
        let mut anew = new_index();
        for event in events(&text) {
            anew.apply(event);
        }
        // Where each was written is another place.
        let places = |text: String| {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("line: "));
            lines.collect::<Vec<_>>().join("\n")
        };
        let expected = places(whole(&anew.contents(&Contents::default())));
        assert_eq!(places(whole(&next)), expected, "case: {case}");
        let place = |contents: &Contents, name: &str| {
            let found = contents.objects.iter().find(|status| status.reference.name == name);
            found.unwrap().place.clone()
        };
        assert_eq!(place(&next, "web-1"), index.slices[&reference("web-1")].place, "case: {case}");
        contents = next;
    }
}

fn reference(name: &str) -> ObjectReference {
    ObjectReference { kind: "EndpointSlice".into(), namespace: "default".into(), name: name.into() }
}

#[test]
fn contents_that_are_not_the_last_ones_are_not_gone_on_from() {
    let mut index = new_index();
    for event in events(&mesh()) {
        index.apply(event);
    }
    let first = index.contents(&Contents::default());
    let apply = |index: &mut Index, endpoints: &[&str]| {
        for event in events(&slice("api", "api-1", endpoints)) {
            if matches!(event, Event::Applied(_)) {
                index.apply(event);
            }
        }
    };
    apply(&mut index, &[A]);
    let second = index.contents(&first);
    apply(&mut index, &[A, C]);
    assert!(index.what_changed().is_some() && Arc::ptr_eq(&first.pods, &second.pods));
    let third = index.contents(&first);
    assert_eq!(index.what_changed(), None);
    let api = third.endpoints.iter().find(|(key, _)| key.service.name == "api").unwrap().1;
    let crate::snapshot::Content::Endpoints(set) = &api.content else { panic!("endpoints") };
    assert_eq!(set.endpoints.len(), 2);
}
