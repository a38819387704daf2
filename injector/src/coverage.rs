//! Looks for pods that should have a proxy and have none, for as long as the process runs, and reports them: by
//! events and a metric. What it keeps of pods is in outlook.rs, what it looks for in report.rs.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_runtime::logging::Chain;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::api;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::outlook::Outlooks;
use crate::report::Finding;

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
        let mut watched = pin!(watcher(self.pods.clone(), api::watched()).default_backoff());
        let mut outlooks = Outlooks::default();
        let mut reported = BTreeMap::new();
        let mut rounds = tokio::time::interval(ROUND_INTERVAL);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                event = watched.next() => match event {
                    Some(Ok(event)) => outlooks.take(event),
                    Some(Err(error)) => {
                        debug!(error = %Chain(&error), "watching pods failed; it is tried again");
                    }
                    None => {
                        warn!("pods are not watched any more");
                        return;
                    }
                },
                _ = rounds.tick(), if outlooks.is_complete() => {
                    let findings = outlooks.findings(&self.namespaces.all());
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

/// Between two looks.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);
