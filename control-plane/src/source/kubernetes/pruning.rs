//! What of a cluster's objects is kept: what decides something, and nothing that changes without meaning.
//! An object whose kept part is the same is not told again, and fields of a newer Kubernetes that the mesh
//! does not know are not mistaken for mistakes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// What of a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    All,
    /// These fields, if it is a mapping; of a list, these fields of every item.
    Only(&'static [(&'static str, Keep)]),
    /// All of its fields but these.
    AllBut(&'static [&'static str]),
}

impl Keep {
    /// The part of a value that is kept.
    pub fn of(self, value: Value) -> Value {
        match (self, value) {
            (Self::All, value) => value,
            (Self::Only(_) | Self::AllBut(_), Value::Array(items)) => {
                items.into_iter().map(|item| self.of(item)).collect()
            }
            (Self::Only(kept), Value::Object(mut fields)) => {
                let part = |(name, keep): &(&str, Self)| {
                    fields.remove(*name).map(|value| ((*name).to_owned(), keep.of(value)))
                };
                Value::Object(kept.iter().filter_map(part).collect())
            }
            (Self::AllBut(dropped), Value::Object(mut fields)) => {
                fields.retain(|name, _| !dropped.contains(&name.as_str()));
                Value::Object(fields)
            }
            (
                Self::Only(_) | Self::AllBut(_),
                value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)),
            ) => value,
        }
    }
}

/// The metadata that decide something.
pub fn metadata(metadata: &ObjectMeta) -> Value {
    let mut kept = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            kept.insert(name.to_owned(), value);
        }
    };
    put("name", metadata.name.clone().map(Value::String));
    put("namespace", metadata.namespace.clone().map(Value::String));
    put("uid", metadata.uid.clone().map(Value::String));
    put("generation", metadata.generation.map(Value::from));
    let time = |time: &Option<_>| time.as_ref().and_then(|time| serde_json::to_value(time).ok());
    put("creationTimestamp", time(&metadata.creation_timestamp));
    put("deletionTimestamp", time(&metadata.deletion_timestamp));
    let texts = |texts: &std::collections::BTreeMap<String, String>| {
        let texts = texts.iter().filter(|(name, _)| !NOISE.contains(&name.as_str()));
        texts.map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect()
    };
    put("labels", metadata.labels.as_ref().map(texts));
    put("annotations", metadata.annotations.as_ref().map(texts));
    Value::Object(kept)
}

