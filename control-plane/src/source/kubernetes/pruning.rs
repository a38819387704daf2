//! What of a cluster's objects is kept: what decides something, and nothing that changes without meaning.
//! An object whose kept part is the same is not told again, and fields of a newer Kubernetes that the mesh
//! does not know are not mistaken for mistakes.

/// What of a value is kept. Of a list it is said of every item; what is neither a mapping nor a list is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    All,
    /// These fields.
    Only(&'static [(&'static str, Keep)]),
    /// All fields but these.
    AllBut(&'static [&'static str]),
    /// The fields whose names begin so.
    Prefixed(&'static [&'static str]),
}

impl Keep {
    /// What is kept of a field; `None`: nothing.
    pub fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Only(kept) => kept.iter().find(|(known, _)| *known == name).map(|(_, of)| *of),
            Self::AllBut(dropped) => (!dropped.contains(&name)).then_some(Self::All),
            Self::Prefixed(prefixes) => {
                prefixes.iter().any(|prefix| name.starts_with(prefix)).then_some(Self::All)
            }
        }
    }
}

/// The metadata that decide something, and where a watch goes on.
pub const METADATA: Keep = Keep::Only(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("generation", Keep::All),
    ("resourceVersion", Keep::All),
    ("creationTimestamp", Keep::All),
    ("deletionTimestamp", Keep::All),
    ("labels", NAMED),
    ("annotations", NAMED),
    ("ownerReferences", OWNERS),
]);
/// Whose a pod is: `translate/owner.rs`.
const OWNERS: Keep = Keep::Only(&[
    ("apiVersion", Keep::All),
    ("kind", Keep::All),
    ("name", Keep::All),
    ("uid", Keep::All),
    ("controller", Keep::All),
]);
/// Labels and annotations that are read, by their prefixes; those of others can be long, and change all the time.
const NAMED: Keep = Keep::Prefixed(&[
    "heddle.dev/",
    "kubernetes.io/service-name",
    "endpointslice.kubernetes.io/managed-by",
    "service.kubernetes.io/",
    "topology.kubernetes.io/",
    "pod-template-hash",
    "rollouts-pod-template-hash",
]);
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
/// What headers hold can be a secret, and decides nothing; their names say what a probe may bring.
const GET: Keep = Keep::Only(&[
    ("host", Keep::All),
    ("httpHeaders", Keep::Only(&[("name", Keep::All)])),
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
            ("readinessGates", Keep::Only(&[("conditionType", Keep::All)])),
            ("containers", CONTAINER),
            ("initContainers", CONTAINER),
        ]),
    ),
    (
        "status",
        Keep::Only(&[
            ("phase", Keep::All),
            // Not since when, nor why: that changes without meaning.
            ("conditions", Keep::Only(&[("type", Keep::All), ("status", Keep::All)])),
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
    use serde_json::{Value, json};

    use super::*;
    use crate::source::kubernetes::kept;

    fn read(keep: Keep, object: &Value) -> kept::Item {
        let page = json!({"metadata": {}, "items": [object]}).to_string();
        kept::page(page.as_bytes(), keep).unwrap().items.remove(0)
    }

    #[test]
    fn what_decides_nothing_is_dropped() {
        for (case, keep, value, expected) in [
            (
                "a pod",
                POD,
                json!({"spec": {"nodeName": "n", "volumes": [1], "readinessGates": [{"conditionType": "g", "other": 1}], "containers": [
                    {"name": "a", "image": "i", "ports": [{"containerPort": 80, "hostIP": "x"}],
                     "livenessProbe": {"periodSeconds": 1, "httpGet": {"port": 80, "httpHeaders": [{"name": "x-key", "value": "secret"}]}}}]},
                    "status": {"phase": "Running", "startTime": "t", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
                        {"type": "ContainersReady", "status": "True", "reason": "r", "message": "m", "lastProbeTime": null,
                         "lastTransitionTime": "t", "observedGeneration": 1}]}}),
                json!({"spec": {"nodeName": "n", "readinessGates": [{"conditionType": "g"}], "containers": [
                    {"name": "a", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "x-key"}]}}}]},
                    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                        "conditions": [{"type": "ContainersReady", "status": "True"}]}}),
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
            let fields = read(keep, &value).fields.unwrap();
            assert_eq!(Value::Object(fields), expected, "case: {case}");
        }
    }

    #[test]
    fn metadata_lose_what_changes_without_meaning() {
        let metadata = json!({
            "name": "a", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "o"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "r", "controller": true,
                 "blockOwnerDeletion": true},
            ],
            "labels": {"app": "a", "endpointslice.kubernetes.io/managed-by": "m"},
            "annotations": {
                "heddle.dev/injected": "true",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "endpoints.kubernetes.io/last-change-trigger-time": "now",
            },
        });
        let item = read(CUSTOM, &json!({"metadata": metadata, "spec": {}}));
        assert_eq!(
            Value::Object(item.metadata),
            json!({
                "name": "a", "namespace": "n", "uid": "u", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"endpointslice.kubernetes.io/managed-by": "m"},
                "annotations": {"heddle.dev/injected": "true"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "o"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "r", "controller": true},
                ],
            })
        );
    }
}
