//! The JSON patch (RFC 6902) that gives a pod what it lacks of a proxy, and the one that takes it away.
//! What is given is in containers.rs; whether it is, in decision.rs.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};

use crate::annotations::INJECTED;
use crate::containers::{self, PROXY_CONTAINER, REDIRECT_CONTAINER, TOKEN_VOLUME, TRUST_VOLUME};
use crate::proxy::Proxy;
use crate::settings::MeshSettings;

/// How much of a proxy is in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing, or nothing but volumes.
    None,
    /// Something is missing.
    Partial {
        /// Whether the proxy's container is there.
        proxy: bool,
    },
    /// Containers, volumes and annotation.
    Whole,
}

impl Presence {
    /// Looks for our names; whether what has them is ours is in conflict.rs.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::None };
        let proxy = position(spec, PROXY_CONTAINER).is_some();
        let redirect = position(spec, REDIRECT_CONTAINER).is_some();
        let volumes = [TOKEN_VOLUME, TRUST_VOLUME].iter().all(|name| has_volume(spec, name));
        match (proxy, redirect) {
            (true, true) if volumes && is_marked(pod) => Self::Whole,
            (false, false) => Self::None,
            (proxy, _) => Self::Partial { proxy },
        }
    }

    /// Whether the proxy's container is there.
    pub fn has_proxy(self) -> bool {
        match self {
            Self::None => false,
            Self::Partial { proxy } => proxy,
            Self::Whole => true,
        }
    }
}

/// Gives the pod what it lacks of a proxy; nothing, if it has all.
///
/// The redirect comes first of all init containers, and the proxy after it, so that the pod's own init
/// containers run inside the mesh. What is there already stays where another webhook put it.
pub fn patch(pod: &Pod, proxy: &Proxy, mesh: &MeshSettings) -> Patch {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut operations = Vec::new();
    let (redirect, sidecar) = (containers::redirect(proxy, mesh), containers::proxy(proxy, mesh));
    let init = |index: usize, value| add(["spec", "initContainers", &index.to_string()], value);
    match (position(spec, REDIRECT_CONTAINER), position(spec, PROXY_CONTAINER)) {
        (Some(_), Some(_)) => {}
        (Some(index), None) => operations.push(init(index + 1, sidecar)),
        (None, Some(index)) => operations.push(init(index, redirect)),
        (None, None) if spec.init_containers.is_none() => {
            operations.push(add(["spec", "initContainers"], json!([redirect, sidecar])));
        }
        (None, None) => operations.extend([init(0, redirect), init(1, sidecar)]),
    }
    let volumes = [
        (TOKEN_VOLUME, containers::token_volume()),
        (TRUST_VOLUME, containers::trust_volume(mesh)),
    ];
    let missing: Vec<Value> = volumes
        .into_iter()
        .filter(|(name, _)| !has_volume(spec, name))
        .map(|(_, volume)| volume)
        .collect();
    if spec.volumes.is_some() {
        let appended = missing.into_iter().map(|volume| add(["spec", "volumes", "-"], volume));
        operations.extend(appended);
    } else if !missing.is_empty() {
        operations.push(add(["spec", "volumes"], Value::Array(missing)));
    }
    operations.extend(annotations(pod, spec));
    Patch(operations)
}

/// Takes away what [`patch`] gave, by its names; nothing, if there is none of it. Which container is the
/// default one for kubectl stays said: nobody can tell who said it.
pub fn removal(pod: &Pod) -> Patch {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut operations = Vec::new();
    let mut list = |name: &str, ours: Vec<bool>| {
        if !ours.is_empty() && ours.iter().all(|ours| *ours) {
            operations.push(remove(["spec", name]));
            return;
        }
        // From behind, so that those before keep their places.
        let indexes = ours.iter().enumerate().rev().filter(|(_, ours)| **ours);
        operations.extend(indexes.map(|(index, _)| remove(["spec", name, &index.to_string()])));
    };
    let init = spec.init_containers.iter().flatten();
    let containers = [REDIRECT_CONTAINER, PROXY_CONTAINER];
    list("initContainers", init.map(|it| containers.contains(&it.name.as_str())).collect());
    let volumes = spec.volumes.iter().flatten();
    let names = [TOKEN_VOLUME, TRUST_VOLUME];
    list("volumes", volumes.map(|it| names.contains(&it.name.as_str())).collect());
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(INJECTED)) {
        operations.push(remove(["metadata", "annotations", INJECTED]));
    }
    Patch(operations)
}

fn annotations(pod: &Pod, spec: &PodSpec) -> Vec<PatchOperation> {
    let mut missing = Vec::new();
    if !is_marked(pod) {
        missing.push((INJECTED, json!("true")));
    }
    let present = pod.metadata.annotations.as_ref();
    let says_default = present.is_some_and(|annotations| annotations.contains_key(DEFAULT));
    if let (false, Some(first)) = (says_default, spec.containers.first()) {
        missing.push((DEFAULT, json!(first.name)));
    }
    if present.is_some() {
        return missing
            .into_iter()
            .map(|(name, value)| add(["metadata", "annotations", name], value))
            .collect();
    }
    let object: serde_json::Map<String, Value> =
        missing.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let object = Value::Object(object);
    // Of a template, even the metadata can be missing.
    if pod.metadata == Default::default() {
        vec![add(["metadata"], json!({"annotations": object}))]
    } else {
        vec![add(["metadata", "annotations"], object)]
    }
}

