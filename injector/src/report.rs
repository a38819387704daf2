//! Pods that exist, looked at after the fact: who should have a proxy and has none, and what else their
//! owners should know. Pure; events and `meshctl check` tell it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::annotations::invalid::InvalidAnnotation;
use crate::annotations::{self, Wish};
use crate::decision::{self, Decision, Refusal, SkipReason};
use crate::patch::Presence;

/// Something that a pod's, or a namespace's, owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The namespace.
    pub namespace: String,
    /// The pod; nothing: the namespace itself.
    pub pod: Option<PodReference>,
    /// What it is.
    pub kind: FindingKind,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReference {
    /// Its name.
    pub name: String,
    /// Its UID; empty if it has none yet.
    pub uid: String,
}

/// What its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// It should have a proxy and has none.
    Missing,
    /// It asks for one where nobody hears it.
    Unheard,
    /// It has some of a proxy, but not all: somebody changed what the injector made.
    Incomplete,
    /// It is asked for, and cannot be.
    Obstacle(SkipReason),
    /// Made anew, it would not be admitted.
    Refused(Vec<Refusal>),
    /// It has ports of UDP, which the mesh leaves alone.
    Udp(Vec<i32>),
    /// The namespace's label cannot be read.
    Namespace(InvalidAnnotation),
}

impl FindingKind {
    /// As a metric label; and the reason of an event, in Kubernetes' spelling, is [`Self::reason`].
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unheard => "unheard",
            Self::Incomplete => "incomplete",
            Self::Obstacle(reason) => reason.label(),
            Self::Refused(_) => "refused",
            Self::Udp(_) => "udp",
            Self::Namespace(_) => "namespace",
        }
    }

    /// One word for an event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "ProxyMissing",
            Self::Unheard => "ProxyUnheard",
            Self::Incomplete => "ProxyIncomplete",
            Self::Obstacle(_) => "ProxyNotPossible",
            Self::Refused(_) => "ProxyRefused",
            Self::Udp(_) => "UdpNotMeshed",
            Self::Namespace(_) => "InvalidInjectLabel",
        }
    }

    /// Whether traffic passes the mesh by that somebody wanted in it. What is no problem is good to know.
    pub fn is_problem(&self) -> bool {
        match self {
            Self::Missing
            | Self::Unheard
            | Self::Incomplete
            | Self::Obstacle(_)
            | Self::Refused(_)
            | Self::Namespace(_) => true,
            Self::Udp(_) => false,
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "it should have a proxy and has none: it was made before its namespace was labelled, or while the \
                 injector could not be reached; made anew, it gets one (kubectl rollout restart)",
            ),
            Self::Unheard => f.write_str(
                "it asks for a proxy by an annotation alone, and has none: the API server calls the injector by labels; made \
                 anew with the label heddle.dev/inject: enabled, on it or its namespace, it gets one",
            ),
            Self::Incomplete => f.write_str(
                "some of its proxy is missing: something changed what the injector made; made anew, it gets a whole one \
                 (kubectl rollout restart)",
            ),
            Self::Obstacle(reason) => write!(f, "it cannot have a proxy: {reason}"),
            Self::Refused(refusals) => {
                f.write_str("it has no proxy, and made anew it would be refused: ")?;
                list(refusals, f)
            }
            Self::Udp(ports) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "its UDP ports ({}) are not in the mesh: what comes there is neither encrypted nor checked",
                    ports.join(", ")
                )
            }
            Self::Namespace(invalid) => write!(f, "its label cannot be read: {invalid}"),
        }
    }
}

/// Writes reasons one after the other.
pub(crate) fn list(refusals: &[Refusal], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, refusal) in refusals.iter().enumerate() {
        let between = if index == 0 { "" } else { "; " };
        write!(f, "{between}{refusal}")?;
    }
    Ok(())
}

/// Looks at all pods. Those that have ended, or are about to, and those of `kube-system` are left out.
pub fn report(pods: &[Pod], namespaces: &[Namespace]) -> Vec<Finding> {
    let empty = BTreeMap::new();
    let labels: HashMap<&str, &BTreeMap<String, String>> = namespaces
        .iter()
        .filter_map(|namespace| {
            let labels = namespace.metadata.labels.as_ref().unwrap_or(&empty);
            Some((namespace.metadata.name.as_deref()?, labels))
        })
        .collect();
    let invalid = labels.iter().filter_map(|(name, labels)| {
        let invalid = annotations::wish(labels).err()?;
        let kind = FindingKind::Namespace(invalid);
        Some(Finding { namespace: (*name).to_owned(), pod: None, kind })
    });
    let mut findings: Vec<Finding> = invalid.collect();
    for pod in pods {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let labels = labels.get(namespace).copied().unwrap_or(&empty);
        // The namespace's bad label is told once, and not with each of its pods.
        let labels = if annotations::wish(labels).is_ok() { labels } else { &empty };
        findings.extend(of_pod(pod, labels));
    }
    sort(&mut findings);
    findings
}