/// Annotations that are long, or change all the time, and say nothing to the mesh.
const NOISE: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// A node says its zone in its labels; the rest is what `translate/node.rs` reads of its addresses.
pub const NODE: Keep = Keep::Only(&[
    ("spec", Keep::Only(&[("podCIDR", Keep::All), ("podCIDRs", Keep::All)])),
    ("status", Keep::Only(&[("addresses", Keep::All)])),
]);
/// What `translate/pod.rs` and `translate/probes.rs` read of a container.
const CONTAINER: Keep = Keep::Only(&[
    ("name", Keep::All),
    ("restartPolicy", Keep::All),
    (
        "ports",
        Keep::Only(&[("containerPort", Keep::All), ("name", Keep::All), ("protocol", Keep::All)]),
    ),
    ("startupProbe", PROBE),
    ("readinessProbe", PROBE),
    ("livenessProbe", PROBE),
    ("lifecycle", Keep::Only(&[("postStart", PROBE), ("preStop", PROBE)])),
]);
/// How a node asks; what it does with the answer is its own affair.
const PROBE: Keep = Keep::Only(&[("httpGet", GET), ("tcpSocket", Keep::All), ("grpc", Keep::All)]);
/// Headers can hold secrets, and decide nothing.
const GET: Keep = Keep::Only(&[
    ("host", Keep::All),
    ("path", Keep::All),
    ("port", Keep::All),
    ("scheme", Keep::All),
]);
/// What `translate/pod.rs` reads.
pub const POD: Keep = Keep::Only(&[
    (
        "spec",
        Keep::Only(&[
            ("serviceAccountName", Keep::All),
            ("nodeName", Keep::All),
            ("hostNetwork", Keep::All),
            ("containers", CONTAINER),
            ("initContainers", CONTAINER),
        ]),
    ),
    (
        "status",
        Keep::Only(&[
            ("phase", Keep::All),
            ("podIP", Keep::All),
            ("podIPs", Keep::Only(&[("ip", Keep::All)])),
        ]),
    ),
]);
/// What `translate/service.rs` reads.
pub const SERVICE: Keep = Keep::Only(&[(
    "spec",
    Keep::Only(&[
        ("type", Keep::All),
        ("clusterIP", Keep::All),
        ("clusterIPs", Keep::All),
        ("trafficDistribution", Keep::All),
        (
            "ports",
            Keep::Only(&[
                ("name", Keep::All),
                ("port", Keep::All),
                ("protocol", Keep::All),
                ("targetPort", Keep::All),
                ("appProtocol", Keep::All),
            ]),
        ),
    ]),
)]);
/// What `translate/endpoint_slice.rs` reads.
pub const ENDPOINT_SLICE: Keep = Keep::Only(&[
    ("addressType", Keep::All),
    (
        "endpoints",
        Keep::Only(&[
            ("addresses", Keep::All),
            (
                "conditions",
                Keep::Only(&[
                    ("ready", Keep::All),
                    ("serving", Keep::All),
                    ("terminating", Keep::All),
                ]),
            ),
            ("targetRef", Keep::Only(&[("kind", Keep::All), ("uid", Keep::All)])),
            ("zone", Keep::All),
            ("nodeName", Keep::All),
        ]),
    ),
    ("ports", Keep::Only(&[("name", Keep::All), ("port", Keep::All), ("protocol", Keep::All)])),
]);
/// Of a custom resource every field that is not known is a mistake, but for what others say of it.
pub const CUSTOM: Keep = Keep::AllBut(&["status"]);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_decides_nothing_is_dropped() {
        for (case, keep, value, expected) in [
            (
                "a pod",
                POD,
                json!({"spec": {"nodeName": "n", "volumes": [1], "containers": [
                    {"name": "a", "image": "i", "ports": [{"containerPort": 80, "hostIP": "x"}],
                     "livenessProbe": {"periodSeconds": 1, "httpGet": {"port": 80, "httpHeaders": []}}}]},
                    "status": {"phase": "Running", "startTime": "t", "podIPs": [{"ip": "10.0.0.1"}]}}),
                json!({"spec": {"nodeName": "n", "containers": [
                    {"name": "a", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}}}]},
                    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}),
            ),
            (
                "a node",
                NODE,
                json!({"spec": {"podCIDR": "x", "taints": []}, "status": {"images": [], "addresses": [1]}}),
                json!({"spec": {"podCIDR": "x"}, "status": {"addresses": [1]}}),
            ),
            (
                "a slice",
                ENDPOINT_SLICE,
                json!({"addressType": "IPv4", "ports": null, "endpoints": [
                    {"addresses": ["10.0.0.1"], "hints": {}, "targetRef": {"uid": "u", "name": "n"}}]}),
                json!({"addressType": "IPv4", "ports": null, "endpoints": [
                    {"addresses": ["10.0.0.1"], "targetRef": {"uid": "u"}}]}),
            ),
            (
                "a route",
                CUSTOM,
                json!({"spec": {"rules": []}, "status": {"parents": []}, "other": 1}),
                json!({"spec": {"rules": []}, "other": 1}),
            ),
        ] {
            assert_eq!(keep.of(value), expected, "case: {case}");
        }
    }

    #[test]
    fn metadata_lose_what_changes_without_meaning() {
        let metadata: ObjectMeta = serde_json::from_value(json!({
            "name": "a", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}],
            "labels": {"app": "a"},
            "annotations": {
                "heddle.dev/injected": "true",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "endpoints.kubernetes.io/last-change-trigger-time": "now",
            },
        }))
        .unwrap();
        assert_eq!(
            super::metadata(&metadata),
            json!({
                "name": "a", "namespace": "n", "uid": "u", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "a"},
                "annotations": {"heddle.dev/injected": "true"},
            })
        );
    }
}
