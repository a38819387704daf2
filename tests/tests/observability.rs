//! What `install/observability` holds is what Prometheus, its operator, Grafana and collectors take, and asks only for
//! metrics that docs/metrics.md tells of. That these are also there is tested in e2e/observability.rs.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails its test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use heddle_tests::collector;
use heddle_tests::observability::catalog::{Catalog, TARGET_LABELS};
use heddle_tests::observability::{dashboards, files, queries};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::scrape;
use serde_json::{Value, json};

const INSTALL: &str = "install/observability";
const TESTS_OF_RULES: &str = "tests/observability";

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str], paths: &[String]) {
    let output = Command::new(requirements::find("promtool").unwrap())
        .args(arguments)
        .args(paths.iter().map(|name| files::path(name)))
        .output()
        .unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?} {paths:?}: {said}{errors}");
}

#[test]
fn prometheus_takes_the_rules_and_the_configuration() {
    if requirements::skip_without(&[Tool::Prometheus]).unwrap() {
        return;
    }
    promtool(&["check", "rules"], &files::below(files::RULES, ".yaml").unwrap());
    // Debian's Prometheus knows no Kubernetes: its part of the configuration is read in the next test.
    let directory = tempfile::tempdir().unwrap();
    let configuration = scrape::from_files(Path::new("targets")).unwrap();
    let file = directory.path().join("prometheus.yaml");
    std::fs::write(&file, configuration.to_string()).unwrap();
    promtool(&["check", "config"], &[file.to_string_lossy().into_owned()]);
}

#[test]
fn a_collector_takes_the_configuration_for_what_is_sent_to_it() {
    if requirements::skip_without(&[Tool::Collector]).unwrap() {
        return;
    }
    let configuration = files::path(&format!("{INSTALL}/opentelemetry/otlp.yaml"));
    let output = Command::new(requirements::find(collector::PROGRAM).unwrap())
        .args(["validate", "--config"])
        .arg(configuration)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_job_scrapes_pods_and_gives_the_labels_that_rules_go_by() {
    let configuration = files::only(files::PROMETHEUS).unwrap();
    assert_eq!(configuration["rule_files"], json!(["rules/*.yaml"]));
    let mut names = Vec::new();
    for job in files::list(&configuration, "/scrape_configs").unwrap() {
        let keys: Vec<&String> = job.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["job_name", "kubernetes_sd_configs", "relabel_configs"]);
        assert_eq!(job["kubernetes_sd_configs"], json!([{"role": "pod"}]));
        let labels: BTreeSet<&str> = job["relabel_configs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|rule| rule["target_label"].as_str())
            .collect();
        // Prometheus itself gives the other two.
        let given = labels.into_iter().chain(["instance", "job"]).collect::<BTreeSet<_>>();
        assert_eq!(given, BTreeSet::from(TARGET_LABELS));
        names.push(job["job_name"].as_str().unwrap());
    }
    assert_eq!(names, ["heddle-proxy", "heddle-control-plane", "heddle-injector"]);
}

#[test]
fn rules_record_and_alert_as_their_tests_say() {
    if requirements::skip_without(&[Tool::Prometheus]).unwrap() {
        return;
    }
    promtool(&["test", "rules"], &files::below(TESTS_OF_RULES, ".yaml").unwrap());
}

#[test]
fn every_rule_has_a_test_and_every_alert_is_also_seen_quiet() {
    let mut tests = String::new();
    let mut raised = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for name in files::below(TESTS_OF_RULES, ".yaml").unwrap() {
        tests.push_str(&files::text(&name).unwrap());
        let file = files::only(&name).unwrap();
        for test in files::list(&file, "/tests").unwrap() {
            for alert in test["alert_rule_test"].as_array().into_iter().flatten() {
                let is_raised = alert["exp_alerts"].as_array().is_some_and(|all| !all.is_empty());
                let which = if is_raised { &mut raised } else { &mut quiet };
                which.insert(files::string(alert, "/alertname").unwrap().to_owned());
            }
        }
    }
    for rule in queries::rules().unwrap() {
        if let Some(record) = rule["record"].as_str() {
            assert!(tests.contains(record), "no test asks for {record}");
        } else {
            let alert = files::string(&rule, "/alert").unwrap();
            assert!(raised.contains(alert), "no test raises {alert}");
            assert!(quiet.contains(alert), "no test sees {alert} quiet");
        }
    }
}

#[test]
fn every_alert_says_what_how_bad_and_what_to_do() {
    let document = files::text("docs/observability.md").unwrap();
    let mut alerts = 0;
    for rule in queries::rules().unwrap() {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let severity = files::string(&rule, "/labels/severity").unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}: {severity}");
        for text in ["/annotations/summary", "/annotations/description"] {
            assert!(!files::string(&rule, text).unwrap().is_empty(), "{alert}: {text}");
        }
        let link = files::string(&rule, "/annotations/runbook_url").unwrap();
        let wanted = format!("/docs/observability.md#{}", alert.to_lowercase());
        assert!(link.ends_with(&wanted), "{alert}: {link}");
        let heading = format!("\n### {alert}\n");
        assert!(document.contains(&heading), "docs/observability.md has no paragraph on {alert}");
        alerts += 1;
    }
    let headings = document.matches("\n### Heddle").count();
    assert!(alerts > 20 && alerts == headings, "{alerts} alerts, {headings} paragraphs");
}

