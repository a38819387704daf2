//! What is done to the pod itself.

use serde_json::{Value, json};

use super::{Expected, Row, remove, set};

/// Rows of the table.
pub(super) fn rows() -> Vec<Row> {
    let names = json!([{"name": "twin"}, {"name": "twin"}]);
    vec![
        ("without metadata", remove("/request/object/metadata"), Expected::Left),
        (
            "with metadata that are a list",
            set("request/object/metadata", json!([])),
            Expected::Refused,
        ),
        (
            "with labels that are a list",
            set("request/object/metadata/labels", json!(["a"])),
            Expected::Refused,
        ),
        (
            "with a numeric label",
            set("request/object/metadata/labels/n", json!(1)),
            Expected::Refused,
        ),
        (
            "with annotations that are text",
            set("request/object/metadata/annotations", json!("a")),
            Expected::Refused,
        ),
        (
            "with a boolean annotation",
            set("request/object/metadata/annotations/heddle.dev~1injected", json!(true)),
            Expected::Refused,
        ),
        (
            "with an annotation that is null",
            set("request/object/metadata/annotations/a", json!(null)),
            Expected::Refused,
        ),
        ("with a numeric name", set("request/object/metadata/name", json!(1)), Expected::Refused),
        (
            "with a name of unicode",
            set("request/object/metadata/name", json!("föö\u{feff}💥\u{0}\"\\")),
            Expected::Injected,
        ),
        (
            "with 10,000 annotations",
            set("request/object/metadata/annotations", many_annotations()),
            Expected::Injected,
        ),
        (
            "with a huge annotation",
            set("request/object/metadata/annotations/a", json!("x".repeat(300_000))),
            Expected::Injected,
        ),
        (
            "with a huge bad annotation",
            set(
                "request/object/metadata/annotations/heddle.dev~1log-level",
                json!("é".repeat(100_000)),
            ),
            Expected::Refused,
        ),
        (
            "with many bad annotations",
            set("request/object/metadata/annotations", many_bad()),
            Expected::Refused,
        ),
        ("without a spec", remove("/request/object/spec"), Expected::Refused),
        ("with a spec that is null", set("request/object/spec", json!(null)), Expected::Refused),
        ("with a spec that is a list", set("request/object/spec", json!([])), Expected::Refused),
        ("with an empty spec", set("request/object/spec", json!({})), Expected::Refused),
        ("without containers", set("request/object/spec/containers", json!([])), Expected::Refused),
        (
            "with containers that are null",
            set("request/object/spec/containers", json!(null)),
            Expected::Refused,
        ),
        (
            "with containers that are a map",
            set("request/object/spec/containers", json!({"app": {}})),
            Expected::Refused,
        ),
        (
            "with a container that is text",
            set("request/object/spec/containers", json!(["app"])),
            Expected::Refused,
        ),
        (
            "with a container without a name",
            set("request/object/spec/containers", json!([{"image": "a"}])),
            Expected::Injected,
        ),
        ("with twins", set("request/object/spec/containers", names.clone()), Expected::Injected),
        (
            "with twins that run first",
            set("request/object/spec/initContainers", names),
            Expected::Injected,
        ),
        (
            "with containers that run first in a map",
            set("request/object/spec/initContainers", json!({})),
            Expected::Refused,
        ),
        (
            "with a port that is text",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": "http"}])),
            Expected::Refused,
        ),
        (
            "with a port beyond all",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 4_000_000_000_i64}]),
            ),
            Expected::Refused,
        ),
        (
            "with a negative port",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": -1}])),
            Expected::Injected,
        ),
        (
            "with a port of UDP",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 53, "protocol": "UDP"}]),
            ),
            Expected::Injected,
        ),
        (
            "with a host port",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 80, "hostPort": 80}]),
            ),
            Expected::Injected,
        ),
        (
            "with volumes that are text",
            set("request/object/spec/volumes", json!("all")),
            Expected::Refused,
        ),
        (
            "with a volume that is null",
            set("request/object/spec/volumes", json!([null])),
            Expected::Refused,
        ),
        (
            "with a grace period that is text",
            set("request/object/spec/terminationGracePeriodSeconds", json!("30")),
            Expected::Refused,
        ),
        (
            "with a negative grace period",
            set("request/object/spec/terminationGracePeriodSeconds", json!(-5)),
            Expected::Injected,
        ),
        (
            "with a grace period beyond all",
            set("request/object/spec/terminationGracePeriodSeconds", json!(i64::MAX)),
            Expected::Injected,
        ),
        (
            "on its node's network",
            set("request/object/spec/hostNetwork", json!(true)),
            Expected::Left,
        ),
        (
            "on a network that is text",
            set("request/object/spec/hostNetwork", json!("true")),
            Expected::Refused,
        ),
        ("on Windows", set("request/object/spec/os", json!({"name": "windows"})), Expected::Left),
        (
            "in a namespace of users",
            set("request/object/spec/hostUsers", json!(false)),
            Expected::Injected,
        ),
        (
            "static",
            set("request/object/metadata/annotations/kubernetes.io~1config.mirror", json!("x")),
            Expected::Left,
        ),
        (
            "with another mesh's proxy",
            set("request/object/spec/initContainers", json!([{"name": "linkerd-proxy"}])),
            Expected::Left,
        ),
        (
            "disabled by annotation",
            set("request/object/metadata/annotations/heddle.dev~1inject", json!("disabled")),
            Expected::Left,
        ),
        (
            "with an odd wish",
            set("request/object/metadata/labels/heddle.dev~1inject", json!("Enabled")),
            Expected::Refused,
        ),
        ("not asked for", remove("/request/object/metadata/labels"), Expected::Left),
        ("nested deeply", set("request/object/spec/x", nested(100)), Expected::Injected),
    ]
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn many_annotations() -> Value {
    let pairs = (0..10_000).map(|number| (format!("example.com/{number}"), json!("value")));
    Value::Object(pairs.collect())
}

fn many_bad() -> Value {
    let pairs = (0..10_000).map(|number| (format!("heddle.dev/{number}"), json!("value")));
    Value::Object(pairs.collect())
}
