//! The chart as it is in this program: rendered, and as the files are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::kubernetes::arguments::DEFAULT_MESH_NAMESPACE;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../install/chart/heddle")
}

fn rendered(wanted: &values::Wanted) -> Vec<Manifest> {
    let overrides = values::overrides(wanted).unwrap();
    let release = Release { namespace: DEFAULT_MESH_NAMESPACE, service: "meshctl" };
    render(&values::complete(&overrides).unwrap(), release).unwrap()
}

#[test]
fn every_template_of_the_chart_is_in_the_program() {
    let on_disk: BTreeSet<String> = std::fs::read_dir(folder().join("templates"))
        .unwrap()
        .map(|entry| format!("templates/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    let sources = files::TEMPLATES.iter().chain(&files::HELPERS).chain([files::NOTES]);
    let embedded: BTreeSet<String> = sources.map(|source| source.name.to_owned()).collect();
    assert_eq!(embedded, on_disk, "install/chart/heddle/templates and files.rs");
}

#[test]
fn only_helpers_define() {
    for source in files::TEMPLATES {
        let defines = ["{{ define", "{{- define"].iter().any(|action| source.text.contains(action));
        assert!(!defines, "{}: definitions go to _helpers.tpl", source.name);
    }
}

#[test]
fn nothing_differs_from_one_rendering_to_the_next() {
    for source in files::TEMPLATES.iter().chain(&files::HELPERS) {
        for word in ["lookup", "rand", "genCA", "genSelfSigned", "uuidv4", "now", "Capabilities"] {
            let called = source.text.contains(&format!("{word} ")) && source.text.contains("{{");
            let within_action = source.text.split("{{").skip(1).any(|action| {
                action
                    .split("}}")
                    .next()
                    .is_some_and(|action| action.split_whitespace().any(|part| part == word))
            });
            assert!(!(called && within_action), "{} calls {word}", source.name);
        }
    }
}

#[test]
fn versions_agree() {
    let about = about().unwrap();
    assert_eq!(about.app_version, env!("CARGO_PKG_VERSION"), "appVersion is this program's");
    assert_eq!(about.version, env!("CARGO_PKG_VERSION"));
    let oldest = crate::check::judge::cluster::OLDEST_MINOR;
    assert_eq!(about.kube_version, format!(">=1.{oldest}.0-0"), "what `meshctl check` asks for");
}

/// All but the definitions of resources, which are beside the chart as well.
fn printed(wanted: &values::Wanted) -> String {
    let mut manifests = rendered(wanted);
    manifests.retain(|manifest| manifest.kind != kind::Kind::CustomResourceDefinition);
    manifest::print(&manifests)
}

#[test]
fn the_defaults_are_rendered() {
    insta::assert_snapshot!(printed(&values::Wanted::default()));
}

#[test]
fn the_values_for_several_replicas_are_rendered() {
    insta::assert_snapshot!(printed(&values::Wanted { ha: true, ..Default::default() }));
}

#[test]
fn every_value_has_its_place() {
    let everything = "
image: {registry: registry.example.com:5000/mirror, repository: mesh/heddle, tag: v1, pullPolicy: Always, pullSecrets: [{name: pull}]}
trustDomain: example.org
clusterDomain: example.local
controlPlane:
  replicas: 2
  leafLifetime: 1h
  log: info,heddle_control_plane=debug
  logFormat: text
  collector: {endpoint: 'https://collector:4317', protocol: http/protobuf, resourceAttributes: k8s.cluster.name=east, headersSecret: key, tlsSecret: tls, clientCertificate: true}
  priorityClassName: ''
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: a, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}
  podAnnotations: {example.org/a: '1'}
  podLabels: {example.org/b: '2'}
injector: {failurePolicy: Fail, timeoutSeconds: 7, certificateLifetime: 24h}
proxy: {log: warn, accessLog: errors, accessLogFormat: text, drainGrace: 5s, telemetry: {collector: 'http://otel:4317', protocol: grpc, traceRatio: 0.25, headersSecret: collector-key}, resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}}
networkPolicy: {apiServerPorts: [8443], collectorPorts: [4317], webhookFrom: [10.0.0.0/28, '2001:db8::/64'], metricsFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}
podMonitors: {enabled: true, interval: 30s, labels: {release: prometheus}}
crds: {install: false}
";
    let files = vec![("everything.yaml".to_owned(), everything.to_owned())];
    insta::assert_snapshot!(printed(&values::Wanted { files, ..Default::default() }));
}

