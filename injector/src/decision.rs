//! Whether a pod gets a proxy.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::annotations::invalid::InvalidAnnotation;
use crate::annotations::{self, INJECTED, ProxySettings, Wish};
use crate::conflict::{self, Conflict};
use crate::patch::Presence;

/// What happens to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets a proxy with these settings, or what is missing of one.
    Inject(Box<ProxySettings>),
    /// It stays as it is.
    Skip(SkipReason),
    /// It is not admitted.
    Refuse(Vec<Refusal>),
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    /// Neither the pod nor its namespace asks for a proxy.
    NotAsked,
    /// The pod or its namespace says `disabled`.
    Disabled,
    /// The pod uses its node's network, whose traffic is not the pod's alone.
    HostNetwork,
    /// The pod runs on Windows, where nothing redirects its traffic.
    Windows,
    /// The pod shows a static pod of its node, which no API server can change.
    Static,
    /// The pod has our proxy already.
    AlreadyInjected,
    /// The pod has the proxy of another mesh, which takes the same traffic.
    OtherMesh,
}

impl SkipReason {
    /// As a metric label, and the reason of an event.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Disabled => "disabled",
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::Static => "static",
            Self::AlreadyInjected => "already_injected",
            Self::OtherMesh => "other_mesh",
        }
    }

    /// Whether somebody asked for a proxy that there cannot be, and should be told.
    pub fn is_obstacle(self) -> bool {
        match self {
            Self::NotAsked | Self::Disabled | Self::AlreadyInjected => false,
            Self::HostNetwork | Self::Windows | Self::Static | Self::OtherMesh => true,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "neither the pod nor its namespace has heddle.dev/inject: enabled",
            Self::Disabled => "heddle.dev/inject: disabled",
            Self::HostNetwork => {
                "the pod uses its node's network (hostNetwork), whose traffic is not its own alone"
            }
            Self::Windows => "the pod runs on Windows, where its traffic cannot be redirected",
            Self::Static => "the pod is a static one of its node, which cannot be changed",
            Self::AlreadyInjected => "the pod has its proxy already",
            Self::OtherMesh => {
                "the pod has the proxy of another mesh, which takes the same traffic"
            }
        })
    }
}

/// Why a pod is not admitted. Each says what is wrong, and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What it asks for cannot be read, or not be had.
    Annotation(InvalidAnnotation),
    /// What it is cannot be beside a proxy.
    Conflict(Conflict),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation(invalid) => invalid.fmt(f),
            Self::Conflict(conflict) => conflict.fmt(f),
        }
    }
}

/// Decides for one pod, knowing what its namespace says: its labels, and those of its annotations that mean
/// something there. The pod's own annotation or label goes before its namespace's label.
pub fn decide(namespace: &BTreeMap<String, String>, pod: &Pod) -> Decision {
    let empty = BTreeMap::new();
    let pod_annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let wish = match wish(namespace, pod) {
        Ok(wish) => wish,
        Err(invalid) => return Decision::Refuse(vec![Refusal::Annotation(invalid)]),
    };
    let presence = Presence::of(pod);
    let skip = match wish {
        Wish::Disabled => Some(SkipReason::Disabled),
        Wish::Unsaid => Some(SkipReason::NotAsked),
        Wish::Enabled if presence == Presence::Whole => Some(SkipReason::AlreadyInjected),
        Wish::Enabled => obstacle(pod, pod_annotations, presence),
    };
    if let Some(reason) = skip {
        let claims = pod_annotations.get(INJECTED).is_some_and(|value| value == "true");
        // Callers believe the annotation. A static pod stays whatever is answered.
        return if claims && !presence.has_proxy() && reason != SkipReason::Static {
            Decision::Refuse(vec![Refusal::Conflict(Conflict::Claims)])
        } else {
            Decision::Skip(reason)
        };
    }
    let mut refusals: Vec<Refusal> =
        conflict::conflicts(pod).into_iter().map(Refusal::Conflict).collect();
    let of_namespace = annotations::access_log_of_namespace(namespace);
    let settings = match (annotations::settings(pod_annotations), of_namespace) {
        (Ok(settings), Ok(access_log)) => Ok(ProxySettings { access_log, ..settings }),
        (own, of_namespace) => {
            let invalid = [own.err(), of_namespace.err()].into_iter().flatten().flatten();
            Err(invalid.collect::<Vec<_>>())
        }
    };
    match settings {
        Ok(settings) if refusals.is_empty() => Decision::Inject(Box::new(settings)),
        Ok(_) => Decision::Refuse(refusals),
        Err(invalid) => {
            refusals.extend(invalid.into_iter().map(Refusal::Annotation));
            Decision::Refuse(refusals)
        }
    }
}

/// Who says something first: the pod's annotation, its label, the label of its namespace.
fn wish(namespace_labels: &BTreeMap<String, String>, pod: &Pod) -> Result<Wish, InvalidAnnotation> {
    let own = [pod.metadata.annotations.as_ref(), pod.metadata.labels.as_ref()];
    for values in own.into_iter().flatten().chain([namespace_labels]) {
        match annotations::wish(values)? {
            Wish::Unsaid => {}
            said @ (Wish::Enabled | Wish::Disabled) => return Ok(said),
        }
    }
    Ok(Wish::Unsaid)
}

fn obstacle(
    pod: &Pod,
    annotations: &BTreeMap<String, String>,
    presence: Presence,
) -> Option<SkipReason> {
    let spec = pod.spec.as_ref()?;
    if annotations.contains_key(STATIC) {
        Some(SkipReason::Static)
    } else if spec.host_network == Some(true) {
        Some(SkipReason::HostNetwork)
    } else if is_windows(spec) {
        Some(SkipReason::Windows)
    } else if has_other_proxy(spec) && !presence.has_proxy() {
        Some(SkipReason::OtherMesh)
    } else {
        None
    }
}

