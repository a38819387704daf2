//! Findings as Events, on the object where its owner looks. Every replica makes the same ones, under the same
//! names: the API server keeps one of each.

use std::collections::HashSet;
use std::time::SystemTime;

use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tracing::{debug, info};

use crate::report::Finding;

/// Tells findings, each once.
pub(crate) struct Events {
    client: Client,
    pod_name: String,
    told: HashSet<String>,
}

impl Events {
    /// Nothing was told yet.
    pub(crate) fn new(client: Client, pod_name: String) -> Self {
        Self { client, pod_name, told: HashSet::new() }
    }

    /// Tells what was not told yet. An event that cannot be made is tried again with the next round.
    pub(crate) async fn tell(&mut self, findings: &[Finding]) {
        // What is gone need not be remembered; what is there and was told is told once.
        let names: HashSet<String> = findings.iter().map(event_name).collect();
        self.told.retain(|name| names.contains(name));
        for finding in findings {
            let name = event_name(finding);
            if self.told.contains(&name) || self.told.len() >= TOLD_LIMIT {
                continue;
            }
            let event = event(finding, &self.pod_name, clock::now());
            let api: Api<Event> = Api::namespaced(self.client.clone(), &finding.namespace);
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => {
                    let pod = finding.pod.as_ref().map(|pod| pod.name.as_str());
                    info!(
                        namespace = finding.namespace,
                        pod,
                        reason = finding.kind.label(),
                        "reported"
                    );
                }
                Err(Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => {}
                Err(error) => {
                    debug!(error = %Chain(&error), "an event cannot be made; it is tried again");
                    continue;
                }
            }
            self.told.insert(name);
        }
    }
}

/// The same in every replica, and for as long as the object and the finding are the same.
fn event_name(finding: &Finding) -> String {
    let (name, uid) = match &finding.pod {
        Some(pod) => (pod.name.as_str(), pod.uid.as_str()),
        None => (finding.namespace.as_str(), ""),
    };
    // Names of objects end after 253 characters; those of pods are shorter by far.
    let short: String = name.chars().take(180).collect();
    let uid: String = uid.chars().take(8).collect();
    let reason = finding.kind.label().replace('_', "-");
    let parts = [short.trim_end_matches(['.', '-']), &reason, &uid];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}.heddle", parts.join("."))
}

fn event(finding: &Finding, reporter: &str, now: SystemTime) -> Event {
    let about = match &finding.pod {
        Some(pod) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(finding.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        },
        // An event on what has no namespace lies in the one that it is about.
        None => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(finding.namespace.clone()),
            namespace: Some(finding.namespace.clone()),
            ..ObjectReference::default()
        },
    };
    let time = Timestamp::try_from(now).ok().map(Time);
    let severity = if finding.kind.is_problem() { "Warning" } else { "Normal" };
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(finding)),
            namespace: Some(finding.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(finding.kind.reason().to_owned()),
        message: Some(finding.kind.to_string().chars().take(MESSAGE_LIMIT).collect()),
        type_: Some(severity.to_owned()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(reporter.to_owned()),
        first_timestamp: time.clone(),
        last_timestamp: time,
        count: Some(1),
        ..Event::default()
    }
}

const COMPONENT: &str = "heddle-injector";
/// The API server refuses longer ones.
const MESSAGE_LIMIT: usize = 1024;
/// How many findings are remembered; what is above waits until some are gone.
const TOLD_LIMIT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FindingKind, PodReference};

    #[test]
    fn an_event_is_on_the_pod_and_has_one_name() {
        let pod = PodReference { name: "api-1".into(), uid: "0123456789".into() };
        let finding =
            Finding { namespace: "shop".into(), pod: Some(pod), kind: FindingKind::Missing };
        let made = event(&finding, "heddle-injector-1", SystemTime::UNIX_EPOCH);
        assert_eq!(made.metadata.name.as_deref(), Some("api-1.missing.01234567.heddle"));
        assert_eq!(made.involved_object.uid.as_deref(), Some("0123456789"));
        assert_eq!(made.reason.as_deref(), Some("ProxyMissing"));
        assert_eq!(made.type_.as_deref(), Some("Warning"));
        let long = PodReference { name: "a".repeat(253), uid: String::new() };
        let finding = Finding { pod: Some(long), ..finding };
        assert!(event_name(&finding).len() < 253);
    }
}
