//! Writes on a cluster's objects what became of them, while this process leads: our part of their status
//! (`written.rs`), when it is due (`memory.rs`), and beside that, Events (`telling.rs`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_model::names::ObjectReference;
use heddle_runtime::clock;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::events::Recorder;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::leader::Leadership;
use crate::peers::others::{Others, Surroundings};
use crate::push::programmed::{self, Board, Gathered};
use crate::push::proxies::Proxies;
use crate::push::publisher::Snapshots;
use crate::snapshot::Snapshot;
use crate::source::kubernetes::kind;
use crate::status::memory::Memory;
use crate::status::telling::{self, All};
use crate::status::written::{self, Form, Said};

/// Writes status and Events.
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// What was decided.
    pub snapshots: Snapshots,
    /// How far proxies have come.
    pub proxies: Proxies,
    /// Whether to write at all.
    pub leadership: Leadership,
    /// Where Events go.
    pub recorder: Recorder,
    /// Where the other replicas are.
    pub replicas: Surroundings,
}

/// What came of one attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The status is as it should be.
    Done,
    /// The object is another by now; the source will tell.
    Changed,
    /// Nobody knows.
    Unanswered,
}

impl Writer {
    /// Writes until the drain, whenever this process leads.
    pub async fn run(mut self, drain: CancellationToken) {
        loop {
            let term = tokio::select! {
                () = drain.cancelled() => return,
                term = self.leadership.term() => term,
            };
            let Some(term) = term else { return };
            tokio::select! {
                () = drain.cancelled() => return,
                () = term.over() => {}
                () = Box::pin(self.lead()) => {}
            }
        }
    }

    /// Writes and tells for as long as it is polled.
    async fn lead(&self) {
        let (said, all) = watch::channel(All::default());
        tokio::join!(self.write(said), telling::tell(&self.recorder, all));
    }

    async fn write(&self, said: watch::Sender<All>) {
        let mut memory = Memory::default();
        let mut others = Others::new(self.replicas.clone());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checked = Instant::now();
        loop {
            looks.tick().await;
            let Some(snapshot) = self.snapshots.borrow().clone() else { continue };
            let now = Instant::now();
            if now.duration_since(checked) >= CHECK {
                checked = now;
                memory.forget();
            }
            let mut gathered = others.ask(&snapshot).await;
            gathered.insert(0, Gathered::of(&self.proxies, &snapshot));
            let all = Arc::new(all_of(&snapshot, &Gathered::together(gathered)));
            said.send_replace(Arc::clone(&all));
            let written = all.iter().filter(|(name, _)| written::form(&name.kind).is_some());
            memory.want(written.cloned().collect(), now);
            let due = memory.due(now, WRITES_LIMIT);
            let writes = futures_util::stream::iter(due).map(|(reference, said)| async move {
                let writing = timeout(ANSWER_TIMEOUT, self.write_one(&reference, &said)).await;
                (reference, said, writing.unwrap_or(Ok(Outcome::Unanswered)))
            });
            let mut writes = std::pin::pin!(writes.buffer_unordered(WRITES_AT_ONCE));
            while let Some((reference, said, outcome)) = writes.next().await {
                match outcome {
                    Ok(Outcome::Done) => memory.wrote(&reference, said),
                    Ok(Outcome::Unanswered) => {
                        warn!(object = %reference, "status cannot be written in time; trying again");
                        memory.failed(&reference, now);
                    }
                    Ok(Outcome::Changed) => {
                        debug!(object = %reference, "object changed before its status was written");
                        memory.failed(&reference, now);
                    }
                    Err(error) => {
                        warn!(%error, object = %reference, "status cannot be written; trying again");
                        memory.failed(&reference, now);
                    }
                }
            }
        }
    }