/// Whether the proxy of another mesh is in the pod.
pub fn has_other_proxy(spec: &PodSpec) -> bool {
    let init = spec.init_containers.iter().flatten();
    let mut names = spec.containers.iter().chain(init).map(|container| container.name.as_str());
    names.any(|name| OTHER_PROXIES.contains(&name))
}

fn is_windows(spec: &PodSpec) -> bool {
    let selected = OS_LABELS.iter().any(|label| {
        let selector = spec.node_selector.as_ref();
        selector.and_then(|labels| labels.get(*label)).is_some_and(|os| os == WINDOWS)
    });
    selected || spec.os.as_ref().is_some_and(|os| os.name == WINDOWS)
}

/// Container names of other meshes' proxies: Istio, Linkerd, Consul, Kuma.
const OTHER_PROXIES: [&str; 4] =
    ["istio-proxy", "linkerd-proxy", "consul-dataplane", "kuma-sidecar"];
/// On the API server's picture of a pod that a node runs by itself.
const STATIC: &str = "kubernetes.io/config.mirror";
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
const WINDOWS: &str = "windows";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, spec: Value) -> Pod {
        let object = json!({"metadata": {"annotations": annotations}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn enabled() -> BTreeMap<String, String> {
        [(annotations::INJECT.to_owned(), "enabled".to_owned())].into()
    }

    fn app() -> Value {
        json!({"containers": [{"name": "app"}]})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut spec = app();
        spec[name] = value;
        spec
    }

    fn check(case: &str, decided: Decision, expected: Option<SkipReason>) {
        match expected {
            None => assert!(matches!(decided, Decision::Inject(_)), "case: {case}: {decided:?}"),
            Some(reason) => assert_eq!(decided, Decision::Skip(reason), "case: {case}"),
        }
    }

    #[test]
    fn a_pod_is_decided_on_by_who_asks() {
        let mut whole = with(
            "initContainers",
            json!([{"name": "heddle-redirect"}, {"name": "heddle-proxy", "restartPolicy": "Always"}]),
        );
        whole["volumes"] = json!([{"name": "heddle-token"}, {"name": "heddle-trust"}]);
        let (yes, no) = (enabled(), BTreeMap::new());
        let says = |word: &str| json!({annotations::INJECT: word});
        for (case, labels, pod, expected) in [
            ("the namespace", &yes, pod(json!({}), app()), None),
            ("nobody", &no, pod(json!({}), app()), Some(SkipReason::NotAsked)),
            ("the pod, first", &yes, pod(says("disabled"), app()), Some(SkipReason::Disabled)),
            ("the pod alone", &no, pod(says("enabled"), app()), None),
            (
                "twice",
                &yes,
                pod(json!({INJECTED: "true"}), whole),
                Some(SkipReason::AlreadyInjected),
            ),
        ] {
            check(case, decide(labels, &pod), expected);
        }
    }

    #[test]
    fn a_pod_that_cannot_have_a_proxy_is_left_alone() {
        let other = json!([{"name": "istio-proxy"}]);
        for (case, name, value, expected) in [
            ("host network", "hostNetwork", json!(true), Some(SkipReason::HostNetwork)),
            ("another mesh", "initContainers", other, Some(SkipReason::OtherMesh)),
            ("windows by name", "os", json!({"name": "windows"}), Some(SkipReason::Windows)),
            (
                "windows by node",
                "nodeSelector",
                json!({"kubernetes.io/os": "windows"}),
                Some(SkipReason::Windows),
            ),
            ("linux by name", "os", json!({"name": "linux"}), None),
            ("no token of its own", "automountServiceAccountToken", json!(false), None),
            ("shared processes", "shareProcessNamespace", json!(true), None),
        ] {
            check(case, decide(&enabled(), &pod(json!({}), with(name, value))), expected);
        }
        let mirrored = pod(json!({STATIC: "a"}), with("hostNetwork", json!(true)));
        check("static", decide(&enabled(), &mirrored), Some(SkipReason::Static));
    }

    #[test]
    fn a_bad_annotation_refuses_the_pod_and_a_bad_wish_too() {
        let app = json!({"containers": [{"name": "app"}]});
        for (case, annotations) in [
            ("port", json!({annotations::SKIP_INBOUND_PORTS: "all"})),
            ("wish", json!({annotations::INJECT: "yes"})),
            ("unknown", json!({"heddle.dev/x": "yes"})),
        ] {
            let decided = decide(&enabled(), &pod(annotations, app.clone()));
            assert!(matches!(decided, Decision::Refuse(_)), "case: {case}: {decided:?}");
        }
    }

    #[test]
    fn who_is_not_asked_for_is_not_judged() {
        let app = json!({"containers": [{"name": "app", "ports": [{"containerPort": 15106}]}]});
        let decided = decide(&BTreeMap::new(), &pod(json!({"heddle.dev/x": "1"}), app));
        assert_eq!(decided, Decision::Skip(SkipReason::NotAsked));
    }

    #[test]
    fn a_pod_that_claims_a_proxy_must_have_one() {
        let claims = json!({INJECTED: "true"});
        let app = json!({"containers": [{"name": "app"}], "hostNetwork": true});
        let refused = Decision::Refuse(vec![Refusal::Conflict(Conflict::Claims)]);
        assert_eq!(decide(&BTreeMap::new(), &pod(claims.clone(), app.clone())), refused);
        assert_eq!(decide(&enabled(), &pod(claims.clone(), app)), refused);
        // It gets one: then it has it.
        let app = json!({"containers": [{"name": "app"}]});
        assert!(matches!(decide(&enabled(), &pod(claims, app)), Decision::Inject(_)));
    }
}
