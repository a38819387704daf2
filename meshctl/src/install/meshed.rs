//! Pods with a proxy, when the mesh is to go: which they are, and the commands that make them anew without one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use heddle_injector::annotations::{INJECT, INJECTED};
use serde_json::Value;

use crate::kubernetes::field;

/// The pods of one namespace that have a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meshed {
    /// Where they are.
    pub namespace: String,
    /// Their names.
    pub pods: Vec<String>,
    /// What makes them anew without a proxy, to be copied, in this order.
    pub commands: Vec<String>,
}

/// What is in a cluster, as the API server tells it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All pods.
    pub pods: Vec<Value>,
    /// All namespaces.
    pub namespaces: Vec<Value>,
    /// Deployments, StatefulSets and DaemonSets.
    pub workloads: Vec<Value>,
}

/// The namespaces that have such pods. Pods that have ended need no proxy any more.
pub fn meshed(seen: &Seen) -> Vec<Meshed> {
    let mut by_namespace: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let has_ended =
        |pod: &Value| ["Succeeded", "Failed"].contains(&field::text(pod, "/status/phase"));
    for pod in &seen.pods {
        if field::has_annotation(pod, INJECTED) && !has_ended(pod) {
            by_namespace.entry(field::namespace(pod)).or_default().push(pod);
        }
    }
    let one = |(namespace, pods): (&str, Vec<&Value>)| Meshed {
        namespace: namespace.to_owned(),
        pods: pods.iter().map(|pod| field::name(pod).to_owned()).collect(),
        commands: commands(namespace, &pods, seen),
    };
    by_namespace.into_iter().map(one).collect()
}

/// Who made a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Maker {
    /// `deployment/api`: makes its pods anew when it is told to.
    Workload { kind: &'static str, name: String },
    /// A Job: it runs to its end.
    Job,
    /// Nobody, or somebody who makes another one when it is deleted.
    Other,
}

fn commands(namespace: &str, pods: &[&Value], seen: &Seen) -> Vec<String> {
    let mut restarts = BTreeSet::new();
    let mut deleted = BTreeSet::new();
    let mut own = BTreeSet::new();
    for pod in pods {
        match maker(pod) {
            Maker::Workload { kind, name } => match word(namespace, kind, &name, seen) {
                Word::Nothing => drop(restarts.insert(format!("{kind}/{name}"))),
                Word::Asks => drop(own.insert(format!(
                    "kubectl patch {kind}/{name} -n {namespace} -p '{{\"spec\":{{\"template\":{{\"metadata\":{{\"labels\":{{\"{INJECT}\":null}}}}}}}}}}'"
                ))),
                Word::Has => drop(own.insert(format!(
                    "kubectl get {kind}/{name} -n {namespace} -o yaml | meshctl uninject -f - | kubectl replace -f -"
                ))),
            },
            Maker::Job => {}
            Maker::Other => drop(deleted.insert(field::name(pod).to_owned())),
        }
    }
    let of_namespace = seen.namespaces.iter().find(|object| field::name(object) == namespace);
    let mut commands = Vec::new();
    if of_namespace.is_some_and(|object| !field::label(object, INJECT).is_empty()) {
        commands.push(format!("kubectl label namespace {namespace} {INJECT}-"));
    }
    if !restarts.is_empty() {
        commands.push(format!("kubectl rollout restart -n {namespace} {}", joined(restarts)));
    }
    commands.extend(own);
    if !deleted.is_empty() {
        commands.push(format!("kubectl delete pod -n {namespace} {}", joined(deleted)));
    }
    commands
}

