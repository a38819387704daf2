//! The chart beside the real Helm, and the files of `install/` that nothing else reads.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails its test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use heddle_local::manifests::documents;
use meshctl::chart::kind::Kind;
use meshctl::chart::{self, Release, manifest, values};
use meshctl::install::plan;
use meshctl::kubernetes::field;
use serde_json::{Value, json};

const NAMESPACE: &str = "heddle-system";

fn install() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../install")
}

/// `HELM`, or `helm` on the path.
fn helm() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "where Helm is, is the machine's to say")]
    let named = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let answers =
        Command::new(&named).arg("version").output().is_ok_and(|out| out.status.success());
    answers.then_some(named)
}

/// Several sets of values: their name, and what differs from the defaults.
fn sets() -> Vec<(&'static str, Value)> {
    let ha = values::read("values-ha.yaml", chart::files::HA_VALUES).unwrap();
    vec![
        ("defaults", json!({})),
        ("several replicas", ha),
        (
            "everything",
            json!({
                "image": {"registry": "registry.example.com:5000/a", "tag": "v1", "pullPolicy": "Always", "pullSecrets": [{"name": "pull"}]},
                "trustDomain": "example.org",
                "clusterDomain": "example.local",
                "controlPlane": {
                    "replicas": 2, "leafLifetime": "1h30m", "log": "info,heddle_control_plane=debug", "logFormat": "text",
                    "priorityClassName": "", "nodeSelector": {"kubernetes.io/os": "linux", "b": "true"},
                    "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Equal", "value": "1", "tolerationSeconds": 5}],
                    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "x", "labelSelector": {"matchLabels": {"a": "b"}}}}]}},
                    "podAnnotations": {"example.org/a": "1", "example.org/b": "x: y # z"}, "podLabels": {"c": "d"},
                    "podDisruptionBudget": {"enabled": true, "maxUnavailable": "50%"},
                    "collector": {"endpoint": "https://collector.observability:4317", "resourceAttributes": "a=b,c=d", "headersSecret": "key", "tlsSecret": "tls", "clientCertificate": true},
                    "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {}},
                },
                "injector": {"failurePolicy": "Fail", "timeoutSeconds": 7, "certificateLifetime": "24h", "resources": {"limits": {"memory": "1Gi"}}},
                "proxy": {"log": "warn", "drainGrace": "5s", "redirectAsRoot": true, "telemetry": {"collector": "https://otel:4318", "traceRatio": 0.001, "headersSecret": "collector-key"}, "resources": {"requests": {"cpu": "0.5"}, "limits": {"cpu": 2}}},
                "networkPolicy": {"apiServerPorts": [8443], "webhookFrom": ["10.0.0.0/28", "2001:db8::/64"], "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}, "podSelector": {}}]},
                "podMonitors": {"enabled": true, "interval": "15s", "labels": {"release": "prometheus"}},
                "crds": {"install": false},
            }),
        ),
        ("no network policies", json!({"networkPolicy": {"enabled": false}})),
    ]
}

fn by_name(objects: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    let name =
        |object: &Value| format!("{} {}", object["kind"].as_str().unwrap(), field::name(object));
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

#[test]
fn helm_renders_the_same_objects() {
    let Some(helm) = helm() else {
        let mut errors = std::io::stderr().lock();
        writeln!(
            errors,
            "NOT COMPARED WITH HELM: there is no `helm` here. Set HELM to one; CONTRIBUTING.md says how to get it."
        )
        .unwrap();
        return;
    };
    let place = tempfile::tempdir().unwrap();
    for (case, overrides) in sets() {
        let file = place.path().join("values.json");
        std::fs::write(&file, overrides.to_string()).unwrap();
        let output = Command::new(&helm)
            .args(["template", chart::RELEASE_NAME])
            .arg(install().join("chart/heddle"))
            .args(["--namespace", NAMESPACE, "--values"])
            .arg(&file)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "case: {case}: {errors}");
        let read = documents::parse(&output.stdout);
        assert_eq!(read.unreadable, [], "case: {case}");
        let objects = read.documents.iter().flat_map(documents::Document::objects);
        let of_helm = by_name(objects.filter(|object| !object.is_null()).cloned());

        let release = Release { namespace: NAMESPACE, service: "Helm" };
        let ours = chart::render(&values::complete(&overrides).unwrap(), release).unwrap();
        let ours = by_name(ours.into_iter().map(|manifest| manifest.object));
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&of_helm), "case: {case}");
        for (name, object) in &ours {
            assert_eq!(object, &of_helm[name], "case: {case}: {name}");
        }
        assert!(ours.len() > 10, "case: {case}: {} objects", ours.len());
    }
}

