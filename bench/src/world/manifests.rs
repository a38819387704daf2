//! The pods and services of the world, as JSON, which is YAML too.

use std::path::Path;

use serde_json::{Value, json};

use crate::system::{Service, Side, System};

/// All of them in one file.
pub fn text(systems: &[System], own: &Path) -> String {
    let objects = systems.iter().flat_map(|system| {
        [pod(*system, Side::Server, own), pod(*system, Side::Client, own), service(*system)]
    });
    objects.map(|object| object.to_string()).collect::<Vec<_>>().join("\n---\n")
}

fn pod(system: System, side: Side, own: &Path) -> Value {
    let name = system.pod(side);
    let own = own.to_string_lossy();
    let (command, ports) = match side {
        Side::Client => (json!(["sleep", "infinity"]), Vec::new()),
        Side::Server => (json!(["sh", "-c", SERVE_SCRIPT, own]), ports()),
    };
    let inject = if system == System::Heddle { "enabled" } else { "disabled" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": { "app": name },
            "annotations": { "heddle.dev/inject": inject },
        },
        "spec": {
            "serviceAccountName": name,
            "containers": [
                { "name": "application", "image": "none", "command": command, "ports": ports },
            ],
        },
    })
}

fn ports() -> Vec<Value> {
    Service::ALL.iter().map(|service| json!({ "containerPort": service.port() })).collect()
}

/// With the protocol of each port, since the other systems are told too.
fn service(system: System) -> Value {
    let name = system.pod(Side::Server);
    let ports: Vec<Value> = Service::ALL
        .iter()
        .map(|service| {
            let port = service.port();
            let protocol = service.app_protocol();
            json!({ "name": format!("p{port}"), "port": port, "appProtocol": protocol })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": ports },
    })
}

const SERVE_SCRIPT: &str =
    r#"ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$0" serve"#;
