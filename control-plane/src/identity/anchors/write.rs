//! Writes the trust anchors to one namespace, and tells what came of it.

use std::time::Duration;

use heddle_model::installation::{HEDDLE, PART_OF, TRUST_ANCHORS_CONFIG_MAP};
use heddle_runtime::logging::Chain;
use heddle_tls::authority::texts::TRUST_ANCHORS;
use heddle_tls::digest;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use crate::identity::anchors::plan::Found;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They are there.
    Written(Found),
    /// The namespace is gone, or about to go: nothing can start there.
    Gone,
    /// Something of this namespace does not let them in; why.
    Refused(String),
    /// They may be there the next time; why not now.
    Failed(String),
}

/// One attempt. Whatever somebody else made there meanwhile is not written over.
pub(super) async fn write(client: Client, namespace: &str, exists: bool, text: &str) -> Outcome {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": TRUST_ANCHORS_CONFIG_MAP,
            "labels": {
                "app.kubernetes.io/name": "heddle",
                "app.kubernetes.io/component": "control-plane",
                PART_OF: HEDDLE,
                "app.kubernetes.io/managed-by": MANAGER,
            },
        },
        "data": { TRUST_ANCHORS: text },
    });
    let parameters = PatchParams::apply(MANAGER);
    let parameters = if exists { parameters.force() } else { parameters };
    let map = Patch::Apply(map);
    match timeout(ANSWER_TIMEOUT, maps.patch(TRUST_ANCHORS_CONFIG_MAP, &parameters, &map)).await {
        Err(_) => Outcome::Failed("the API server does not answer".to_owned()),
        Ok(Ok(map)) => Outcome::Written(found(&map)),
        Ok(Err(kube::Error::Api(status))) => judge(&status),
        Ok(Err(error)) => Outcome::Failed(Chain(&error).to_string()),
    }
}

/// What of a ConfigMap is remembered.
pub(super) fn found(map: &ConfigMap) -> Found {
    let labels = map.metadata.labels.as_ref();
    let part_of = labels.and_then(|labels| labels.get(PART_OF)).map(String::as_str);
    let text = map.data.as_ref().and_then(|data| data.get(TRUST_ANCHORS));
    Found {
        ours: part_of == Some(HEDDLE),
        immutable: map.immutable == Some(true),
        text: digest::of(text.map(String::as_bytes).unwrap_or_default()),
    }
}

/// Who refuses, and whether that is of the namespace. What the control plane itself is not allowed to do is
/// of the whole mesh, and is waited for: it must not pass for one namespace after another.
fn judge(status: &kube::core::Status) -> Outcome {
    let said: String = status.message.chars().take(SAID_LIMIT_CHARS).collect();
    let of_the_past =
        status.code == 404 || (status.code == 403 && status.message.contains("being terminated"));
    let not_allowed = status.code == 403 && status.message.contains(NOT_ALLOWED);
    match status.code {
        _ if of_the_past => Outcome::Gone,
        _ if not_allowed => Outcome::Failed(said),
        // Who we are, and what passes: a time-out, a conflict, too many requests.
        401 | 408 | 409 | 429 => Outcome::Failed(said),
        400..500 => Outcome::Refused(said),
        _ => Outcome::Failed(said),
    }
}

/// What we are called where writers are named.
const MANAGER: &str = "heddle-control-plane";
/// Of the API server's, for one namespace.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What is passed on of the API server's reason.
const SAID_LIMIT_CHARS: usize = 300;
/// How the API server says that RBAC does not allow something; a quota or an admission policy names no user
/// there. Source: `NewForbidden` and the attributes' message in k8s.io/apiserver, of all 1.3x.
const NOT_ALLOWED: &str = "is forbidden: User ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_namespace_refuses_is_told_from_what_nobody_allows() {
        let denied = "configmaps \"heddle-trust-anchors\" is forbidden: User \"system:serviceaccount:m:c\" \
                      cannot patch resource \"configmaps\" in API group \"\" in the namespace \"shop\"";
        let quota = "configmaps \"heddle-trust-anchors\" is forbidden: exceeded quota: few";
        let going = "unable to create new content in namespace shop because it is being terminated";
        let failed = |said: &str| Outcome::Failed(said.to_owned());
        let refused = |said: &str| Outcome::Refused(said.to_owned());
        for (case, code, message, expected) in [
            ("no such namespace", 404, "not found", Outcome::Gone),
            ("about to go", 403, going, Outcome::Gone),
            ("not allowed", 403, denied, failed(denied)),
            ("a quota", 403, quota, refused(quota)),
            ("immutable", 422, "field is immutable when `immutable` is set", {
                refused("field is immutable when `immutable` is set")
            }),
            ("a webhook", 400, "admission webhook denied the request", {
                refused("admission webhook denied the request")
            }),
            ("somebody else's field", 409, "conflict", failed("conflict")),
            ("busy", 429, "later", failed("later")),
            ("a token of ours that has expired", 401, "unauthorized", failed("unauthorized")),
            ("broken", 500, "etcd", failed("etcd")),
        ] {
            let status = kube::core::Status::failure(message, "").with_code(code);
            assert_eq!(judge(&status), expected, "case: {case}");
        }
    }
}
