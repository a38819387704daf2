//! The two containers and two volumes that a pod gets. Where they go in the pod is in patch.rs.

use heddle_model::access_log::AccessLog;
use heddle_runtime::duration;
use serde_json::{Value, json};

use crate::annotations::ports::PortRange;
use crate::proxy::Proxy;
use crate::settings::{MeshSettings, RedirectUser, Share};
use crate::telemetry::{headers, variables};

/// The proxy's container.
pub const PROXY_CONTAINER: &str = "heddle-proxy";
/// The init container that programs the redirect.
pub const REDIRECT_CONTAINER: &str = "heddle-redirect";
/// The volume with the token that proves the pod's identity.
pub const TOKEN_VOLUME: &str = "heddle-token";
/// The volume with the trust anchors to begin with.
pub const TRUST_VOLUME: &str = "heddle-trust";
/// The user of the proxy, whose traffic is exempt from the redirect.
pub const PROXY_UID: i64 = 15100;
/// Outbound, inbound, admin, and the one on which nothing listens: see ARCHITECTURE.md, "Ports and ids".
pub const PROXY_PORTS: [i32; 4] = [15101, 15106, 15190, 15199];

/// Programs the redirect, and ends. It needs one capability, in the pod's own network namespace, and none
/// of it at the beginning: the binary has the file capability `cap_net_admin+p`, which a container that
/// may not raise its privileges keeps within what it was started with. Where an image has lost it, only
/// root gets the capability.
pub(crate) fn redirect(proxy: &Proxy, mesh: &MeshSettings) -> Value {
    let settings = &proxy.settings;
    let mut arguments = vec!["redirect".to_owned(), format!("--exempt-uid={PROXY_UID}")];
    let ports = |ports: &[PortRange]| joined(ports.iter().map(ToString::to_string));
    let networks = joined(settings.skip_outbound_networks.iter().map(ToString::to_string));
    for (flag, list) in [
        ("skip-inbound-ports", ports(&settings.skip_inbound_ports)),
        ("skip-outbound-ports", ports(&settings.skip_outbound_ports)),
        ("skip-outbound-networks", networks),
    ] {
        if !list.is_empty() {
            arguments.push(format!("--{flag}={list}"));
        }
    }
    let user = match mesh.redirect_user {
        RedirectUser::Proxy => PROXY_UID,
        RedirectUser::Root => 0,
    };
    let mut container = container(REDIRECT_CONTAINER, proxy, mesh, user);
    set(&mut container, "args", json!(arguments));
    let capabilities = json!({"drop": ["ALL"], "add": ["NET_ADMIN"]});
    if let Some(context) = container.get_mut("securityContext") {
        set(context, "capabilities", capabilities);
    }
    container
}

/// The proxy, a native sidecar: it starts before the pod's own containers and ends after them.
pub(crate) fn proxy(proxy: &Proxy, mesh: &MeshSettings) -> Value {
    let mut container = container(PROXY_CONTAINER, proxy, mesh, PROXY_UID);
    set(&mut container, "args", json!(["run"]));
    set(&mut container, "restartPolicy", json!("Always"));
    set(&mut container, "env", environment(proxy, mesh));
    let port = json!([{"name": "heddle-admin", "containerPort": 15190, "protocol": "TCP"}]);
    set(&mut container, "ports", port);
    let probe = |more: [(&str, u32); 2]| {
        let mut probe = json!({"httpGet": {"path": "/ready", "port": 15190}, "timeoutSeconds": 2});
        for (name, number) in more {
            set(&mut probe, name, json!(number));
        }
        probe
    };
    // Ready is a proxy that has its certificate and configuration: the pod's containers start after.
    let startup = probe([("periodSeconds", 1), ("failureThreshold", STARTUP_ATTEMPTS)]);
    set(&mut container, "startupProbe", startup);
    let readiness = probe([("periodSeconds", 5), ("failureThreshold", 3)]);
    set(&mut container, "readinessProbe", readiness);
    let mounts = json!([
        {"name": TOKEN_VOLUME, "mountPath": "/var/run/heddle/token", "readOnly": true},
        {"name": TRUST_VOLUME, "mountPath": "/var/run/heddle/trust", "readOnly": true},
    ]);
    set(&mut container, "volumeMounts", mounts);
    container
}

/// A token of the pod's own, for the control plane alone; the pod need not have any other.
pub(crate) fn token_volume() -> Value {
    let token = json!({"serviceAccountToken": {
        "path": "token", "audience": "heddle", "expirationSeconds": TOKEN_SECONDS,
    }});
    json!({"name": TOKEN_VOLUME, "projected": {"sources": [token]}})
}

/// The trust anchors to begin with.
pub(crate) fn trust_volume(mesh: &MeshSettings) -> Value {
    json!({"name": TRUST_VOLUME, "configMap": {"name": mesh.trust_anchors_config_map}})
}

