//! Which pods a caller's name stands for. Pure.
//!
//! The owners of pods are not watched: pods are recognised by the names that Kubernetes makes for them, a
//! Deployment's `name-hash-suffix`, a StatefulSet's `name-ordinal`, others' `name-suffix`.

use std::sync::Arc;

use heddle_proto::admin::CallerKind;

use crate::snapshot::Contents;
use crate::translate::pod::Pod;

/// The pods that are meant and live, by name. One that has the very name goes first.
pub(super) fn pods<'a>(
    contents: &'a Contents,
    (kind, namespace, name): (CallerKind, &str, &str),
) -> Vec<&'a Arc<Pod>> {
    let meant = |pod: &&Arc<Pod>| {
        let reference = &pod.reference;
        pod.live && reference.namespace == namespace && is_meant(&reference.name, kind, name)
    };
    let mut found: Vec<_> = contents.pods.values().filter(meant).collect();
    found.sort_by_key(|pod| (pod.reference.name != name, &pod.reference.name));
    found
}

fn is_meant(pod: &str, kind: CallerKind, name: &str) -> bool {
    if pod == name {
        return true;
    }
    let Some(rest) = pod.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let of_deployment =
        || rest.split_once('-').is_some_and(|(hash, suffix)| is_hash(hash) && is_suffix(suffix));
    let of_stateful_set = || !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        CallerKind::Pod => false,
        CallerKind::Deployment => of_deployment(),
        CallerKind::StatefulSet => of_stateful_set(),
        CallerKind::Set => is_suffix(rest),
        CallerKind::Unspecified => of_deployment() || of_stateful_set() || is_suffix(rest),
    }
}

fn is_hash(text: &str) -> bool {
    (1..=HASH_LIMIT).contains(&text.len()) && text.bytes().all(is_safe)
}

fn is_suffix(text: &str) -> bool {
    text.len() == SUFFIX_LENGTH && text.bytes().all(is_safe)
}

/// Source: Kubernetes, `apimachinery/pkg/util/rand`: letters and digits that make no words.
fn is_safe(byte: u8) -> bool {
    b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)
}

/// Of what is random in the name of a pod.
const SUFFIX_LENGTH: usize = 5;
/// A pod template's hash has 32 bits, in decimal digits.
const HASH_LIMIT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_recognised_by_the_names_that_are_made_for_them() {
        use CallerKind::{Deployment, Pod, Set, StatefulSet, Unspecified};
        for (case, pod, kind, name, expected) in [
            ("the pod itself", "api", Pod, "api", true),
            ("a pod that begins alike", "api-2", Pod, "api", false),
            ("a Deployment's", "api-7c9d8b6f5-x2kvz", Deployment, "api", true),
            ("another Deployment's", "api-v2-7c9d8b6f5-x2kvz", Deployment, "api", false),
            ("a DaemonSet's, asked as a Deployment", "api-x2kvz", Deployment, "api", false),
            ("a StatefulSet's", "db-12", StatefulSet, "db", true),
            ("a StatefulSet's, of another", "db-x-1", StatefulSet, "db", false),
            ("a DaemonSet's", "log-x2kvz", Set, "log", true),
            ("whichever it is", "api-7c9d8b6f5-x2kvz", Unspecified, "api", true),
            ("a word is no suffix", "api-store", Unspecified, "api", false),
            ("a name alone", "api", Deployment, "api", true),
        ] {
            assert_eq!(is_meant(pod, kind, name), expected, "case: {case}");
        }
    }
}
