//! What made a pod, as telemetry calls it: the Deployment behind a ReplicaSet, or what else owns the pod.

use k8s_openapi::api::core::v1::Pod;

/// `Deployment/api`; `None` for a pod that nothing made, or of which it is not known yet.
pub(crate) fn owner(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
    // A ReplicaSet is named after its Deployment and the hash of the template, by which it is labelled.
    let deployment = hash.filter(|_| owner.kind == "ReplicaSet").and_then(|hash| {
        owner.name.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
    });
    Some(match deployment {
        Some(deployment) => format!("Deployment/{deployment}"),
        None => format!("{}/{}", owner.kind, owner.name),
    })
}

/// The label that a Deployment puts on what it makes.
const TEMPLATE_HASH: &str = "pod-template-hash";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_its_deployments_or_whose_controller_it_has() {
        for (case, kind, name, hash, expected) in [
            (
                "a deployment's",
                "ReplicaSet",
                "api-v1-7d9f",
                Some("7d9f"),
                Some("Deployment/api-v1"),
            ),
            ("a replica set's own", "ReplicaSet", "api", None, Some("ReplicaSet/api")),
            ("of another name", "ReplicaSet", "api-1", Some("7d9f"), Some("ReplicaSet/api-1")),
            ("a stateful set's", "StatefulSet", "db", None, Some("StatefulSet/db")),
        ] {
            let labels = hash.map(|hash| json!({TEMPLATE_HASH: hash}));
            let reference = json!({
                "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true,
            });
            let pod = json!({"metadata": {"labels": labels, "ownerReferences": [reference]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(owner(&pod).as_deref(), expected, "case: {case}");
        }
        assert_eq!(owner(&Pod::default()), None);
    }
}