/// What both have. Both have the same share, so that the one that ends before the other starts asks for
/// nothing more.
fn container(name: &str, proxy: &Proxy, mesh: &MeshSettings, user: i64) -> Value {
    let mut container = json!({
        "name": name,
        "image": mesh.proxy_image,
        "resources": resources(proxy),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": user != 0,
            "runAsUser": user,
            "runAsGroup": user,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    if let Some(policy) = mesh.image_pull_policy {
        set(&mut container, "imagePullPolicy", json!(policy.to_string()));
    }
    container
}

fn environment(proxy: &Proxy, mesh: &MeshSettings) -> Value {
    let mut environment = vec![
        json!({"name": "HEDDLE_CONTROL_PLANE", "value": mesh.control_plane}),
        json!({"name": "HEDDLE_TRUST_DOMAIN", "value": mesh.trust_domain.to_string()}),
        json!({"name": "HEDDLE_TRUST_ANCHORS", "value": "/var/run/heddle/trust/trust-anchors.pem"}),
        json!({"name": "HEDDLE_TOKEN_FILE", "value": "/var/run/heddle/token/token"}),
        json!({"name": "HEDDLE_POD_UID", "valueFrom": {"fieldRef": {
            "apiVersion": "v1", "fieldPath": "metadata.uid",
        }}}),
        json!({"name": "HEDDLE_DRAIN_GRACE", "value": duration::Text(proxy.drain_grace).to_string()}),
        json!({"name": "HEDDLE_LOG", "value": proxy.log}),
        json!({"name": "HEDDLE_LOG_FORMAT", "value": mesh.log_format.to_string()}),
    ];
    let AccessLog { mode, format } = proxy.access_log;
    if proxy.access_log != AccessLog::default() {
        environment.push(json!({"name": "HEDDLE_ACCESS_LOG", "value": mode.as_str()}));
        environment.push(json!({"name": "HEDDLE_ACCESS_LOG_FORMAT", "value": format.as_str()}));
    }
    if let Some(owner) = &proxy.owner {
        environment.push(json!({"name": "HEDDLE_OWNER", "value": owner}));
    }
    let of_pod = proxy.settings.trace_ratio.as_ref();
    for (name, value) in variables(&mesh.telemetry, of_pod) {
        environment.push(json!({"name": name, "value": value}));
    }
    let of_pod = proxy.settings.headers_secret.as_ref();
    environment.extend(headers(&mesh.telemetry, of_pod).into_iter().flatten());
    if proxy.workers > 1 {
        environment.push(json!({"name": "HEDDLE_WORKERS", "value": proxy.workers.to_string()}));
    }
    // Said besides, for runtimes that do not show a container its own limit.
    if proxy.memory.limit.is_some() {
        environment.push(json!({"name": "HEDDLE_MEMORY_LIMIT", "valueFrom": {"resourceFieldRef": {
            "containerName": PROXY_CONTAINER, "resource": "limits.memory", "divisor": "1",
        }}}));
    }
    Value::Array(environment)
}

fn resources(proxy: &Proxy) -> Value {
    let mut resources = json!({});
    let of = |part: fn(&Share) -> &Option<_>| {
        let mut amounts = json!({});
        for (name, share) in [("cpu", &proxy.cpu), ("memory", &proxy.memory)] {
            if let Some(amount) = part(share) {
                set(&mut amounts, name, json!(crate::quantity::Quantity::to_string(amount)));
            }
        }
        amounts
    };
    set(&mut resources, "requests", of(|share| &share.request));
    set(&mut resources, "limits", of(|share| &share.limit));
    resources
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(",")
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// As many seconds as the proxy may take for its certificate and configuration, before it is started anew.
const STARTUP_ATTEMPTS: u32 = 120;
/// The kubelet renews it after four fifths of this.
const TOKEN_SECONDS: u32 = 3600;

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, Pod, Volume};

    use super::*;
    use crate::annotations::ProxySettings;
    use crate::settings;
    use crate::telemetry::{Protocol, SecretName, TelemetrySettings, TraceRatio};

    fn made(settings: ProxySettings) -> (Value, Value) {
        let mesh = settings::tests::mesh();
        let made = Proxy::new(&Pod::default(), settings, &mesh).unwrap();
        (redirect(&made, &mesh), super::proxy(&made, &mesh))
    }

    #[test]
    fn the_redirect_may_do_one_thing_and_the_proxy_none() {
        let (redirect, proxy) = made(ProxySettings::default());
        let context = &redirect["securityContext"];
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        let context = &proxy["securityContext"];
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(context["runAsUser"], PROXY_UID);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(proxy["restartPolicy"], "Always", "a native sidecar");
        assert_eq!(redirect.get("restartPolicy"), None);
    }

    #[test]
    fn where_an_image_lost_its_file_capability_root_redirects() {
        let mesh = MeshSettings { redirect_user: RedirectUser::Root, ..settings::tests::mesh() };
        let made = Proxy::new(&Pod::default(), ProxySettings::default(), &mesh).unwrap();
        let context = &redirect(&made, &mesh)["securityContext"];
        assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(0), &json!(false)));
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    }

    #[test]
    fn what_the_pod_skips_is_told_to_the_redirect() {
        let ranges =
            |texts: &[&str]| texts.iter().map(|text| PortRange::parse(text).unwrap()).collect();
        let (redirect, _) = made(ProxySettings {
            skip_inbound_ports: ranges(&["8086", "9000-9010"]),
            skip_outbound_networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..ProxySettings::default()
        });
        let expected = [
            "redirect",
            "--exempt-uid=15100",
            "--skip-inbound-ports=8086,9000-9010",
            "--skip-outbound-networks=10.0.0.0/8",
        ];
        assert_eq!(redirect["args"], json!(expected));
    }

    #[test]
    fn kubernetes_reads_every_field() {
        let mesh = settings::tests::mesh();
        let (redirect, proxy) = made(ProxySettings::default());
        for made in [redirect, proxy] {
            let read: Container = serde_json::from_value(made.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), made);
        }
        for made in [token_volume(), trust_volume(&mesh)] {
            let read: Volume = serde_json::from_value(made.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), made);
        }
    }

    #[test]
    fn the_proxy_is_told_of_the_collector_and_the_ratio() {
        let ratio = TraceRatio::parse("0.1");
        let telemetry = TelemetrySettings {
            collector: Some("http://c:4317".to_owned()),
            protocol: Protocol::Grpc,
            ..TelemetrySettings::default()
        };
        let mesh = MeshSettings { telemetry, ..settings::tests::mesh() };
        let settings = ProxySettings { trace_ratio: ratio, ..ProxySettings::default() };
        let made = super::proxy(&Proxy::new(&Pod::default(), settings, &mesh).unwrap(), &mesh);
        let said = made["env"].as_array().unwrap().iter().filter_map(|one| {
            let name = one["name"].as_str()?;
            name.starts_with("OTEL_").then(|| format!("{name}={}", one["value"].as_str().unwrap()))
        });
        let expected = [
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317",
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
            "OTEL_TRACES_SAMPLER=parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG=0.1",
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_headers_for_the_collector_are_named_and_not_written() {
        let telemetry = TelemetrySettings {
            collector: Some("https://c".to_owned()),
            headers_secret: SecretName::parse("collector-key"),
            ..TelemetrySettings::default()
        };
        let mesh = MeshSettings { telemetry, ..settings::tests::mesh() };
        let made = Proxy::new(&Pod::default(), ProxySettings::default(), &mesh).unwrap();
        let made = super::proxy(&made, &mesh);
        let read: Container = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), made);
        let said = made["env"].as_array().unwrap().iter();
        let said: Vec<&Value> =
            said.filter(|one| one["name"].as_str().unwrap().contains("HEADERS")).collect();
        insta::assert_json_snapshot!(said, @r#"
        [
          {
            "name": "OTEL_EXPORTER_OTLP_HEADERS",
            "valueFrom": {
              "secretKeyRef": {
                "key": "headers",
                "name": "collector-key",
                "optional": true
              }
            }
          },
          {
            "name": "HEDDLE_COLLECTOR_HEADERS_SECRET",
            "value": "collector-key"
          }
        ]
        "#);
    }

    #[test]
    fn what_the_namespace_says_of_access_logs_goes_before_the_mesh() {
        use heddle_model::access_log::{AccessLogFormat, AccessLogMode, AccessLogWish};

        let of_mesh = AccessLog { mode: AccessLogMode::Errors, format: AccessLogFormat::Json };
        let mesh = MeshSettings { access_log: of_mesh, ..settings::tests::mesh() };
        let mode = Some(AccessLogMode::All);
        let settings = ProxySettings {
            access_log: AccessLogWish { mode, format: None },
            ..ProxySettings::default()
        };
        let made = Proxy::new(&Pod::default(), settings, &mesh).unwrap();
        let made = super::proxy(&made, &mesh);
        let environment = made["env"].as_array().unwrap();
        for (name, value) in [("HEDDLE_ACCESS_LOG", "all"), ("HEDDLE_ACCESS_LOG_FORMAT", "json")] {
            assert!(environment.contains(&json!({"name": name, "value": value})), "{made}");
        }
    }

    #[test]
    fn the_proxy_is_set_up_by_its_environment() {
        let (_, proxy) = made(ProxySettings::default());
        insta::assert_json_snapshot!(proxy);
    }
}