    async fn write_one(
        &self,
        reference: &ObjectReference,
        said: &Said,
    ) -> Result<Outcome, kube::Error> {
        let known = kind::find(&reference.kind).zip(written::form(&reference.kind));
        let Some((kind, form)) = known else { return Ok(Outcome::Done) };
        let resource = kind.resource(&said.revision.api_version);
        let objects = Api::namespaced_with(self.client.clone(), &reference.namespace, &resource);
        for _ in 0..ATTEMPTS {
            match attempt(&objects, &reference.name, (form, said)).await {
                Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
                other => return other,
            }
        }
        Ok(Outcome::Changed)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Writes onto what is there now; fails with a conflict if that changes at the same time.
async fn attempt(
    objects: &Api<DynamicObject>,
    name: &str,
    (form, said): (Form, &Said),
) -> Result<Outcome, kube::Error> {
    let Some(object) = objects.get_opt(name).await? else { return Ok(Outcome::Changed) };
    let metadata = &object.metadata;
    let same = metadata.uid.as_deref() == Some(&said.revision.uid)
        && metadata.generation == said.revision.generation;
    if !same {
        return Ok(Outcome::Changed);
    }
    let now = Timestamp::try_from(clock::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    let value = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    let Some(status) = written::status(form, &value, said, now) else {
        return Ok(Outcome::Done);
    };
    let patch = json!({
        "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": status,
    });
    let parameters =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    objects.patch_status(name, &parameters, &Patch::Merge(&patch)).await?;
    Ok(Outcome::Done)
}

/// What is to be said of every object of the cluster.
fn all_of(snapshot: &Snapshot, board: &Board) -> Vec<(ObjectReference, Said)> {
    let objects = snapshot.contents.objects.iter();
    let said = objects.filter_map(|status| {
        let revision = status.place.revision()?.clone();
        let programmed = programmed::of_object(status, board);
        let with = |conditions: &[crate::status::Condition]| {
            conditions.iter().cloned().chain(programmed.clone()).collect()
        };
        let parents = status.parents.iter();
        let said = Said {
            revision,
            conditions: with(&status.conditions),
            parents: parents.map(|parent| (parent.index, with(&parent.conditions))).collect(),
        };
        Some((status.reference.clone(), said))
    });
    said.collect()
}

/// Who wrote a status, in its managed fields.
pub const FIELD_MANAGER: &str = "heddle-control-plane";
/// How often it is looked what should be written.
const LOOK: Duration = Duration::from_secs(1);
/// How often everything that was written is looked at again.
const CHECK: Duration = Duration::from_secs(300);
/// Objects at one look; more wait for the next.
const WRITES_LIMIT: usize = 50;
/// Requests at once.
const WRITES_AT_ONCE: usize = 4;
/// How long the API server may take for one object.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For one object, when others write at the same time.
const ATTEMPTS: usize = 3;
/// What the API server says when another wrote in between.
const CONFLICT: u16 = 409;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use heddle_model::resource::Version;
    use heddle_tls::credentials;

    use super::*;
    use crate::leader::Candidate;
    use crate::snapshot::Contents;
    use crate::source::{Place, Revision};
    use crate::status::{Condition, ObjectStatus, events};
    use crate::test_client;

    /// Of a route that is refused, and which proxies know nothing of.
    fn snapshot() -> Snapshot {
        let revision = Revision {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            uid: "u".to_owned(),
            generation: Some(1),
        };
        let status = ObjectStatus {
            reference: ObjectReference {
                kind: "HTTPRoute".to_owned(),
                namespace: "shop".to_owned(),
                name: "a".to_owned(),
            },
            place: Place::Cluster(revision),
            conditions: vec![Condition::refused("Invalid", "it will not do".to_owned())],
            parents: Vec::new(),
            pushed: false,
        };
        let contents =
            Contents { objects: Arc::new(vec![Arc::new(status)]), ..Contents::default() };
        Snapshot::first(Version(1), Arc::new(contents))
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_are_not_taken_keep_no_status_from_being_written() {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "generation": 1,
                "resourceVersion": "7"},
            "spec": {"parentRefs": [{"kind": "Service", "group": "", "name": "a"}]},
        });
        let (events, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (Arc::clone(&events), Arc::clone(&writes));
        let client = test_client::answering(move |request| {
            if request.uri().path().ends_with("/events") {
                counted.0.fetch_add(1, Ordering::Relaxed);
                return test_client::never();
            }
            if request.method() == http::Method::PATCH {
                counted.1.fetch_add(1, Ordering::Relaxed);
            }
            test_client::json(200, route.clone())
        });
        let (_candidate, leadership) = Candidate::new(client.clone(), "mesh", "p".to_owned());
        let (_snapshots, reader) = watch::channel(Some(snapshot()));
        let writer = Writer {
            client: client.clone(),
            snapshots: reader,
            proxies: Proxies::default(),
            leadership,
            recorder: events::recorder(client, "p"),
            replicas: Surroundings {
                namespace: "mesh".to_owned(),
                pod_name: "p".to_owned(),
                credentials: credentials::channel("cluster.local".parse().unwrap()).1,
            },
        };
        let begun = Instant::now();
        let written = async {
            while writes.load(Ordering::Relaxed) == 0 || events.load(Ordering::Relaxed) < 2 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = writer.lead() => panic!("it goes on"),
            () = timeout_in(written) => {}
        }
        assert_eq!(writes.load(Ordering::Relaxed), 1, "what says the same is not written");
        assert!(begun.elapsed() < Duration::from_secs(30), "an Event is tried again soon");
    }

    async fn timeout_in(written: impl Future<Output = ()>) {
        timeout(Duration::from_secs(60), written).await.expect("both were tried");
    }
}
