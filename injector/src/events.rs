//! Findings as Events, on the object where its owner looks, told again while they last: Kubernetes drops an
//! Event after an hour. Every replica makes the same ones, under the same names: the API server keeps one of each.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::api::{self, ApiError};
use crate::report::Finding;

/// Tells findings, each once in a while.
pub(crate) struct Events {
    client: Client,
    pod_name: String,
    /// What was told, and when.
    told: HashMap<String, Instant>,
}

impl Events {
    /// Nothing was told yet.
    pub(crate) fn new(client: Client, pod_name: String) -> Self {
        Self { client, pod_name, told: HashMap::new() }
    }

    /// Tells what was not told yet, or not for a while. An event that cannot be made is tried again with the
    /// next round, and so is what is too much for this one.
    pub(crate) async fn tell(&mut self, findings: &[Finding]) {
        // What is gone need not be remembered.
        let names: HashSet<String> = findings.iter().map(subject).collect();
        self.told.retain(|name, _| names.contains(name));
        let mut attempts = 0;
        for finding in findings {
            let subject = subject(finding);
            let told = self.told.get(&subject);
            let is_due = match told {
                Some(told) => told.elapsed() >= AGAIN_AFTER,
                None => self.told.len() < TOLD_LIMIT,
            };
            if !is_due {
                continue;
            }
            if attempts >= ROUND_LIMIT {
                debug!("there is more to tell; the next round does");
                return;
            }
            attempts += 1;
            match self.make(finding).await {
                Ok(()) => {
                    self.told.insert(subject, Instant::now());
                }
                // Whatever else there is to tell would wait as long.
                Err(ApiError::Late) => return,
                Err(ApiError::Failed(_)) => {}
            }
        }
    }

    async fn make(&self, finding: &Finding) -> Result<(), ApiError> {
        let event = event(finding, &self.pod_name, clock::now());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &finding.namespace);
        match api::ask(events.create(&PostParams::default(), &event)).await {
            Ok(_) => {
                let pod = finding.pod.as_ref().map(|pod| pod.name.as_str());
                let reason = finding.kind.label();
                info!(namespace = finding.namespace, pod, reason, "reported");
                Ok(())
            }
            // Another replica was faster, the namespace is about to go, or events are not wanted there.
            Err(error) if matches!(error.code(), Some(403 | 404 | 409 | 422)) => Ok(()),
            Err(error) => {
                debug!(error = %Chain(&error), "an event cannot be made; it is tried again");
                Err(error)
            }
        }
    }
}

/// What is told of, and why: the same for as long as the object and the finding are the same.
fn subject(finding: &Finding) -> String {
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
    parts.join(".")
}

/// The same in every replica that tells it within half an hour. An event that is told again is a new one:
/// to change one that is there would take leave to change everybody's.
fn event_name(finding: &Finding, now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{}.{:x}.heddle", subject(finding), seconds / AGAIN_AFTER.as_secs())
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
            name: Some(event_name(finding, now)),
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
/// How many events are made in one round, so that a cluster full of findings does not keep the API server busy:
/// all that are remembered come to their turn within half an hour.
const ROUND_LIMIT: usize = 100;
/// When what lasts is told again: an Event lives for an hour, if the API server is not told otherwise.
const AGAIN_AFTER: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::Full;
    use serde_json::json;

    use super::*;
    use crate::report::{FindingKind, PodReference};

    #[test]
    fn an_event_is_on_the_pod_and_has_one_name() {
        let pod = PodReference { name: "api-1".into(), uid: "0123456789".into() };
        let finding =
            Finding { namespace: "shop".into(), pod: Some(pod), kind: FindingKind::Missing };
        let made = event(&finding, "heddle-injector-1", SystemTime::UNIX_EPOCH);
        assert_eq!(made.metadata.name.as_deref(), Some("api-1.missing.01234567.0.heddle"));
        assert_eq!(made.involved_object.uid.as_deref(), Some("0123456789"));
        assert_eq!(made.reason.as_deref(), Some("ProxyMissing"));
        assert_eq!(made.type_.as_deref(), Some("Warning"));
        let long = PodReference { name: "a".repeat(253), uid: String::new() };
        let finding = Finding { pod: Some(long), ..finding };
        assert!(event_name(&finding, clock::now()).len() < 253);
    }

    #[test]
    fn replicas_give_an_event_one_name_and_a_later_one_another() {
        let name = |seconds| {
            event_name(&missing(1), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        };
        assert_eq!(name(1800 * 16), name(1800 * 17 - 1));
        assert_ne!(name(1800 * 16), name(1800 * 17));
    }

    fn missing(number: usize) -> Finding {
        let pod = PodReference { name: format!("api-{number}"), uid: format!("{number:08}") };
        Finding { namespace: "shop".into(), pod: Some(pod), kind: FindingKind::Missing }
    }

    /// What an API server does with events.
    #[derive(Clone, Copy)]
    enum Answers {
        Created,
        Status(u16),
        Nothing,
    }

    /// An API server that counts the events that it is asked to make.
    fn api(answers: Answers) -> (Events, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let (status, object) = match answers {
                    Answers::Nothing => std::future::pending().await,
                    Answers::Created => (
                        201,
                        json!({"apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {}}),
                    ),
                    Answers::Status(code) => (
                        code,
                        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "", "reason": "", "code": code}),
                    ),
                };
                let body = Full::new(Bytes::from(object.to_string()));
                Ok::<_, Infallible>(http::Response::builder().status(status).body(body).unwrap())
            }
        });
        let client = Client::new(service, "default");
        (Events::new(client, "heddle-injector-1".to_owned()), made)
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_again_before_kubernetes_drops_it_and_what_came_back_at_once() {
        let (mut events, made) = api(Answers::Created);
        let count = || made.load(Ordering::Relaxed);
        events.tell(&[missing(1)]).await;
        events.tell(&[missing(1)]).await;
        assert_eq!(count(), 1, "told once");
        tokio::time::advance(AGAIN_AFTER - Duration::from_secs(1)).await;
        events.tell(&[missing(1), missing(2)]).await;
        assert_eq!(count(), 2, "only the new one");
        tokio::time::advance(Duration::from_secs(1)).await;
        events.tell(&[missing(1), missing(2)]).await;
        assert_eq!(count(), 3, "told again");
        events.tell(&[]).await;
        events.tell(&[missing(1)]).await;
        assert_eq!(count(), 4, "it was gone, and is back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_told_is_tried_again_and_what_others_told_is_not() {
        for (case, answers, expected) in [
            ("another replica was faster", Answers::Status(409), 1),
            ("the namespace is about to go", Answers::Status(403), 1),
            ("too busy", Answers::Status(429), 3),
            ("broken", Answers::Status(500), 3),
            ("silent", Answers::Nothing, 3),
        ] {
            let (mut events, made) = api(answers);
            for _round in 0..3 {
                let findings = [missing(1)];
                let telling = events.tell(&findings);
                tokio::time::timeout(Duration::from_secs(15), telling).await.unwrap();
            }
            assert_eq!(made.load(Ordering::Relaxed), expected, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_is_bounded_and_an_api_server_that_says_nothing_ends_it() {
        let findings: Vec<Finding> = (0..250).map(missing).collect();
        let (mut events, made) = api(Answers::Created);
        let mut counts = Vec::new();
        for _round in 0..4 {
            events.tell(&findings).await;
            counts.push(made.load(Ordering::Relaxed));
        }
        assert_eq!(counts, [100, 200, 250, 250]);
        let (mut events, made) = api(Answers::Nothing);
        events.tell(&findings).await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