#[test]
fn helm_refuses_what_meshctl_refuses() {
    let Some(helm) = helm() else { return };
    for set in [
        "replicas=2",
        "controlPlane.replicas=0",
        "trustDomain=Example.org",
        "injector.failurePolicy=Maybe",
    ] {
        let wanted = values::Wanted { set: vec![set.to_owned()], ..values::Wanted::default() };
        assert!(values::complete(&values::overrides(&wanted).unwrap()).is_err(), "case: {set}");
        let chart = install().join("chart/heddle");
        let output = Command::new(&helm)
            .args(["template", "heddle"])
            .arg(chart)
            .args(["--set", set])
            .output();
        assert!(!output.unwrap().status.success(), "case: {set}");
    }
}

fn yaml(path: &Path) -> Vec<Value> {
    let read = documents::parse(&std::fs::read(path).unwrap());
    assert_eq!(read.unreadable, [], "{}", path.display());
    let objects = read.documents.iter().flat_map(documents::Document::objects);
    objects.filter(|object| !object.is_null()).cloned().collect()
}

/// Compares a file that is made from others with what it is made of; with `INSTA_UPDATE=always`, as for snapshots, writes it.
fn made(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "as insta does")]
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always");
    if update {
        std::fs::write(path, text).unwrap();
    }
    let is = std::fs::read_to_string(path).unwrap_or_default();
    let path = path.display();
    assert!(
        is == text,
        "{path} is old: run this test with INSTA_UPDATE=always, and read the difference"
    );
}

#[test]
fn the_chart_has_the_definitions_as_they_are_made() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(install().join("crds")).unwrap() {
        let path = entry.unwrap().path();
        let definition = std::fs::read_to_string(&path).unwrap();
        assert!(!definition.contains("{{"), "this would be read as an action");
        // Helm leaves it where it is, with the objects of users.
        let keep = "\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n";
        let definition = definition.replacen("\nmetadata:\n", keep, 1);
        assert!(definition.contains(keep), "{}", path.display());
        let text = format!(
            "{{{{- if .Values.crds.install }}}}\n{}\n{{{{- end }}}}\n",
            definition.trim_end()
        );
        let plural =
            path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        made(&install().join(format!("chart/heddle/templates/crd-{plural}.yaml")), &text);
        names.push(plural);
    }
    assert_eq!(names, ["trafficpolicies"]);
}

#[test]
fn the_example_for_kustomize_is_what_meshctl_install_prints() {
    let manifests = plan::manifests(&json!({}), NAMESPACE).unwrap();
    let path = install().join("gitops/kustomize/base/heddle.yaml");
    made(&path, &manifest::print(&manifests));
}

/// Without what says who installed them: `meshctl upgrade` deletes what it installed and does not know any more.
#[test]
fn the_pod_monitors_beside_the_chart_are_those_of_the_chart() {
    let overrides = json!({"podMonitors": {"enabled": true}});
    let release = Release { namespace: NAMESPACE, service: "meshctl" };
    let manifests = chart::render(&values::complete(&overrides).unwrap(), release).unwrap();
    let mut text =
        "# For the Prometheus operator, as the chart has them with podMonitors.enabled.\n"
            .to_owned();
    let mut lines = 0;
    for manifest in manifests.iter().filter(|manifest| manifest.kind == Kind::PodMonitor) {
        text.push_str("---\n");
        for line in manifest.text.lines() {
            let of_installer = ["managed-by: ", "version: "]
                .iter()
                .any(|label| line.trim().starts_with(&format!("app.kubernetes.io/{label}")));
            if !of_installer {
                text.push_str(line);
                text.push('\n');
            }
            lines += usize::from(of_installer);
        }
    }
    assert_eq!(lines, 6, "two of each PodMonitor");
    made(&install().join("observability/prometheus-operator/pod-monitors.yaml"), &text);
}

#[test]
fn the_example_of_a_production_has_the_disruption_budgets_of_several_replicas() {
    let values = values::read("values-ha.yaml", chart::files::HA_VALUES).unwrap();
    let mut manifests = plan::manifests(&values, NAMESPACE).unwrap();
    manifests.retain(|manifest| manifest.kind == Kind::PodDisruptionBudget);
    assert_eq!(manifests.len(), 2);
    let path = install().join("gitops/kustomize/production/pod-disruption-budgets.yaml");
    made(&path, &manifest::print(&manifests));
}

