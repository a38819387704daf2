//! Probes and hooks of a pod's containers → what its node asks in plain text. What cannot be read asks nothing: the
//! kubelet would not ask it either.

use heddle_model::names::Port;
use heddle_model::workload::{Probe, ProbeGet, ProbeKind};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::translate::header_name::is_token;

/// What the node of a pod asks, each thing once.
pub fn translate(spec: &api::PodSpec) -> Vec<Probe> {
    let mut found: Vec<Probe> = Vec::new();
    for container in probed(spec) {
        let probes = [
            container.startup_probe.as_ref(),
            container.readiness_probe.as_ref(),
            container.liveness_probe.as_ref(),
        ];
        let hooks = container.lifecycle.as_ref();
        let hooks = hooks.into_iter().flat_map(|hooks| [&hooks.post_start, &hooks.pre_stop]);
        let hooks = hooks.flatten().filter_map(|hook| hook.http_get.as_ref());
        let asked = probes.into_iter().flatten().filter_map(|probe| of_probe(probe, container));
        for probe in asked.chain(hooks.filter_map(|get| of_get(get, container))) {
            if !found.contains(&probe) && found.len() < PROBES_LIMIT {
                found.push(probe);
            }
        }
    }
    found
}

/// Those that go on running: of the containers that run first, the native sidecars.
fn probed(spec: &api::PodSpec) -> impl Iterator<Item = &api::Container> {
    let init = spec.init_containers.iter().flatten();
    let stays = |container: &&api::Container| container.restart_policy.as_deref() == Some("Always");
    spec.containers.iter().chain(init.filter(stays))
}

fn of_probe(probe: &api::Probe, container: &api::Container) -> Option<Probe> {
    if let Some(get) = &probe.http_get {
        return of_get(get, container);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let elsewhere = tcp.host.as_deref().is_some_and(|host| !host.is_empty());
        let port = port(&tcp.port, container).filter(|_| !elsewhere)?;
        return Some(Probe { port, kind: ProbeKind::Tcp });
    }
    let grpc = probe.grpc.as_ref()?;
    Some(Probe { port: number(grpc.port)?, kind: ProbeKind::Grpc })
}

fn of_get(get: &api::HTTPGetAction, container: &api::Container) -> Option<Probe> {
    // Another host than the pod is asked past the pod.
    if get.host.as_deref().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let port = port(&get.port, container)?;
    let asked = ProbeGet {
        path: path(get.path.as_deref().unwrap_or_default()),
        headers: headers(get.http_headers.as_deref().unwrap_or_default()),
    };
    let kind = match get.scheme.as_deref().unwrap_or("HTTP") {
        "HTTPS" => ProbeKind::Https(asked),
        _ => ProbeKind::Http(asked),
    };
    Some(Probe { port, kind })
}

/// The names alone, each once: what the headers hold may be a secret.
fn headers(told: &[api::HTTPHeader]) -> Vec<String> {
    let named = told.iter().filter(|header| is_token(&header.name));
    let mut names: Vec<String> = named.map(|header| header.name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(HEADERS_LIMIT);
    names
}

/// As the kubelet sends it: from a slash on, without a fragment.
fn path(text: &str) -> String {
    let sent = text.split('#').next().unwrap_or_default();
    if sent.starts_with('/') { sent.to_owned() } else { format!("/{sent}") }
}

/// A name is one of the container's own ports.
fn port(port: &IntOrString, container: &api::Container) -> Option<Port> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            number(named?.container_port)
        }
    }
}

fn number(number: i32) -> Option<Port> {
    u16::try_from(number).ok().and_then(Port::new)
}

/// Three of each container, of more containers than any pod has.
const PROBES_LIMIT: usize = 128;
/// Of one probe: more than any has.
const HEADERS_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(container: serde_json::Value) -> Vec<String> {
        let mut container = container;
        container["name"] = json!("app");
        let spec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        let with = |get: &ProbeGet| match get.headers.as_slice() {
            [] => String::new(),
            headers => format!(" with {}", headers.join(", ")),
        };
        let told = |probe: &Probe| match &probe.kind {
            ProbeKind::Http(get) => format!("{} {}{}", probe.port, get.path, with(get)),
            ProbeKind::Https(get) => format!("{} TLS {}{}", probe.port, get.path, with(get)),
            other @ (ProbeKind::Tcp | ProbeKind::Grpc) => format!("{} {other:?}", probe.port),
        };
        translate(&spec).iter().map(told).collect()
    }

    #[test]
    fn every_way_of_asking_is_read() {
        let get = |get: serde_json::Value| json!({"readinessProbe": {"httpGet": get}});
        for (case, container, expected) in [
            (
                "a path",
                get(json!({"port": 8080, "path": "/healthz?full=1#top"})),
                &["8080 /healthz?full=1"][..],
            ),
            ("no path", get(json!({"port": 8080})), &["8080 /"]),
            (
                "a path without its slash",
                get(json!({"port": 8080, "path": "ready"})),
                &["8080 /ready"],
            ),
            (
                "TLS of its own",
                get(json!({"port": 8443, "scheme": "HTTPS", "path": "/x"})),
                &["8443 TLS /x"],
            ),
            (
                "headers, of which some cannot be sent",
                get(json!({"port": 80, "httpHeaders": [
                    {"name": "X-Probe", "value": "secret"}, {"name": "Host", "value": "a"},
                    {"name": "x-probe"}, {"name": "a b", "value": "c"},
                ]})),
                &["80 / with host, x-probe"],
            ),
            ("another host", get(json!({"port": 80, "host": "example.org"})), &[]),
            ("no port", get(json!({"port": 0})), &[]),
            ("an unknown name", get(json!({"port": "web"})), &[]),
            (
                "a name",
                json!({"ports": [{"name": "web", "containerPort": 8080}], "livenessProbe": {"httpGet": {"port": "web", "path": "/"}}}),
                &["8080 /"],
            ),
            ("bytes", json!({"startupProbe": {"tcpSocket": {"port": 5432}}}), &["5432 Tcp"]),
            (
                "gRPC",
                json!({"livenessProbe": {"grpc": {"port": 9000, "service": "a"}}}),
                &["9000 Grpc"],
            ),
            ("a command", json!({"livenessProbe": {"exec": {"command": ["true"]}}}), &[]),
            (
                "the same twice",
                json!({"livenessProbe": {"tcpSocket": {"port": 80}}, "readinessProbe": {"tcpSocket": {"port": 80}}}),
                &["80 Tcp"],
            ),
            (
                "a hook",
                json!({"lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/drain"}}}}),
                &["80 /drain"],
            ),
        ] {
            assert_eq!(check(container), expected, "case: {case}");
        }
    }

    #[test]
    fn of_the_containers_that_run_first_only_sidecars_are_asked() {
        let probe = json!({"tcpSocket": {"port": 1}});
        let init = json!([{"name": "a", "readinessProbe": probe}, {"name": "b", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 2}}}]);
        let spec =
            serde_json::from_value(json!({"containers": [], "initContainers": init})).unwrap();
        let ports: Vec<u16> = translate(&spec).iter().map(|probe| probe.port.number()).collect();
        assert_eq!(ports, [2]);
    }
}