#[test]
fn every_expression_names_metrics_and_labels_that_are_documented() {
    let document = files::text("docs/metrics.md").unwrap();
    let catalog = Catalog::of_document(&document).unwrap().scraped();
    let all = queries::all().unwrap();
    assert!(all.len() > 150, "found only {} expressions", all.len());
    let wrong = queries::wrong(&all, &catalog);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn grafana_takes_the_dashboards() {
    let names = files::below(files::DASHBOARDS, ".json").unwrap();
    assert_eq!(names.len(), 5);
    for name in names {
        dashboards::check(&name).unwrap();
    }
}

#[test]
fn the_operator_gets_the_same_rules() {
    let mut text = "# The rules of ../prometheus/rules for the Prometheus operator.\napiVersion: monitoring.coreos.com/v1\nkind: \
                    PrometheusRule\nmetadata:\n  labels:\n    app.kubernetes.io/name: heddle\n  name: heddle\n  namespace: \
                    heddle-system\nspec:\n  groups:\n"
        .to_owned();
    for name in files::below(files::RULES, ".yaml").unwrap() {
        let file = files::text(&name).unwrap();
        let (_, groups) = file.split_once("\ngroups:\n").unwrap();
        for line in groups.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            text.push_str(&format!("{indent}{line}\n"));
        }
    }
    let name = format!("{INSTALL}/prometheus-operator/rules.yaml");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        std::fs::write(files::path(&name), &text).unwrap();
    }
    let is = files::text(&name).unwrap_or_default();
    assert!(is == text, "{name} is old: run this test with INSTA_UPDATE=always");
    let rules: usize = files::list(&files::only(&name).unwrap(), "/spec/groups")
        .unwrap()
        .iter()
        .map(|group| group["rules"].as_array().unwrap().len())
        .sum();
    assert_eq!(rules, queries::rules().unwrap().len());
}

#[test]
fn kustomize_finds_every_file_and_no_dashboard_is_forgotten() {
    let kustomization = files::only(&format!("{INSTALL}/kustomization.yaml")).unwrap();
    for resource in files::list(&kustomization, "/resources").unwrap() {
        assert!(files::path(INSTALL).join(resource.as_str().unwrap()).is_file(), "{resource}");
    }
    let mut named: Vec<String> = files::list(&kustomization, "/configMapGenerator")
        .unwrap()
        .iter()
        .map(|map| format!("{INSTALL}/{}", files::string(map, "/files/0").unwrap()))
        .collect();
    named.sort();
    assert_eq!(named, files::below(files::DASHBOARDS, ".json").unwrap());
}

/// A PodMonitor calls them otherwise, and its operator adds namespace and pod, and leaves out pods that have ended.
#[test]
fn pod_monitors_give_the_same_labels_as_the_plain_configuration() {
    let configuration = files::only(files::PROMETHEUS).unwrap();
    let monitors =
        files::yaml(&format!("{INSTALL}/prometheus-operator/pod-monitors.yaml")).unwrap();
    assert_eq!(monitors.len(), 3);
    for monitor in monitors {
        let name = files::string(&monitor, "/metadata/name").unwrap();
        let jobs = files::list(&configuration, "/scrape_configs").unwrap();
        let job = jobs.iter().find(|job| job["job_name"] == name).unwrap();
        let plain: Vec<String> = job["relabel_configs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| ["node", "workload"].iter().any(|label| rule["target_label"] == *label))
            .map(ToString::to_string)
            .collect();
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        let mut relabelings = endpoint["relabelings"].as_array().unwrap().iter();
        assert_eq!(relabelings.next(), Some(&json!({"targetLabel": "job", "replacement": name})));
        let ours: Vec<String> = relabelings
            .map(|rule| {
                rule.to_string()
                    .replace("sourceLabels", "source_labels")
                    .replace("targetLabel", "target_label")
            })
            .map(|rule| serde_json::from_str::<Value>(&rule).unwrap().to_string())
            .collect();
        assert_eq!(ours, plain, "{name}");
        let keeps = job["relabel_configs"][0]["regex"].as_str().unwrap();
        assert!(keeps.ends_with(endpoint["port"].as_str().unwrap()), "{name}: {keeps}");
    }
}

#[test]
fn every_part_of_a_collectors_pipelines_is_set_up() {
    for name in files::below(&format!("{INSTALL}/opentelemetry"), ".yaml").unwrap() {
        let file = files::only(&name).unwrap();
        let mut used = BTreeSet::new();
        for pipeline in file["service"]["pipelines"].as_object().unwrap().values() {
            for part in ["receivers", "processors", "exporters"] {
                for one in files::list(pipeline, &format!("/{part}")).unwrap() {
                    used.insert((part, one.as_str().unwrap()));
                }
            }
        }
        for one in files::list(&file, "/service/extensions").unwrap() {
            used.insert(("extensions", one.as_str().unwrap()));
        }
        let mut there = BTreeSet::new();
        for part in ["receivers", "processors", "exporters", "extensions"] {
            for one in file[part].as_object().unwrap().keys() {
                there.insert((part, one.as_str()));
            }
        }
        assert_eq!(used, there, "{name}");
    }
}

#[test]
fn a_collector_scrapes_as_prometheus_does() {
    let collector = files::only(&format!("{INSTALL}/opentelemetry/scrape.yaml")).unwrap();
    let scrapes = &collector["receivers"]["prometheus"]["config"]["scrape_configs"];
    // A collector reads `$` as the beginning of a variable, and `$$` as `$`.
    assert!(!scrapes.to_string().replace("$$", "").contains('$'), "{scrapes}");
    let scrapes: Value = serde_json::from_str(&scrapes.to_string().replace("$$", "$")).unwrap();
    assert_eq!(scrapes, files::only(files::PROMETHEUS).unwrap()["scrape_configs"]);
}
