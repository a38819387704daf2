//! Whose proxies look for the requests of a tap. Pure.

use std::collections::BTreeSet;

use heddle_model::names::{ServiceName, ServicePort};
use heddle_model::tap::{Follow, Subject, TapRequest};

use crate::snapshot::{Content, Contents};
use crate::telemetry::population::workload_of;
use crate::translate::pod::Pod;

/// What a pod's proxy has to do for a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It tells of requests that match; where a trace is begun, it begins it.
    Looks,
    /// It tells of requests of the trace that others began.
    Follows,
}

/// What a pod has to do for a tap; `None`: nothing. `namespaces` are those that may be told of; `None`: all.
pub fn part(
    request: &TapRequest,
    namespaces: Option<&BTreeSet<String>>,
    pod: &Pod,
    contents: &Contents,
) -> Option<Part> {
    let namespace = &pod.reference.namespace;
    if namespaces.is_some_and(|namespaces| !namespaces.contains(namespace)) {
        return None;
    }
    match request.tap.follow {
        None => covers(&request.subject, pod, contents).then_some(Part::Looks),
        Some(Follow::Trace(_)) => Some(Part::Follows),
        Some(Follow::Mark(_)) if covers(&request.subject, pod, contents) => Some(Part::Looks),
        Some(Follow::Mark(_)) => Some(Part::Follows),
    }
}

/// Whether a pod is one of the subject's. A subject has no pods outside of its namespace, whatever a service's
/// endpoints say: the right to tap goes by namespace.
pub fn covers(subject: &Subject, pod: &Pod, contents: &Contents) -> bool {
    let reference = &pod.reference;
    if subject.namespace().is_some_and(|namespace| namespace != reference.namespace) {
        return false;
    }
    match subject {
        Subject::All | Subject::Namespace(_) => true,
        Subject::Workload { kind, name, .. } => {
            let workload = workload_of(pod);
            workload.kind == *kind && workload.name == *name
        }
        Subject::Pod { name, .. } => reference.name == *name,
        Subject::Service(service) => is_behind(pod, service, contents),
    }
}

fn is_behind(pod: &Pod, service: &ServiceName, contents: &Contents) -> bool {
    let ports = contents.ports.get(service).into_iter().flatten();
    let resources = ports.filter_map(|port| {
        contents.endpoints.get(&ServicePort { service: service.clone(), port: *port })
    });
    let endpoints = resources.filter_map(|resource| match &resource.content {
        Content::Endpoints(set) => Some(&set.endpoints),
        Content::Workload(_) | Content::Destination(_) => None,
    });
    endpoints.flatten().any(|endpoint| pod.addresses.contains(&endpoint.address.ip()))
}

/// Whether there is such a thing at all: a tap of a name that is mistyped would wait for ever.
pub fn exists(subject: &Subject, contents: &Contents) -> bool {
    match subject {
        Subject::All => true,
        Subject::Service(service) => contents.services.contains_key(service),
        Subject::Namespace(_) | Subject::Workload { .. } | Subject::Pod { .. } => {
            contents.pods.values().any(|pod| pod.live && covers(subject, pod, contents))
        }
    }
}

