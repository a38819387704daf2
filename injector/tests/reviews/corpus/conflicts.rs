//! What cannot be beside our own names, ports and user.

use serde_json::json;

use super::{Expected, Row, set};

/// Rows of the table.
pub(super) fn rows() -> Vec<Row> {
    let first = "request/object/spec/initContainers";
    let redirect = json!({"name": "heddle-redirect"});
    let proxy = json!({"name": "heddle-proxy", "restartPolicy": "Always"});
    let annotations = "request/object/metadata/annotations";
    vec![
        ("with our redirect alone", set(first, json!([redirect])), Expected::Injected),
        ("with our proxy alone", set(first, json!([proxy])), Expected::Injected),
        (
            "with both, the other way round",
            set(first, json!([proxy, redirect])),
            Expected::Injected,
        ),
        ("with two of our proxies", set(first, json!([proxy, proxy])), Expected::Refused),
        (
            "with two of our redirects",
            set(first, json!([redirect, redirect, proxy])),
            Expected::Refused,
        ),
        (
            "with a proxy that ends",
            set(first, json!([{"name": "heddle-proxy"}])),
            Expected::Refused,
        ),
        (
            "with a redirect that stays",
            set(first, json!([{"name": "heddle-redirect", "restartPolicy": "Always"}])),
            Expected::Refused,
        ),
        (
            "with an app of our proxy's name",
            set("request/object/spec/containers/0/name", json!("heddle-proxy")),
            Expected::Refused,
        ),
        (
            "with an app of our redirect's name",
            set("request/object/spec/containers/0/name", json!("heddle-redirect")),
            Expected::Refused,
        ),
        (
            "with a volume of our token's name",
            set("request/object/spec/volumes", json!([{"name": "heddle-token", "emptyDir": {}}])),
            Expected::Refused,
        ),
        (
            "with our volumes",
            set(
                "request/object/spec/volumes",
                json!([{"name": "heddle-trust", "configMap": {"name": "a"}}, {"name": "heddle-token", "projected": {}}]),
            ),
            Expected::Injected,
        ),
        (
            "with our volume twice",
            set(
                "request/object/spec/volumes",
                json!([{"name": "heddle-trust", "configMap": {"name": "a"}}, {"name": "heddle-trust", "configMap": {"name": "a"}}]),
            ),
            Expected::Refused,
        ),
        (
            "as the proxy's user",
            set("request/object/spec/securityContext", json!({"runAsUser": 15100})),
            Expected::Refused,
        ),
        (
            "on the proxy's port",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": 15190}])),
            Expected::Refused,
        ),
        (
            "with a claim",
            set(annotations, json!({"heddle.dev/injected": "true"})),
            Expected::Injected,
        ),
        (
            "with a claim, disabled",
            set(
                annotations,
                json!({"heddle.dev/injected": "true", "heddle.dev/inject": "disabled"}),
            ),
            Expected::Refused,
        ),
        (
            "with a bad claim",
            set(annotations, json!({"heddle.dev/injected": "maybe"})),
            Expected::Refused,
        ),
        (
            "with a slip of the pen",
            set(annotations, json!({"heddle.dev/skip-port": "80"})),
            Expected::Refused,
        ),
        (
            "with a bad port",
            set(annotations, json!({"heddle.dev/skip-inbound-ports": "80,,81"})),
            Expected::Refused,
        ),
        (
            "with a drain that is too long",
            set(annotations, json!({"heddle.dev/drain-grace": "1h"})),
            Expected::Refused,
        ),
        (
            "with more than its limit",
            set(annotations, json!({"heddle.dev/proxy-memory-request": "1Ti"})),
            Expected::Refused,
        ),
    ]
}
