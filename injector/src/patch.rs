//! The JSON patch (RFC 6902) that gives a pod its proxy: an init container that programs the redirect,
//! and the proxy as a native sidecar.

use heddle_model::names::Port;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::annotations::{INJECTED, ProxySettings};

/// The proxy's container.
pub const PROXY_CONTAINER: &str = "heddle-proxy";
/// The init container that programs the redirect.
pub const REDIRECT_CONTAINER: &str = "heddle-redirect";
/// The volume with the token that proves the pod's identity.
pub const TOKEN_VOLUME: &str = "heddle-token";
/// The user of the proxy, whose traffic is exempt from the redirect.
pub const PROXY_UID: i64 = 15100;

/// What the mesh is set up with, the same for every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSettings {
    /// The proxy's image.
    pub image: String,
    /// `host:port` of the control plane.
    pub control_plane: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The ConfigMap with `trust-anchors.pem`, present in every meshed namespace.
    pub trust_anchors_config_map: String,
}

/// The patch for a pod that was decided to be injected.
pub fn patch(pod: &Pod, settings: &ProxySettings, mesh: &MeshSettings) -> Value {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut operations = Vec::new();
    let mut list = |path: &str, present: bool, first: bool, values: Vec<Value>| {
        if !present {
            operations.push(json!({"op": "add", "path": path, "value": values}));
            return;
        }
        // Init containers go in front, so that the pod's own ones run inside the mesh.
        for (index, value) in values.into_iter().enumerate() {
            let place = if first { index.to_string() } else { "-".to_owned() };
            operations
                .push(json!({"op": "add", "path": format!("{path}/{place}"), "value": value}));
        }
    };
    let init = vec![redirect_container(settings, mesh), proxy_container(settings, mesh)];
    list("/spec/initContainers", spec.init_containers.is_some(), true, init);
    list("/spec/volumes", spec.volumes.is_some(), false, volumes(mesh));
    if pod.metadata.annotations.is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let path = format!("/metadata/annotations/{}", INJECTED.replace('/', "~1"));
    operations.push(json!({"op": "add", "path": path, "value": "true"}));
    Value::Array(operations)
}

fn redirect_container(settings: &ProxySettings, mesh: &MeshSettings) -> Value {
    let mut arguments = vec!["redirect".to_owned(), format!("--exempt-uid={PROXY_UID}")];
    let mut ports = |flag: &str, ports: &[Port]| {
        if !ports.is_empty() {
            let text: Vec<String> = ports.iter().map(ToString::to_string).collect();
            arguments.push(format!("--{flag}={}", text.join(",")));
        }
    };
    ports("skip-inbound-ports", &settings.skip_inbound_ports);
    ports("skip-outbound-ports", &settings.skip_outbound_ports);
    json!({
        "name": REDIRECT_CONTAINER,
        "image": mesh.image,
        "args": arguments,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
        },
    })
}

fn proxy_container(settings: &ProxySettings, mesh: &MeshSettings) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "name": PROXY_CONTAINER,
        "image": mesh.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "env": [
            {"name": "HEDDLE_CONTROL_PLANE", "value": mesh.control_plane},
            {"name": "HEDDLE_TRUST_DOMAIN", "value": mesh.trust_domain},
            {"name": "HEDDLE_TRUST_ANCHORS", "value": "/var/run/heddle/trust/trust-anchors.pem"},
            {"name": "HEDDLE_TOKEN_FILE", "value": "/var/run/heddle/token/token"},
            {"name": "HEDDLE_POD_UID", "valueFrom": field("metadata.uid")},
            {"name": "HEDDLE_LOG", "value": settings.log.as_deref().unwrap_or("info")},
        ],
        "ports": [{"name": "heddle-admin", "containerPort": 15190}],
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": 15190},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 15190}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": PROXY_UID,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": "/var/run/heddle/token", "readOnly": true},
            {"name": "heddle-trust", "mountPath": "/var/run/heddle/trust", "readOnly": true},
        ],
    })
}

fn volumes(mesh: &MeshSettings) -> Vec<Value> {
    let token = json!({"serviceAccountToken": {
        "path": "token", "audience": "heddle", "expirationSeconds": 3600,
    }});
    vec![
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [token]}}),
        json!({"name": "heddle-trust", "configMap": {"name": mesh.trust_anchors_config_map}}),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    fn mesh() -> MeshSettings {
        MeshSettings {
            image: "heddle/proxy:test".to_owned(),
            control_plane: "heddle-control-plane.heddle-system.svc:15210".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            trust_anchors_config_map: "heddle-trust-anchors".to_owned(),
        }
    }

    fn paths(pod: &Pod) -> Vec<String> {
        let operations = patch(pod, &ProxySettings::default(), &mesh());
        let path = |operation: &Value| operation["path"].as_str().unwrap().to_owned();
        operations.as_array().unwrap().iter().map(path).collect()
    }

    #[test]
    fn what_is_there_already_stays() {
        let mut pod = Pod::default();
        assert_eq!(
            paths(&pod),
            [
                "/spec/initContainers",
                "/spec/volumes",
                "/metadata/annotations",
                "/metadata/annotations/heddle.dev~1injected"
            ]
        );
        pod.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        pod.spec = Some(PodSpec {
            init_containers: Some(vec![Container::default()]),
            volumes: Some(Vec::new()),
            ..PodSpec::default()
        });
        assert_eq!(
            paths(&pod),
            [
                "/spec/initContainers/0",
                "/spec/initContainers/1",
                "/spec/volumes/-",
                "/spec/volumes/-",
                "/metadata/annotations/heddle.dev~1injected"
            ]
        );
    }

    #[test]
    fn the_proxy_may_do_nothing_but_run() {
        let settings = ProxySettings {
            skip_inbound_ports: vec![Port::new(8086).unwrap()],
            ..ProxySettings::default()
        };
        let redirect = redirect_container(&settings, &mesh());
        assert_eq!(
            redirect["args"],
            json!(["redirect", "--exempt-uid=15100", "--skip-inbound-ports=8086"])
        );
        let proxy = proxy_container(&settings, &mesh());
        assert_eq!(proxy["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(proxy["restartPolicy"], "Always", "a native sidecar");
    }
}