/// How many of the subject's pods have no proxy.
pub fn without_proxy(subject: &Subject, contents: &Contents) -> u32 {
    let bare = contents.pods.values().filter(|pod| pod.live && !pod.meshed);
    let count = bare.filter(|pod| covers(subject, pod, contents)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// As people name it.
pub fn name(subject: &Subject) -> String {
    match subject {
        Subject::All => "all workloads".to_owned(),
        Subject::Namespace(namespace) => format!("namespace {namespace}"),
        Subject::Workload { namespace, kind, name } => format!("{kind} {namespace}/{name}"),
        Subject::Pod { namespace, name } => format!("Pod {namespace}/{name}"),
        Subject::Service(service) => format!("Service {service}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heddle_model::tap::{Filter, Limits, Shown, Tap};

    use super::*;
    use crate::index::Index;
    use crate::source::Event;
    use crate::source::document::read_file;

    const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: api-1
  namespace: shop
  uid: api-1
  labels: {app: api, pod-template-hash: 5f}
  annotations: {heddle.dev/inject: enabled}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-5f, uid: r, controller: true}]
spec: {serviceAccountName: api, containers: [{name: a}]}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: web, uid: web-1}
spec: {serviceAccountName: web, containers: [{name: a}]}
status: {phase: Running, podIP: 10.0.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.1.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-a, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
  - {addresses: [10.0.0.1], conditions: {ready: true}}
  - {addresses: [10.0.0.2], conditions: {ready: true}}
";

    fn contents() -> Contents {
        let mut index = Index::new("cluster.local".parse().unwrap());
        for object in read_file("shop.yaml", SHOP).objects {
            index.apply(Event::Applied(object.into()));
        }
        index.contents(&Contents::default())
    }

    fn covered(subject: &Subject) -> Vec<String> {
        let contents = contents();
        let pods = contents.pods.values().filter(|pod| covers(subject, pod, &contents));
        let mut names: Vec<String> = pods.map(|pod| pod.reference.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_subject_covers_its_pods_and_none_of_another_namespace() {
        let workload = |kind: &str, name: &str| Subject::Workload {
            namespace: "shop".into(),
            kind: kind.into(),
            name: name.into(),
        };
        let pod = |namespace: &str, name: &str| Subject::Pod {
            namespace: namespace.into(),
            name: name.into(),
        };
        let service = ServiceName { namespace: "shop".into(), name: "api".into() };
        for (case, subject, expected) in [
            ("all", Subject::All, &["api-1", "web-1"][..]),
            ("a namespace", Subject::Namespace("shop".into()), &["api-1"]),
            ("a deployment", workload("Deployment", "api"), &["api-1"]),
            ("another kind", workload("StatefulSet", "api"), &[]),
            ("another name", workload("Deployment", "web"), &[]),
            ("a pod", pod("web", "web-1"), &["web-1"]),
            ("a pod of another namespace", pod("shop", "web-1"), &[]),
            // Its endpoints name a pod of another namespace, too.
            ("a service", Subject::Service(service), &["api-1"]),
        ] {
            assert_eq!(covered(&subject), expected, "case: {case}");
            assert_eq!(exists(&subject, &contents()), !expected.is_empty(), "case: {case}");
        }
    }

    #[test]
    fn a_trace_is_followed_where_that_is_allowed() {
        let subject = Subject::Namespace("shop".into());
        let contents = contents();
        let part_of = |follow, namespaces: Option<&[&str]>, name: &str| {
            let limits = Limits { per_second: 1, lifetime: Duration::from_secs(1) };
            let (filter, shown) = (Filter::default(), Shown::default());
            let tap = Tap { filter, limits, shown, follow };
            let request = TapRequest { subject: subject.clone(), tap };
            let namespaces: Option<BTreeSet<String>> =
                namespaces.map(|all| all.iter().map(|name| (*name).to_owned()).collect());
            let pod = contents.pods.get(&name.parse().unwrap()).unwrap();
            part(&request, namespaces.as_ref(), pod, &contents)
        };
        let (mark, trace) = (Some(Follow::Mark([1; 8])), Some(Follow::Trace([1; 16])));
        for (case, follow, namespaces, pod, expected) in [
            ("a tap", None, None, "api-1", Some(Part::Looks)),
            ("a tap elsewhere", None, None, "web-1", None),
            ("where a trace begins", mark, None, "api-1", Some(Part::Looks)),
            ("where it goes", mark, None, "web-1", Some(Part::Follows)),
            ("a known trace", trace, None, "api-1", Some(Part::Follows)),
            ("allowed", mark, Some(&["shop"][..]), "api-1", Some(Part::Looks)),
            ("not allowed", mark, Some(&["shop"][..]), "web-1", None),
        ] {
            assert_eq!(part_of(follow, namespaces, pod), expected, "case: {case}");
        }
    }

    #[test]
    fn pods_without_a_proxy_are_counted() {
        assert_eq!(without_proxy(&Subject::Namespace("web".into()), &contents()), 1);
        assert_eq!(without_proxy(&Subject::Namespace("none".into()), &contents()), 0);
    }
}
