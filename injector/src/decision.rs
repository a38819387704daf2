//! Whether a pod gets a proxy.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use crate::annotations::{self, INJECTED, InvalidAnnotation, ProxySettings, Wish};
use crate::patch::PROXY_CONTAINER;

/// What happens to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets a proxy with these settings.
    Inject(ProxySettings),
    /// It stays as it is.
    Skip(SkipReason),
    /// It is not admitted.
    Refuse(Vec<InvalidAnnotation>),
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Neither the pod nor its namespace asks for a proxy.
    NotAsked,
    /// The pod or its namespace says `disabled`.
    Disabled,
    /// The pod uses its node's network, whose traffic is not the pod's alone.
    HostNetwork,
    /// The pod has our proxy already.
    AlreadyInjected,
    /// The pod has the proxy of another mesh, which takes the same traffic.
    OtherMesh,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "neither the pod nor its namespace has heddle.dev/inject: enabled",
            Self::Disabled => "heddle.dev/inject: disabled",
            Self::HostNetwork => "the pod uses its node's network",
            Self::AlreadyInjected => "the pod has a proxy already",
            Self::OtherMesh => "the pod has the proxy of another mesh",
        })
    }
}

/// Decides for one pod. The pod's own annotation or label goes before its namespace's label.
pub fn decide(namespace_labels: &BTreeMap<String, String>, pod: &Pod) -> Decision {
    let empty = BTreeMap::new();
    let pod_annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let pod_labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let mut wish = Wish::Unsaid;
    for values in [pod_annotations, pod_labels, namespace_labels] {
        match annotations::wish(values) {
            Ok(Wish::Unsaid) => {}
            Ok(said) => {
                wish = said;
                break;
            }
            Err(invalid) => return Decision::Refuse(vec![invalid]),
        }
    }
    match wish {
        Wish::Disabled => return Decision::Skip(SkipReason::Disabled),
        Wish::Unsaid => return Decision::Skip(SkipReason::NotAsked),
        Wish::Enabled => {}
    }
    if let Some(reason) = obstacle(pod, pod_annotations) {
        return Decision::Skip(reason);
    }
    match annotations::settings(pod_annotations) {
        Ok(settings) => Decision::Inject(settings),
        Err(invalid) => Decision::Refuse(invalid),
    }
}

fn obstacle(pod: &Pod, annotations: &BTreeMap<String, String>) -> Option<SkipReason> {
    let spec = pod.spec.as_ref()?;
    let names = || {
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init).map(|container| container.name.as_str())
    };
    if spec.host_network == Some(true) {
        Some(SkipReason::HostNetwork)
    } else if annotations.contains_key(INJECTED) || names().any(|name| name == PROXY_CONTAINER) {
        Some(SkipReason::AlreadyInjected)
    } else if names().any(|name| OTHER_PROXIES.contains(&name)) {
        Some(SkipReason::OtherMesh)
    } else {
        None
    }
}

/// Container names of other meshes' proxies: Istio, Linkerd, Consul, Kuma.
const OTHER_PROXIES: [&str; 4] =
    ["istio-proxy", "linkerd-proxy", "consul-dataplane", "kuma-sidecar"];

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    fn pod(annotations: &[(&str, &str)], container: &str, host_network: bool) -> Pod {
        let mut pod = Pod::default();
        let pairs =
            annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pod.metadata.annotations = Some(pairs.collect());
        let container = Container { name: container.to_owned(), ..Container::default() };
        pod.spec = Some(PodSpec {
            containers: vec![container],
            host_network: Some(host_network),
            ..PodSpec::default()
        });
        pod
    }

    #[test]
    fn a_pod_is_decided_on() {
        let enabled: BTreeMap<_, _> =
            [(annotations::INJECT.to_owned(), "enabled".to_owned())].into();
        let nothing = BTreeMap::new();
        for (case, labels, pod, expected) in [
            ("asked by namespace", &enabled, pod(&[], "app", false), None),
            ("not asked", &nothing, pod(&[], "app", false), Some(SkipReason::NotAsked)),
            (
                "the pod goes first",
                &enabled,
                pod(&[(annotations::INJECT, "disabled")], "app", false),
                Some(SkipReason::Disabled),
            ),
            ("host network", &enabled, pod(&[], "app", true), Some(SkipReason::HostNetwork)),
            (
                "twice",
                &enabled,
                pod(&[], PROXY_CONTAINER, false),
                Some(SkipReason::AlreadyInjected),
            ),
            ("another mesh", &enabled, pod(&[], "istio-proxy", false), Some(SkipReason::OtherMesh)),
        ] {
            let decided = decide(labels, &pod);
            match expected {
                None => {
                    assert!(matches!(decided, Decision::Inject(_)), "case: {case}: {decided:?}")
                }
                Some(reason) => assert_eq!(decided, Decision::Skip(reason), "case: {case}"),
            }
        }
    }

    #[test]
    fn a_bad_annotation_refuses_the_pod() {
        let enabled: BTreeMap<_, _> =
            [(annotations::INJECT.to_owned(), "enabled".to_owned())].into();
        let bad_port = pod(&[(annotations::SKIP_INBOUND_PORTS, "all")], "app", false);
        assert!(matches!(decide(&enabled, &bad_port), Decision::Refuse(_)));
        let bad_wish = pod(&[(annotations::INJECT, "yes")], "app", false);
        assert!(matches!(decide(&enabled, &bad_wish), Decision::Refuse(_)));
    }
}
