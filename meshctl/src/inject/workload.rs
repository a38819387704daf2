//! Which objects have a pod in them, and where. Pure.

use serde_json::Value;

/// Where the pod of an object is: the object itself, or its template.
pub fn pod_mut(object: &mut Value) -> Option<&mut Value> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let pointer = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => "",
        ("v1", "ReplicationController" | "PodTemplate") => "/spec/template",
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => "/spec/template",
        ("batch/v1", "Job") => "/spec/template",
        ("batch/v1", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer_mut(pointer)
}

/// As in `kubectl get`: `deployment/api`.
pub fn name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
    format!("{}/{}", text("/kind").unwrap_or_default().to_lowercase(), name.unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pod_is_found_in_what_makes_pods() {
        let template = json!({"spec": {"containers": []}});
        for (api_version, kind, spec, found) in [
            ("v1", "Pod", json!({"containers": []}), true),
            ("apps/v1", "Deployment", json!({"template": template}), true),
            ("apps/v1", "StatefulSet", json!({"template": template}), true),
            ("apps/v1", "DaemonSet", json!({"template": template}), true),
            ("apps/v1", "ReplicaSet", json!({"template": template}), true),
            ("batch/v1", "Job", json!({"template": template}), true),
            ("batch/v1", "CronJob", json!({"jobTemplate": {"spec": {"template": template}}}), true),
            ("v1", "Service", json!({}), false),
            ("example.org/v1", "Deployment", json!({"template": template}), false),
        ] {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
            let pod = pod_mut(&mut object).map(|pod| pod.pointer("/spec/containers").is_some());
            assert_eq!(pod, found.then_some(true), "case: {kind}");
        }
        assert_eq!(name(&json!({"kind": "Pod", "metadata": {"generateName": "a-"}})), "pod/a-");
    }
}
