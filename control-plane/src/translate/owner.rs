//! Which workload a pod is of, as people know it: a Deployment, not its ReplicaSet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What controls a pod, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Reads it from a pod's metadata; `None`: nothing controls it.
pub fn translate(metadata: &ObjectMeta) -> Option<Owner> {
    let references = metadata.owner_references.iter().flatten();
    let owner = references.into_iter().find(|reference| reference.controller == Some(true))?;
    let behind = HASHES.iter().find_map(|(label, kind)| {
        let hash = metadata.labels.as_ref()?.get(*label)?;
        let name = owner.name.strip_suffix(hash)?.strip_suffix('-')?;
        Some(Owner { kind: (*kind).to_owned(), name: name.to_owned() })
    });
    match behind {
        Some(behind) if owner.kind == "ReplicaSet" => Some(behind),
        Some(_) | None => Some(Owner { kind: owner.kind.clone(), name: owner.name.clone() }),
    }
}

/// Labels of a ReplicaSet's pods with the hash that ends its name, and what made it.
const HASHES: [(&str, &str); 2] =
    [("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_of_what_people_made() {
        let hash = "6b4f8";
        for (case, kind, name, label, controller, expected) in [
            (
                "a deployment's",
                "ReplicaSet",
                "api-6b4f8",
                "pod-template-hash",
                true,
                Some("Deployment api"),
            ),
            (
                "a rollout's",
                "ReplicaSet",
                "api-6b4f8",
                "rollouts-pod-template-hash",
                true,
                Some("Rollout api"),
            ),
            ("a set of nobody's", "ReplicaSet", "api", "app", true, Some("ReplicaSet api")),
            (
                "another hash",
                "ReplicaSet",
                "api-x",
                "pod-template-hash",
                true,
                Some("ReplicaSet api-x"),
            ),
            ("a stateful set's", "StatefulSet", "db", "app", true, Some("StatefulSet db")),
            (
                "one with a hash",
                "Job",
                "api-6b4f8",
                "pod-template-hash",
                true,
                Some("Job api-6b4f8"),
            ),
            ("only related", "Node", "n", "app", false, None),
        ] {
            let metadata: ObjectMeta = serde_json::from_value(json!({
                "labels": {label: hash},
                "ownerReferences": [
                    {"apiVersion": "x", "kind": kind, "name": name, "uid": "u", "controller": controller},
                ],
            }))
            .unwrap();
            let found = translate(&metadata).map(|owner| format!("{} {}", owner.kind, owner.name));
            assert_eq!(found.as_deref(), expected, "case: {case}");
        }
        assert_eq!(translate(&ObjectMeta::default()), None);
    }
}