fn joined(names: BTreeSet<String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn maker(pod: &Value) -> Maker {
    let owners = field::list(pod, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) else {
        return Maker::Other;
    };
    let name = field::text(owner, "/name").to_owned();
    match field::text(owner, "/kind") {
        "StatefulSet" => Maker::Workload { kind: "statefulset", name },
        "DaemonSet" => Maker::Workload { kind: "daemonset", name },
        "Job" => Maker::Job,
        // A Deployment names its ReplicaSets after itself and what is hashed into their pods.
        "ReplicaSet" => {
            let hash = format!("-{}", field::label(pod, "pod-template-hash"));
            match name.strip_suffix(&hash) {
                Some(name) if hash.len() > 1 => {
                    Maker::Workload { kind: "deployment", name: name.to_owned() }
                }
                Some(_) | None => Maker::Other,
            }
        }
        _ => Maker::Other,
    }
}

/// What a template says of the mesh.
enum Word {
    /// Its namespace decides.
    Nothing,
    /// It asks for a proxy itself.
    Asks,
    /// It has the proxy in it, by `meshctl inject`.
    Has,
}

fn word(namespace: &str, kind: &str, name: &str, seen: &Seen) -> Word {
    let found = seen.workloads.iter().find(|object| {
        field::text(object, "/kind").eq_ignore_ascii_case(kind)
            && field::namespace(object) == namespace
            && field::name(object) == name
    });
    let template = found.and_then(|object| object.pointer("/spec/template"));
    match template {
        Some(template) if field::has_annotation(template, INJECTED) => Word::Has,
        Some(template) if !field::label(template, INJECT).is_empty() => Word::Asks,
        Some(_) | None => Word::Nothing,
    }
}

/// The warning, with all commands.
pub fn warning(meshed: &[Meshed]) -> String {
    let mut text = String::new();
    for Meshed { namespace, pods, commands } in meshed {
        let shown: Vec<&str> = pods.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        let more = match pods.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = match pods.len() {
            1 => "1 pod has".to_owned(),
            count => format!("{count} pods have"),
        };
        text.push_str(&format!(
            "warning: in {namespace} {count} a proxy, which without a mesh gets no new certificate: {}{more}\n",
            shown.join(", ")
        ));
        commands.iter().for_each(|command| text.push_str(&format!("  {command}\n")));
    }
    text
}

/// More names than that help nobody.
const NAMES_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: &str, labels: Value) -> Value {
        let (kind, owner) = owner.split_once('/').unwrap_or_default();
        let owners = json!([{"kind": kind, "name": owner, "controller": true}]);
        json!({
            "metadata": {"namespace": "shop", "name": name, "labels": labels, "annotations": {INJECTED: "true"},
                "ownerReferences": if kind.is_empty() { json!([]) } else { owners }},
            "status": {"phase": "Running"},
        })
    }

    fn workload(kind: &str, name: &str, template: Value) -> Value {
        json!({"kind": kind, "metadata": {"namespace": "shop", "name": name}, "spec": {"template": template}})
    }

    fn seen() -> Seen {
        let hash = || json!({"pod-template-hash": "5d9"});
        let mut ended = pod("report-1", "Job/report", json!({}));
        ended["status"]["phase"] = json!("Succeeded");
        let mut plain = pod("plain", "", json!({}));
        plain["metadata"]["annotations"] = json!({});
        Seen {
            pods: vec![
                pod("api-5d9-a", "ReplicaSet/api-5d9", hash()),
                pod("api-5d9-b", "ReplicaSet/api-5d9", hash()),
                pod("web-5d9-a", "ReplicaSet/web-5d9", hash()),
                pod("files-5d9-a", "ReplicaSet/files-5d9", hash()),
                pod("db-0", "StatefulSet/db", json!({})),
                pod("agent-x", "DaemonSet/agent", json!({})),
                pod("job-x", "Job/job", json!({})),
                pod("bare", "", json!({})),
                ended,
                plain,
            ],
            namespaces: vec![json!({"metadata": {"name": "shop", "labels": {INJECT: "enabled"}}})],
            workloads: vec![
                workload("Deployment", "api", json!({"metadata": {"labels": {"app": "api"}}})),
                workload("Deployment", "web", json!({"metadata": {"labels": {INJECT: "enabled"}}})),
                workload(
                    "Deployment",
                    "files",
                    json!({"metadata": {"annotations": {INJECTED: "true"}}}),
                ),
            ],
        }
    }

    #[test]
    fn every_kind_of_workload_has_its_command() {
        insta::assert_snapshot!(warning(&meshed(&seen())));
    }

    #[test]
    fn nothing_is_said_where_no_pod_has_a_proxy() {
        let nobody = Seen { pods: Vec::new(), ..seen() };
        assert_eq!(meshed(&nobody), []);
        assert_eq!(warning(&[]), "");
    }

    #[test]
    fn many_pods_are_counted_and_not_all_named() {
        let pods = (0..25).map(|number| pod(&format!("p{number}"), "", json!({}))).collect();
        let text = warning(&meshed(&Seen { pods, ..Seen::default() }));
        assert!(text.contains("25 pods have") && text.contains(" and 15 more\n"), "{text}");
        assert!(!text.contains("label namespace"), "it has no label: {text}");
    }
}
