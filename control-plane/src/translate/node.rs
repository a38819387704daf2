//! Node → the zone it is in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;

/// What the mesh knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its topology zone; empty if it does not say.
    pub zone: String,
}

/// Reads a node.
pub fn translate(node: &api::Node) -> Node {
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        zone: zone(node.metadata.labels.as_ref()).unwrap_or_default(),
    }
}

/// What labels (or annotations) say of a zone.
pub fn zone(labels: Option<&BTreeMap<String, String>>) -> Option<String> {
    labels.and_then(|labels| labels.get(ZONE)).filter(|zone| !zone.is_empty()).cloned()
}

/// Set on nodes by cloud providers; newer Kubernetes copies it to pods.
const ZONE: &str = "topology.kubernetes.io/zone";
