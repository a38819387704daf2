//! AdmissionReviews, most of them broken: pods of several shapes, and a table of what is done to each. Used
//! on the library here, and on a webhook in a cluster. What is broken has a file each.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a table that cannot be read fails its test"
)]

// By their paths, since this file is part of two crates.
#[path = "corpus/conflicts.rs"]
mod conflicts;
#[path = "corpus/pods.rs"]
mod pods;
#[path = "corpus/requests.rs"]
mod requests;
#[path = "corpus/texts.rs"]
mod texts;

use serde_json::{Value, json};

/// One body for the webhook.
pub(crate) struct Case {
    /// What it is, and what was done to it.
    pub(crate) name: String,
    /// What is sent.
    pub(crate) body: Vec<u8>,
    /// What the answer must be, where that is said.
    pub(crate) expected: Option<Expected>,
}

/// What an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Allowed, with a patch.
    Injected,
    /// Allowed, without one.
    Left,
    /// Not allowed, with a sentence.
    Refused,
    /// No review at all: an HTTP status of 400 and up.
    Unanswered,
}

/// All bodies.
pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (shape, pod) in shapes() {
        let review = review(pod);
        all.push(Case {
            name: format!("{shape}, as it is"),
            body: text(&review),
            expected: Some(Expected::Injected),
        });
        let table = [requests::rows(), pods::rows(), conflicts::rows()];
        for (name, changes, expected) in table.into_iter().flatten() {
            let mut changed = review.clone();
            for change in changes {
                change.apply(&mut changed);
            }
            // What is expected is written down for the plain pod.
            let expected = Some(expected).filter(|_| shape == "plain");
            all.push(Case { name: format!("{shape}, {name}"), body: text(&changed), expected });
        }
        all.extend(texts::broken(shape, &text(&review)));
    }
    all.extend(texts::strange());
    all
}

/// The pods of the table, and a name for each.
pub(crate) fn shapes() -> Vec<(&'static str, Value)> {
    let app = json!({"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]});
    let metadata = json!({"generateName": "app-", "labels": {"app": "a"}});
    let many: Vec<Value> = (0..20).map(|number| json!({"name": format!("app-{number}")})).collect();
    vec![
        ("plain", json!({"metadata": metadata, "spec": {"containers": [app]}})),
        (
            "full",
            json!({
                "metadata": {"name": "full", "annotations": {"a/b": "c~d/e", "heddle.dev/log": "debug"}},
                "spec": {
                    "containers": [app, {"name": "other"}],
                    "initContainers": [{"name": "first"}, {"name": "side", "restartPolicy": "Always"}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000},
                    "automountServiceAccountToken": false,
                    "shareProcessNamespace": true,
                    "terminationGracePeriodSeconds": 0,
                    "fieldOfTomorrow": {"deep": [1, 2, {"x": null}]},
                },
            }),
        ),
        (
            "empty lists",
            json!({"metadata": {"annotations": {}, "labels": {}}, "spec": {"containers": [app], "initContainers": [], "volumes": []}}),
        ),
        (
            "nulls",
            json!({"metadata": {"annotations": null, "labels": null}, "spec": {"containers": [app], "initContainers": null, "volumes": null, "securityContext": null}}),
        ),
        ("many", json!({"metadata": metadata, "spec": {"containers": many}})),
    ]
}

/// A review of a new pod, in a namespace that every cluster has, and that asks for no proxies.
pub(crate) fn review(mut pod: Value) -> Value {
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    // The pod says it itself, so that the namespace need not.
    let labels = &mut pod["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels["heddle.dev/inject"] = json!("enabled");
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
        },
    })
}

/// A row of the table: what is done, how, and what the answer is to the plain pod then.
type Row = (&'static str, Vec<Change>, Expected);

enum Change {
    /// Puts a value at a path, whose parents are made if they are missing.
    Set(&'static str, Value),
    /// Takes away what is at a path.
    Remove(&'static str),
}

impl Change {
    fn apply(self, review: &mut Value) {
        match self {
            Self::Set(path, value) => *place(review, path) = value,
            Self::Remove(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                if let Some(object) = place(review, parent).as_object_mut() {
                    object.remove(name);
                }
            }
        }
    }
}

fn set(path: &'static str, value: Value) -> Vec<Change> {
    vec![Change::Set(path, value)]
}

fn remove(path: &'static str) -> Vec<Change> {
    vec![Change::Remove(path)]
}

fn place<'a>(mut value: &'a mut Value, path: &str) -> &'a mut Value {
    for name in path.split('/').filter(|name| !name.is_empty()) {
        value = match name.parse::<usize>() {
            Ok(index) if value.is_array() => &mut value[index],
            _ => {
                if !value.is_object() {
                    *value = json!({});
                }
                // A slash in a name is written ~1, as in JSON pointers.
                value.as_object_mut().unwrap().entry(name.replace("~1", "/")).or_insert(Value::Null)
            }
        };
    }
    value
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}
