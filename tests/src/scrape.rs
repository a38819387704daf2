//! A Prometheus for a local mesh: the configuration of `install/observability`, which finds pods by a file instead of by
//! Kubernetes, and the file, with what Kubernetes would say of each pod.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::observability::files;

/// The configuration, with these targets. Rules are named by their whole path.
#[expect(clippy::indexing_slicing, reason = "an object of JSON makes the field that is named")]
pub fn from_files(targets: &Path) -> Result<Value> {
    let mut configuration = files::only(files::PROMETHEUS)?;
    let rules = files::path(files::RULES).canonicalize()?.join("*.yaml");
    configuration["rule_files"] = json!([rules]);
    let jobs = configuration["scrape_configs"].as_array_mut().context("no jobs")?;
    ensure!(jobs.len() == 3, "{} jobs", jobs.len());
    for job in jobs {
        let job = job.as_object_mut().context("a job that is no object")?;
        ensure!(job.remove("kubernetes_sd_configs").is_some(), "it does not ask Kubernetes");
        job.insert(
            "file_sd_configs".to_owned(),
            json!([{"files": [targets.with_extension("json")]}]),
        );
    }
    Ok(configuration)
}

/// A container's port, as Kubernetes would tell Prometheus of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: String,
    /// Of the pod.
    pub pod: String,
    /// Kind and name of what made the pod, if anything did.
    pub controller: Option<(String, String)>,
    /// Of the pod.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The container's name, and the port's.
    pub container: (&'static str, &'static str),
    /// The pod's.
    pub phase: &'static str,
}

impl Target {
    /// What the file says of it.
    #[expect(clippy::indexing_slicing, reason = "an object of JSON makes the field that is named")]
    pub fn describe(&self) -> Value {
        let mut labels = json!({
            "__meta_kubernetes_namespace": "default",
            "__meta_kubernetes_pod_name": self.pod,
            "__meta_kubernetes_pod_node_name": "node-1",
            "__meta_kubernetes_pod_phase": self.phase,
            "__meta_kubernetes_pod_container_name": self.container.0,
            "__meta_kubernetes_pod_container_port_name": self.container.1,
        });
        if let Some((kind, name)) = &self.controller {
            labels["__meta_kubernetes_pod_controller_kind"] = json!(kind);
            labels["__meta_kubernetes_pod_controller_name"] = json!(name);
        }
        for (name, value) in &self.labels {
            let name = name.replace(['.', '/'], "_");
            labels[format!("__meta_kubernetes_pod_label_{name}")] = json!(value);
        }
        json!({"targets": [self.address], "labels": labels})
    }
}