/// Puts findings into the order in which they are told.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|one, other| {
        fn key(finding: &Finding) -> (&str, Option<&str>, &'static str) {
            let name = finding.pod.as_ref().map(|pod| pod.name.as_str());
            (&finding.namespace, name, finding.kind.label())
        }
        key(one).cmp(&key(other))
    });
}

/// Looks at one pod.
pub fn of_pod(pod: &Pod, namespace_labels: &BTreeMap<String, String>) -> Vec<Finding> {
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    if ended || metadata.deletion_timestamp.is_some() || namespace == EXCLUDED {
        return Vec::new();
    }
    let found = match decision::decide(namespace_labels, pod) {
        Decision::Inject(_) if Presence::of(pod) == Presence::None => {
            let labels = [metadata.labels.as_ref(), Some(namespace_labels)];
            let mut labels = labels.into_iter().flatten();
            let heard = labels.any(|labels| annotations::wish(labels) == Ok(Wish::Enabled));
            Some(if heard { FindingKind::Missing } else { FindingKind::Unheard })
        }
        Decision::Inject(_) => Some(FindingKind::Incomplete),
        Decision::Skip(SkipReason::AlreadyInjected) => None,
        Decision::Skip(reason) if reason.is_obstacle() => Some(FindingKind::Obstacle(reason)),
        Decision::Skip(_) => return Vec::new(),
        Decision::Refuse(refusals) => Some(FindingKind::Refused(refusals)),
    };
    let ports = udp_ports(pod);
    let udp =
        (!ports.is_empty() && Presence::of(pod).has_proxy()).then_some(FindingKind::Udp(ports));
    let reference = PodReference {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    };
    let finding =
        |kind| Finding { namespace: namespace.clone(), pod: Some(reference.clone()), kind };
    found.into_iter().chain(udp).map(finding).collect()
}

/// The ports of UDP that a pod's containers declare, each once.
pub(crate) fn udp_ports(pod: &Pod) -> Vec<i32> {
    let containers = pod.spec.iter().flat_map(|spec| spec.containers.iter());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mut found: Vec<i32> = ports
        .filter(|port| port.protocol.as_deref() == Some("UDP"))
        .map(|port| port.container_port)
        .take(PORTS_LIMIT)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What the cluster itself runs is never asked for.
const EXCLUDED: &str = "kube-system";
/// How many ports a finding tells of.
const PORTS_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn namespaces() -> Vec<Namespace> {
        let namespace = |name: &str, inject: Value| {
            let labels = json!({"heddle.dev/inject": inject});
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
        };
        vec![
            namespace("shop", json!("enabled")),
            namespace("kube-system", json!("enabled")),
            namespace("odd", json!("maybe")),
        ]
    }

    fn pod(name: &str, spec: Value, more: Value) -> Pod {
        let mut object =
            json!({"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "spec": spec});
        json_patch::merge(&mut object, &more);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn who_should_have_a_proxy_and_has_none_is_found() {
        let app = json!({"containers": [{"name": "app"}]});
        let ours = json!([{"name": "heddle-redirect"}, {"name": "heddle-proxy", "restartPolicy": "Always"}]);
        let volumes = json!([{"name": "heddle-token", "projected": {}}, {"name": "heddle-trust", "configMap": {"name": "a"}}]);
        let udp = json!([{"name": "app", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]);
        let meshed = json!({"containers": udp, "initContainers": ours, "volumes": volumes});
        let half = json!({"containers": [{"name": "app"}], "initContainers": [{"name": "heddle-redirect"}]});
        let mut host = app.clone();
        host["hostNetwork"] = json!(true);
        let marked = json!({"metadata": {"annotations": {"heddle.dev/injected": "true"}}});
        let bad = json!({"metadata": {"annotations": {"heddle.dev/skip-inbound-ports": "x"}}});
        let pods = [
            pod("a-missing", app.clone(), json!({})),
            pod("b-host", host, json!({})),
            pod("c-refused", app.clone(), bad),
            pod("d-meshed", meshed, marked),
            pod("e-half", half, json!({})),
            pod("f-ended", app.clone(), json!({"status": {"phase": "Succeeded"}})),
            pod(
                "g-ending",
                app.clone(),
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            ),
            pod("h-elsewhere", app.clone(), json!({"metadata": {"namespace": "other"}})),
            pod(
                "h-quiet",
                app.clone(),
                json!({"metadata": {"namespace": "other", "annotations": {"heddle.dev/inject": "enabled"}}}),
            ),
            pod("i-system", app.clone(), json!({"metadata": {"namespace": "kube-system"}})),
            pod("j-odd", app, json!({"metadata": {"namespace": "odd"}})),
        ];
        let found: Vec<String> = report(&pods, &namespaces())
            .iter()
            .map(|finding| {
                let name = finding.pod.as_ref().map(|pod| pod.name.as_str()).unwrap_or("-");
                format!("{} {name} {}", finding.namespace, finding.kind.label())
            })
            .collect();
        assert_eq!(
            found,
            [
                "odd - namespace",
                "other h-quiet unheard",
                "shop a-missing missing",
                "shop b-host host_network",
                "shop c-refused refused",
                "shop d-meshed udp",
                "shop e-half incomplete",
            ]
        );
    }
}