#[test]
fn notes_are_told() {
    let values = values::complete(&json!({})).unwrap();
    let release = Release { namespace: "mesh", service: "meshctl" };
    insta::assert_snapshot!(notes(&values, release).unwrap());
}

#[test]
fn the_webhook_may_be_called_from_the_networks_that_are_named_and_else_from_everywhere() {
    let callers = |values: Value| {
        let release = Release { namespace: DEFAULT_MESH_NAMESPACE, service: "meshctl" };
        let manifests = render(&values::complete(&values).unwrap(), release).unwrap();
        let policy = manifests.into_iter().find(|manifest| {
            let metadata = &manifest.object["metadata"];
            manifest.kind == kind::Kind::NetworkPolicy && metadata["name"] == "heddle-injector"
        });
        let rule = policy.unwrap().object["spec"]["ingress"][0].clone();
        assert_eq!(rule["ports"], json!([{"port": 15243, "protocol": "TCP"}]));
        rule.get("from").cloned()
    };
    assert_eq!(callers(json!({})), None);
    let networks = ["10.0.0.0/28", "192.168.255.7/32", "2001:db8::/64", "::1/128", "0.0.0.0/0"];
    let blocks: Vec<Value> =
        networks.iter().map(|network| json!({"ipBlock": {"cidr": network}})).collect();
    let given = json!({"networkPolicy": {"webhookFrom": networks}});
    assert_eq!(callers(given), Some(json!(blocks)));
    for bad in
        ["10.0.0.1", "10.0.0.256/8", "10.0.0/8", "10.0.0.0/33", "api.example.com", "::/129", ""]
    {
        let refused = values::complete(&json!({"networkPolicy": {"webhookFrom": [bad]}}));
        let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("networkPolicy.webhookFrom[0]"), "case: {bad}: {text:?}");
    }
}

#[test]
fn the_injector_reaches_no_secret_but_its_own() {
    let manifests = rendered(&values::Wanted::default());
    let roles = manifests.iter().filter(|manifest| {
        let metadata = &manifest.object["metadata"];
        metadata["name"] == "heddle-injector" && manifest.object["rules"].is_array()
    });
    let rules: Vec<&Value> =
        roles.flat_map(|manifest| manifest.object["rules"].as_array().unwrap()).collect();
    let of_secrets = |rule: &&Value| {
        let resources = rule["resources"].as_array().unwrap();
        resources.iter().any(|resource| resource == "secrets")
    };
    let of_secrets: Vec<&Value> = rules.into_iter().filter(of_secrets).collect();
    assert_eq!(of_secrets.len(), 1, "{of_secrets:?}");
    assert_eq!(of_secrets[0]["resourceNames"], json!(["heddle-injector-tls"]));
}

#[test]
fn no_rule_has_a_wildcard() {
    let manifests = rendered(&values::Wanted::default());
    let mut rules = 0;
    for manifest in &manifests {
        for rule in manifest.object["rules"].as_array().into_iter().flatten() {
            rules += 1;
            assert!(!rule.to_string().contains('*'), "{}: {rule}", manifest.id());
        }
    }
    assert!(rules > 5, "found only {rules} rules");
}

#[test]
fn every_pod_is_fit_for_restricted() {
    for manifest in rendered(&values::Wanted::default()) {
        if manifest.kind != kind::Kind::Deployment {
            continue;
        }
        let pod = &manifest.object["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert!(
                container["readinessProbe"].is_object() && container["livenessProbe"].is_object()
            );
        }
    }
}
