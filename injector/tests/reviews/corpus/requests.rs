//! What is done to the review around a pod.

use serde_json::json;

use super::{Expected, Row, remove, set};

/// Rows of the table.
pub(super) fn rows() -> Vec<Row> {
    vec![
        (
            "of another version",
            set("apiVersion", json!("admission.k8s.io/v1beta1")),
            Expected::Unanswered,
        ),
        ("of no version", remove("/apiVersion"), Expected::Unanswered),
        ("of another kind", set("kind", json!("Pod")), Expected::Unanswered),
        ("of a numeric kind", set("kind", json!(7)), Expected::Unanswered),
        ("without a request", remove("/request"), Expected::Unanswered),
        ("with a request that is a list", set("request", json!([])), Expected::Unanswered),
        ("with a request that is null", set("request", json!(null)), Expected::Unanswered),
        ("without a uid", remove("/request/uid"), Expected::Unanswered),
        ("with an empty uid", set("request/uid", json!("")), Expected::Unanswered),
        ("with a numeric uid", set("request/uid", json!(1)), Expected::Unanswered),
        ("with a huge uid", set("request/uid", json!("u".repeat(100_000))), Expected::Unanswered),
        ("with a uid of unicode", set("request/uid", json!("ü\u{202e}\u{0}")), Expected::Injected),
        ("without a kind of object", remove("/request/kind"), Expected::Refused),
        ("with a kind that is text", set("request/kind", json!("Pod")), Expected::Refused),
        ("without a resource", remove("/request/resource"), Expected::Refused),
        ("without a namespace", remove("/request/namespace"), Expected::Refused),
        ("with an empty namespace", set("request/namespace", json!("")), Expected::Refused),
        ("with a numeric namespace", set("request/namespace", json!(3)), Expected::Refused),
        ("without an operation", remove("/request/operation"), Expected::Refused),
        ("with an unknown operation", set("request/operation", json!("INVENT")), Expected::Refused),
        (
            "with a lower-case operation",
            set("request/operation", json!("create")),
            Expected::Refused,
        ),
        ("without a user", remove("/request/userInfo"), Expected::Refused),
        ("with a user that is a list", set("request/userInfo", json!([1])), Expected::Refused),
        ("without an object", remove("/request/object"), Expected::Refused),
        ("with an object that is null", set("request/object", json!(null)), Expected::Refused),
        ("with an object that is text", set("request/object", json!("pod")), Expected::Refused),
        ("with an object that is a list", set("request/object", json!([])), Expected::Refused),
        (
            "with an object of another kind",
            set("request/object/kind", json!("Service")),
            Expected::Refused,
        ),
        (
            "with an object of another version",
            set("request/object/apiVersion", json!("v2")),
            Expected::Refused,
        ),
        ("with a dry run that is text", set("request/dryRun", json!("yes")), Expected::Refused),
        ("as a dry run", set("request/dryRun", json!(true)), Expected::Injected),
        (
            "with more fields than are known",
            set("request/tomorrow", json!({"a": [1]})),
            Expected::Injected,
        ),
        ("of an update", set("request/operation", json!("UPDATE")), Expected::Left),
        ("of a deletion", set("request/operation", json!("DELETE")), Expected::Left),
        ("of a connection", set("request/operation", json!("CONNECT")), Expected::Left),
        (
            "of ephemeral containers",
            set("request/subResource", json!("ephemeralcontainers")),
            Expected::Left,
        ),
        ("of a status", set("request/subResource", json!("status")), Expected::Left),
        (
            "of a Deployment",
            set("request/kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
            Expected::Left,
        ),
        (
            "of a Pod of another group",
            set("request/kind", json!({"group": "x", "version": "v1", "kind": "Pod"})),
            Expected::Left,
        ),
    ]
}
