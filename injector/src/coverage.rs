//! Looks for pods that should have a proxy and have none, for as long as the process runs, and reports them: by
//! events and a metric. What it looks for is in report.rs.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_runtime::logging::Chain;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::events::Events;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::report::{self, Finding};

/// The loop.
pub(crate) struct Coverage {
    pub(crate) pods: Api<Pod>,
    pub(crate) namespaces: Namespaces,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
}

impl Coverage {
    /// Until the drain.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        let (store, writer) = reflector::store();
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        let watched = watcher(self.pods.clone(), config).default_backoff().modify(lighten);
        let mut watched = pin!(reflector(writer, watched));
        let mut reported = BTreeMap::new();
        let mut rounds = tokio::time::interval(ROUND_INTERVAL);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut listed = pin!(store.wait_until_ready());
        let mut is_listed = false;
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                outcome = &mut listed, if !is_listed => is_listed = outcome.is_ok(),
                event = watched.next() => match event {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        debug!(error = %Chain(&error), "watching pods failed; it is tried again");
                    }
                    None => {
                        warn!("pods are not watched any more");
                        return;
                    }
                },
                // Half of a list would say that pods are covered that were not looked at.
                _ = rounds.tick(), if is_listed => {
                    let pods: Vec<Pod> = store.state().iter().map(|pod| (**pod).clone()).collect();
                    let namespaces = self.namespaces.all();
                    let namespaces: Vec<Namespace> =
                        namespaces.iter().map(|namespace| (**namespace).clone()).collect();
                    let findings = report::report(&pods, &namespaces);
                    count(&findings, &mut reported, &self.metrics);
                    self.events.tell(&findings).await;
                }
            }
        }
    }
}

/// Shows how many there are of each kind, and zero for those that were there and are not any more.
fn count(findings: &[Finding], reported: &mut BTreeMap<&'static str, usize>, metrics: &Metrics) {
    for count in reported.values_mut() {
        *count = 0;
    }
    for finding in findings {
        *reported.entry(finding.kind.label()).or_default() += 1;
    }
    for (reason, count) in reported {
        metrics.set_pods(reason, *count);
    }
}

/// Leaves of a pod what report.rs looks at: there may be ten thousands.
fn lighten(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.owner_references = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|name, _| {
            name.starts_with(crate::annotations::PREFIX)
                || name.starts_with("kubernetes.io/config.")
        });
    }
    if let Some(status) = &mut pod.status {
        let phase = status.phase.take();
        *status = k8s_openapi::api::core::v1::PodStatus { phase, ..Default::default() };
    }
    let Some(spec) = &mut pod.spec else { return };
    spec.affinity = None;
    spec.tolerations = None;
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        container.env = None;
        container.env_from = None;
        container.args = None;
        container.command = None;
        container.volume_mounts = None;
        container.resources = None;
        container.startup_probe = None;
        container.readiness_probe = None;
        container.liveness_probe = None;
        container.lifecycle = None;
    }
}

/// Between two looks.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);
/// How many pods come in one answer of the API server.
const PAGE_SIZE: u32 = 500;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_made_lighter_is_found_to_be_the_same() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "annotations": {"heddle.dev/skip-inbound-ports": "x", "long": "text"}},
            "spec": {"containers": [{"name": "app", "env": [{"name": "A"}], "ports": [{"containerPort": 15106}], "securityContext": {"runAsUser": 15100}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        }))
        .unwrap();
        let labels = [("heddle.dev/inject".to_owned(), "enabled".to_owned())].into();
        let before = report::of_pod(&pod, &labels);
        let mut lighter = pod.clone();
        lighten(&mut lighter);
        assert_eq!(report::of_pod(&lighter, &labels), before);
        assert!(!before.is_empty());
        let size = |pod: &Pod| serde_json::to_string(pod).unwrap().len();
        assert!(size(&lighter) < size(&pod));
    }
}