#[test]
fn what_the_examples_for_kustomize_name_is_there() {
    let mut checked = 0;
    for folder in ["base", "production"] {
        let folder = install().join("gitops/kustomize").join(folder);
        let kustomization = yaml(&folder.join("kustomization.yaml")).remove(0);
        assert_eq!(kustomization["kind"], "Kustomization");
        for resource in kustomization["resources"].as_array().unwrap() {
            assert!(folder.join(resource.as_str().unwrap()).exists(), "{resource}");
            checked += 1;
        }
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            let patch = yaml(&folder.join(patch["path"].as_str().unwrap())).remove(0);
            assert_base_has(patch["kind"].as_str().unwrap(), field::name(&patch));
            checked += 1;
        }
        for replicas in kustomization["replicas"].as_array().into_iter().flatten() {
            assert_base_has("Deployment", replicas["name"].as_str().unwrap());
            checked += 1;
        }
        for image in kustomization["images"].as_array().into_iter().flatten() {
            let base = std::fs::read_to_string(install().join("gitops/kustomize/base/heddle.yaml"));
            let name = image["name"].as_str().unwrap();
            assert!(base.unwrap().contains(&format!("image: \"{name}:")), "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 8);
}

fn assert_base_has(kind: &str, name: &str) {
    let base = yaml(&install().join("gitops/kustomize/base/heddle.yaml"));
    let there = base.iter().any(|object| object["kind"] == kind && field::name(object) == name);
    assert!(there, "{kind} {name} is not in the base");
}

#[test]
fn the_patch_for_kustomize_has_settings_that_the_injector_reads() {
    let folder = install().join("gitops/kustomize/production");
    let patch = yaml(&folder.join("injector-settings.yaml")).remove(0);
    let text = patch["data"]["injector.yaml"].as_str().unwrap();
    heddle_injector::settings::MeshSettings::from_yaml(text).unwrap();
}

#[test]
fn the_other_examples_name_the_chart_and_values_that_there_are() {
    let application = yaml(&install().join("gitops/argo-cd/application.yaml")).remove(0);
    let source = &application["spec"]["source"];
    let chart = install().join("..").join(source["path"].as_str().unwrap());
    assert!(chart.join("Chart.yaml").exists());
    for file in source["helm"]["valueFiles"].as_array().unwrap() {
        assert!(chart.join(file.as_str().unwrap()).exists(), "{file}");
    }
    values::complete(&source["helm"]["valuesObject"]).unwrap();

    let objects = yaml(&install().join("gitops/flux/helm-release.yaml"));
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Namespace", "GitRepository", "HelmRelease"]);
    let release = &objects[2]["spec"];
    for file in release["chart"]["spec"]["valuesFiles"].as_array().unwrap() {
        assert!(install().join("..").join(file.as_str().unwrap()).exists(), "{file}");
    }
    values::complete(&release["values"]).unwrap();

    let folder = install().join("gitops/terraform");
    let text = std::fs::read_to_string(folder.join("main.tf")).unwrap();
    for quoted in text.split('"').filter_map(|part| part.strip_prefix("${path.module}/")) {
        assert!(folder.join(quoted).exists(), "{quoted}");
    }
    assert_eq!(text.matches('{').count(), text.matches('}').count());
}

#[test]
fn every_image_that_the_chart_names_has_a_build_file() {
    let manifests = plan::manifests(&json!({}), NAMESPACE).unwrap();
    let text = manifest::print(&manifests);
    for name in ["control-plane", "injector", "proxy"] {
        assert!(text.contains(&format!("heddle/{name}:{}", env!("CARGO_PKG_VERSION"))), "{name}");
        let file = install().join(format!("images/{name}.Dockerfile"));
        let file = std::fs::read_to_string(file).unwrap();
        let toolchain = std::fs::read_to_string(install().join("../rust-toolchain.toml")).unwrap();
        let version = toolchain.split('"').nth(1).unwrap();
        assert!(file.contains(&format!("FROM rust:{version}-")), "{name}: Rust {version}");
        assert!(file.contains("\nFROM scratch\n") && file.contains("\nUSER "), "{name}");
        // Who exports to collectors: see SYSTEM_AUTHORITIES of telemetry/src/collector/dial.rs.
        let authorities = "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt";
        assert_eq!(file.contains(authorities), name != "injector", "{name}");
    }
}
