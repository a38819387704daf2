//! What in a pod cannot be beside a proxy. Each is refused, since the pod would start and then not work,
//! or work past its proxy, which nobody would see.

use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::annotations::INJECTED;
use crate::containers::{
    PROXY_CONTAINER, PROXY_PORTS, PROXY_UID, REDIRECT_CONTAINER, TOKEN_VOLUME, TRUST_VOLUME,
};

/// Something that cannot be beside a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// There is nothing that a proxy could be beside.
    NoContainers,
    /// A container of the pod has a name of ours, where ours would not be.
    Container(&'static str),
    /// A volume of the pod has a name of ours, and is another one.
    Volume(&'static str),
    /// A container of the pod runs as the proxy's user, whose traffic is not redirected.
    User {
        /// The container.
        container: String,
    },
    /// A container of the pod listens on a port of the proxy.
    Port {
        /// The container.
        container: String,
        /// The port.
        port: i32,
    },
    /// The pod says that it has a proxy, and has none.
    Claims,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainers => f.write_str("the pod has no containers (want at least one)"),
            Self::Container(name) => write!(
                f,
                "container {name}: the name is the mesh's (want another one, or what the injector made left as it was)"
            ),
            Self::Volume(name) => {
                write!(f, "volume {name}: the name is the mesh's (want another one)")
            }
            Self::User { container } => write!(
                f,
                "container {container}: securityContext.runAsUser is {PROXY_UID}, the proxy's own user, whose traffic \
                 would go past the proxy (want another user)"
            ),
            Self::Port { container, port } => write!(
                f,
                "container {container}: containerPort {port} is the proxy's (want another port)"
            ),
            Self::Claims => write!(
                f,
                "{INJECTED} is set on a pod that has no proxy and gets none: peers would encrypt what it cannot \
                 read (want the annotation removed: the injector sets it)"
            ),
        }
    }
}

/// Everything in a pod that cannot be beside a proxy.
pub fn conflicts(pod: &Pod) -> Vec<Conflict> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut found = Vec::new();
    if spec.containers.is_empty() {
        found.push(Conflict::NoContainers);
    }
    found.extend(reserved_containers(spec));
    found.extend(reserved_volumes(spec));
    let pod_user = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    for container in applications(spec).take(CONTAINERS_LIMIT) {
        let own_user = container.security_context.as_ref().and_then(|context| context.run_as_user);
        if own_user.or(pod_user) == Some(PROXY_UID) {
            found.push(Conflict::User { container: container.name.clone() });
        }
        for port in container.ports.iter().flatten() {
            let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            if is_tcp && PROXY_PORTS.contains(&port.container_port) {
                let (container, port) = (container.name.clone(), port.container_port);
                found.push(Conflict::Port { container, port });
            }
        }
    }
    found.truncate(REPORTED_LIMIT);
    found
}

/// All containers that are not ours, those that run first included.
fn applications(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let own = spec.init_containers.iter().flatten();
    let own = own.filter(|container| !is_reserved(&container.name));
    spec.containers.iter().chain(own)
}

/// Ours are init containers, and each is there once; the proxy's goes on running.
fn reserved_containers(spec: &PodSpec) -> impl Iterator<Item = Conflict> {
    [REDIRECT_CONTAINER, PROXY_CONTAINER].into_iter().filter_map(|name| {
        let among = spec.containers.iter().any(|container| container.name == name);
        let init: Vec<&Container> =
            spec.init_containers.iter().flatten().filter(|it| it.name == name).collect();
        let always = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let is_sidecar = init.first().is_some_and(always);
        let wrong_kind = !init.is_empty() && is_sidecar != (name == PROXY_CONTAINER);
        (among || init.len() > 1 || wrong_kind).then_some(Conflict::Container(name))
    })
}

/// Ours are a projected token and a ConfigMap, and each is there once.
fn reserved_volumes(spec: &PodSpec) -> impl Iterator<Item = Conflict> {
    [TOKEN_VOLUME, TRUST_VOLUME].into_iter().filter_map(|name| {
        let mut named = spec.volumes.iter().flatten().filter(|volume| volume.name == name);
        let first = named.next()?;
        let is_ours = match name {
            TOKEN_VOLUME => first.projected.is_some(),
            _ => first.config_map.is_some(),
        };
        (!is_ours || named.next().is_some()).then_some(Conflict::Volume(name))
    })
}

fn is_reserved(name: &str) -> bool {
    matches!(name, REDIRECT_CONTAINER | PROXY_CONTAINER)
}

/// More than any pod has.
const CONTAINERS_LIMIT: usize = 1024;
/// How many conflicts an answer tells of.
const REPORTED_LIMIT: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: serde_json::Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        conflicts(&pod).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_beside_a_proxy_is_told_by_its_name() {
        let app = json!({"name": "app"});
        for (case, spec, part) in [
            ("nothing", json!({"containers": []}), "no containers"),
            (
                "a proxy that ends",
                json!({"containers": [app], "initContainers": [{"name": "heddle-proxy"}]}),
                "container heddle-proxy",
            ),
            (
                "a proxy among the others",
                json!({"containers": [app, {"name": "heddle-proxy"}]}),
                "container heddle-proxy",
            ),
            (
                "two redirects",
                json!({"containers": [app], "initContainers": [{"name": "heddle-redirect"}, {"name": "heddle-redirect"}]}),
                "container heddle-redirect",
            ),
            (
                "a redirect that stays",
                json!({"containers": [app], "initContainers": [{"name": "heddle-redirect", "restartPolicy": "Always"}]}),
                "container heddle-redirect",
            ),
            (
                "a volume",
                json!({"containers": [app], "volumes": [{"name": "heddle-token", "emptyDir": {}}]}),
                "volume heddle-token",
            ),
            (
                "another volume",
                json!({"containers": [app], "volumes": [{"name": "heddle-trust", "secret": {}}]}),
                "volume heddle-trust",
            ),
            (
                "the pod's user",
                json!({"containers": [app], "securityContext": {"runAsUser": 15100}}),
                "container app: securityContext.runAsUser",
            ),
            (
                "the container's user",
                json!({"containers": [{"name": "app", "securityContext": {"runAsUser": 15100}}], "securityContext": {"runAsUser": 1}}),
                "container app: securityContext.runAsUser",
            ),
            (
                "an init container's user",
                json!({"containers": [app], "initContainers": [{"name": "first", "securityContext": {"runAsUser": 15100}}]}),
                "container first",
            ),
            (
                "a port",
                json!({"containers": [{"name": "app", "ports": [{"containerPort": 15106}]}]}),
                "containerPort 15106",
            ),
        ] {
            let found = check(spec);
            assert_eq!(found.len(), 1, "case: {case}: {found:?}");
            assert!(found[0].contains(part), "case: {case}: {found:?}");
        }
    }

    #[test]
    fn an_ordinary_pod_conflicts_with_nothing() {
        let spec = json!({
            "containers": [{"name": "app", "securityContext": {"runAsUser": 0}, "ports": [
                {"containerPort": 8080}, {"containerPort": 15106, "protocol": "UDP"},
            ]}],
            "initContainers": [{"name": "heddle-redirect"}, {"name": "heddle-proxy", "restartPolicy": "Always"}],
            "volumes": [{"name": "heddle-token", "projected": {}}, {"name": "heddle-trust", "configMap": {"name": "a"}}],
            "securityContext": {"runAsUser": 15100},
        });
        assert_eq!(check(spec), [""; 0]);
    }
}