fn is_marked(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(INJECTED)).is_some_and(|it| it == "true")
}

fn position(spec: &PodSpec, name: &str) -> Option<usize> {
    spec.init_containers.iter().flatten().position(|container| container.name == name)
}

fn has_volume(spec: &PodSpec, name: &str) -> bool {
    spec.volumes.iter().flatten().any(|volume| volume.name == name)
}

/// The pod as a patch must leave it: without what is ours, and what we say where nothing was said.
pub(crate) fn without_ours(mut pod: Pod) -> Pod {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove(INJECTED);
        annotations.remove(DEFAULT);
    }
    pod.metadata.annotations = pod.metadata.annotations.filter(|them| !them.is_empty());
    if let Some(spec) = &mut pod.spec {
        let ours = [REDIRECT_CONTAINER, PROXY_CONTAINER];
        let mut init = spec.init_containers.take().unwrap_or_default();
        init.retain(|container| !ours.contains(&container.name.as_str()));
        spec.init_containers = Some(init).filter(|them| !them.is_empty());
        let ours = [TOKEN_VOLUME, TRUST_VOLUME];
        let mut volumes = spec.volumes.take().unwrap_or_default();
        volumes.retain(|volume| !ours.contains(&volume.name.as_str()));
        spec.volumes = Some(volumes).filter(|them| !them.is_empty());
    }
    pod
}

fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}

fn remove<const N: usize>(path: [&str; N]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path) })
}

/// Which container `kubectl logs` and `kubectl exec` take; without it they would take ours.
const DEFAULT: &str = "kubectl.kubernetes.io/default-container";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::ProxySettings;
    use crate::settings;

    fn patched(object: &Value) -> (Vec<String>, Value) {
        let pod: Pod = serde_json::from_value(object.clone()).unwrap();
        let mesh = settings::tests::mesh();
        let proxy = Proxy::new(&pod, ProxySettings::default(), &mesh).unwrap();
        let patch = patch(&pod, &proxy, &mesh);
        let paths = patch.0.iter().map(|operation| operation.path().to_string()).collect();
        let mut after = object.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        (paths, after)
    }

    fn names(object: &Value, list: &str) -> Vec<String> {
        let list = object["spec"][list].as_array().unwrap();
        list.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_there_already_stays() {
        let bare = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
        assert_eq!(patched(&bare).0, ["/spec/initContainers", "/spec/volumes", "/metadata"]);
        let full = json!({
            "metadata": {"annotations": {"a": "b", DEFAULT: "app"}},
            "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "first"}], "volumes": []},
        });
        let (paths, after) = patched(&full);
        assert_eq!(
            paths,
            [
                "/spec/initContainers/0",
                "/spec/initContainers/1",
                "/spec/volumes/-",
                "/spec/volumes/-",
                "/metadata/annotations/heddle.dev~1injected"
            ]
        );
        assert_eq!(names(&after, "initContainers"), ["heddle-redirect", "heddle-proxy", "first"]);
        assert_eq!(after["metadata"]["annotations"][DEFAULT], "app");
    }

    #[test]
    fn a_second_time_changes_nothing_also_after_others_added_theirs() {
        let bare = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}]}});
        let (_, mut once) = patched(&bare);
        assert_eq!(patched(&once).0, [""; 0]);
        once["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "vault"}));
        once["spec"]["containers"].as_array_mut().unwrap().insert(0, json!({"name": "agent"}));
        assert_eq!(patched(&once).0, [""; 0]);
    }

    #[test]
    fn what_another_webhook_took_away_comes_back_in_its_place() {
        let bare = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "first"}]}});
        let (_, whole) = patched(&bare);
        for (index, name) in ["heddle-redirect", "heddle-proxy"].into_iter().enumerate() {
            let mut broken = whole.clone();
            broken["spec"]["initContainers"].as_array_mut().unwrap().remove(index);
            let (paths, after) = patched(&broken);
            assert_eq!(paths, [format!("/spec/initContainers/{index}")], "case: {name}");
            assert_eq!(after, whole, "case: {name}");
        }
    }

    #[test]
    fn a_removal_leaves_what_was_there_before() {
        for object in [
            json!({"metadata": {"annotations": {"a": "b", DEFAULT: "app"}}, "spec": {
                "containers": [{"name": "app"}], "initContainers": [{"name": "first"}], "volumes": [{"name": "v", "emptyDir": {}}],
            }}),
            json!({"metadata": {"annotations": {DEFAULT: "app"}}, "spec": {"containers": [{"name": "app"}]}}),
        ] {
            let (_, mut after) = patched(&object);
            let pod: Pod = serde_json::from_value(after.clone()).unwrap();
            json_patch::patch(&mut after, &removal(&pod)).unwrap();
            assert_eq!(after, object);
            let pod: Pod = serde_json::from_value(after).unwrap();
            assert_eq!(removal(&pod).0.len(), 0);
        }
    }
}
