//! One pod, as JSON: decided on, patched, and the patch checked on the pod before anybody is given it.
//! Shared by the webhook and by `meshctl inject`. Pure.

use std::collections::BTreeMap;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::conflict;
use crate::decision::{self, Decision, Refusal, SkipReason};
use crate::patch::{self, Presence};
use crate::proxy::Proxy;
use crate::settings::MeshSettings;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It gets a proxy.
    Inject {
        /// What the pod lacks of one.
        patch: Patch,
        /// The pod with it.
        patched: Value,
    },
    /// It stays as it is.
    Skip(SkipReason),
    /// It is not admitted; at least one reason.
    Refuse(Vec<Refusal>),
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// What was given is not a pod.
    #[error("the object is not a Pod that can be read")]
    NotAPod(#[source] serde_json::Error),
    /// The patch would have done something else than it should: a fault of ours. Nothing is patched.
    #[error("the patch would not do: {0}")]
    WrongPatch(&'static str),
    /// The patch does not fit the pod: a fault of ours. Nothing is patched.
    #[error("the patch does not fit the pod")]
    Unfit(#[source] json_patch::PatchError),
}

/// Decides on a pod, given as JSON (a template's `metadata` and `spec` will do), and makes its patch.
pub fn inject(
    object: &Value,
    namespace: &BTreeMap<String, String>,
    mesh: &MeshSettings,
) -> Result<Verdict, InjectError> {
    let pod = read(object)?;
    let settings = match decision::decide(namespace, &pod) {
        Decision::Inject(settings) => *settings,
        Decision::Skip(reason) => return Ok(Verdict::Skip(reason)),
        Decision::Refuse(refusals) => return Ok(Verdict::Refuse(refusals)),
    };
    let proxy = match Proxy::new(&pod, settings, mesh) {
        Ok(proxy) => proxy,
        Err(invalid) => {
            let refusals = invalid.into_iter().map(Refusal::Annotation).collect();
            return Ok(Verdict::Refuse(refusals));
        }
    };
    let patch = patch::patch(&pod, &proxy, mesh);
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).map_err(InjectError::Unfit)?;
    check(pod, read(&patched)?)?;
    Ok(Verdict::Inject { patch, patched })
}

/// Reads a pod.
pub fn read(object: &Value) -> Result<Pod, InjectError> {
    // Reading borrows: what is not understood is not copied.
    <Pod as serde::Deserialize>::deserialize(object).map_err(InjectError::NotAPod)
}

/// Whether the one is the other with a proxy: everything of ours once, everything else as it was. Takes both,
/// which may be large, apart.
fn check(before: Pod, after: Pod) -> Result<(), InjectError> {
    if Presence::of(&after) != Presence::Whole {
        return Err(InjectError::WrongPatch("something of the proxy would be missing"));
    }
    if !conflict::conflicts(&after).is_empty() {
        return Err(InjectError::WrongPatch("something of the proxy would be there twice"));
    }
    if patch::without_ours(before) != patch::without_ours(after) {
        return Err(InjectError::WrongPatch("something of the pod's own would change"));
    }
    Ok(())
}
