//! Keeps the authority in a Secret that all replicas share. The first one makes it; whoever writes, writes
//! onto the state that it has seen, so that of two that write at once one has to look again.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use heddle_model::installation::{self, AUTHORITY_SECRET, TRUST_ANCHORS_CONFIG_MAP};
use heddle_runtime::logging::Chain;
use heddle_runtime::throttle::Throttle;
use heddle_tls::authority::texts::TRUST_ANCHORS;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeroize::Zeroizing;

use crate::identity::kept::{KeptTexts, NAMES};
use crate::identity::store::{HandedOut, News, Revision, Saved, StoreError, Stored};

/// A Secret.
pub struct SecretStore {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    replica: String,
    recorder: Recorder,
    seen: watch::Sender<Option<Stored>>,
}

impl SecretStore {
    /// In the mesh's namespace; `replica` is the name of this pod.
    pub fn new(client: &Client, namespace: &str, replica: &str) -> Self {
        let reporter =
            Reporter { controller: CONTROLLER.to_owned(), instance: Some(replica.to_owned()) };
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::all(client.clone()),
            namespace: namespace.to_owned(),
            replica: replica.to_owned(),
            recorder: Recorder::new(client.clone(), reporter),
            seen: watch::channel(None).0,
        }
    }

    /// Watches the Secret for as long as the process runs, and tells `SecretStore::changes`.
    pub async fn watch(watched: Watched, drain: CancellationToken) {
        let Watched { secrets, seen } = watched;
        let only = watcher::Config::default().fields(&format!("metadata.name={AUTHORITY_SECRET}"));
        let mut events = pin!(watcher(secrets, only).default_backoff());
        let warnings = Throttle::default();
        let mut listed = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = drain.cancelled() => return,
            };
            match event {
                Some(Ok(watcher::Event::Init)) => listed = false,
                Some(Ok(watcher::Event::InitApply(secret) | watcher::Event::Apply(secret))) => {
                    listed = true;
                    seen.send_replace(Some(stored(&secret)));
                }
                Some(Ok(watcher::Event::InitDone)) if listed => {}
                Some(Ok(watcher::Event::InitDone | watcher::Event::Delete(_))) => {
                    seen.send_replace(Some(absent()));
                }
                Some(Err(error)) => {
                    if warnings.is_due() {
                        warn!(error = %Chain(&error), "the authority's Secret cannot be watched");
                    }
                }
                None => return,
            }
        }
    }

    /// What [`SecretStore::watch`] needs.
    pub fn watched(&self) -> Watched {
        Watched { secrets: self.secrets.clone(), seen: self.seen.clone() }
    }

    pub(super) fn changes(&self) -> watch::Receiver<Option<Stored>> {
        self.seen.subscribe()
    }

    pub(super) async fn load(&self) -> Result<Stored, StoreError> {
        let found = timeout(ANSWER_TIMEOUT, self.secrets.get_opt(AUTHORITY_SECRET)).await;
        let found = found.map_err(|_| self.timed_out("read"))?;
        let found = found.map_err(|error| self.failed("read", error))?;
        Ok(found.as_ref().map_or_else(absent, stored))
    }

    pub(super) async fn save(
        &self,
        texts: &KeptTexts,
        seen: &Revision,
    ) -> Result<Saved, StoreError> {
        let (parameters, patch) = match seen {
            // Applied by a manager of its own: of two replicas that do so, the second one conflicts.
            Revision::Absent => {
                let manager = format!("{CONTROLLER}-{}", self.replica);
                let manager: String = manager.chars().take(MANAGER_LIMIT).collect();
                (PatchParams::apply(&manager), Patch::Apply(whole(texts)))
            }
            Revision::At(version) => {
                let parameters = PatchParams {
                    field_manager: Some(CONTROLLER.to_owned()),
                    ..PatchParams::default()
                };
                (parameters, Patch::Merge(onto(texts, version)))
            }
        };
        let written =
            timeout(ANSWER_TIMEOUT, self.secrets.patch(AUTHORITY_SECRET, &parameters, &patch))
                .await;
        match written.map_err(|_| self.timed_out("write"))? {
            Ok(secret) => Ok(Saved::As(stored(&secret).revision)),
            Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(Saved::Conflict),
            Err(kube::Error::Api(status))
                if status.code == NOT_FOUND && *seen != Revision::Absent =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(self.failed("write", error)),
        }
    }

    pub(super) async fn tell(&self, news: &News) {
        let event = Event {
            type_: if news.warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.to_owned(),
            note: Some(news.message.chars().take(NOTE_LIMIT).collect()),
            action: "Rotate".to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(AUTHORITY_SECRET.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        };
        match timeout(ANSWER_TIMEOUT, self.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %Chain(&error), "an event cannot be written"),
            Err(_) => warn!("an event cannot be written: the API server does not answer"),
        }
    }

    /// Our ConfigMaps of trust anchors, as far as one answer goes.
    pub(super) async fn handed_out(&self) -> Result<Vec<HandedOut>, StoreError> {
        let object = || format!("the ConfigMaps {}", TRUST_ANCHORS_CONFIG_MAP);
        let only = ListParams::default()
            .labels(installation::SELECTOR)
            .fields(&format!("metadata.name={}", TRUST_ANCHORS_CONFIG_MAP))
            .limit(HANDED_OUT_LIMIT);
        let listed = timeout(ANSWER_TIMEOUT, self.maps.list(&only)).await;
        let listed =
            listed.map_err(|_| StoreError::Timeout { attempt: "list", object: object() })?;
        let listed = listed.map_err(|error| StoreError::Api {
            attempt: "list",
            object: object(),
            source: Box::new(error),
        })?;
        let read = |map: ConfigMap| HandedOut {
            namespace: map.namespace().unwrap_or_default(),
            text: map.data.and_then(|mut data| data.remove(TRUST_ANCHORS)).unwrap_or_default(),
        };
        Ok(listed.items.into_iter().map(read).collect())
    }

    fn timed_out(&self, attempt: &'static str) -> StoreError {
        StoreError::Timeout { attempt, object: self.to_string() }
    }

    fn failed(&self, attempt: &'static str, source: kube::Error) -> StoreError {
        StoreError::Api { attempt, object: self.to_string(), source: Box::new(source) }
    }
}

/// What is watched, and who is told.
#[derive(Debug)]
pub struct Watched {
    secrets: Api<Secret>,
    seen: watch::Sender<Option<Stored>>,
}

impl fmt::Display for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{AUTHORITY_SECRET}", self.namespace)
    }
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretStore({self})")
    }
}

fn absent() -> Stored {
    Stored { texts: KeptTexts::default(), revision: Revision::Absent }
}

/// A Secret that is there and empty is one that nobody has written to yet.
fn stored(secret: &Secret) -> Stored {
    let data = secret.data.as_ref();
    let texts = KeptTexts::read(|name| {
        let bytes = data.and_then(|data| data.get(name))?;
        Some(Zeroizing::new(String::from_utf8_lossy(&bytes.0).into_owned()))
    });
    let version = secret.metadata.resource_version.clone().unwrap_or_default();
    Stored { texts, revision: Revision::At(version) }
}

fn whole(texts: &KeptTexts) -> Value {
    let data: BTreeMap<&str, ByteString> = NAMES
        .into_iter()
        .filter_map(|name| Some((name, ByteString(texts.get(name)?.as_bytes().to_vec()))))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": AUTHORITY_SECRET,
            "labels": {
                "app.kubernetes.io/name": "heddle",
                "app.kubernetes.io/component": "control-plane",
                "app.kubernetes.io/part-of": "heddle",
                "app.kubernetes.io/managed-by": CONTROLLER,
            },
        },
        "type": "Opaque",
        "data": data,
    })
}

/// Writes every text, and takes away those that are no more; only onto this version.
fn onto(texts: &KeptTexts, version: &str) -> Value {
    let data: Map<String, Value> = NAMES
        .into_iter()
        .map(|name| {
            let bytes = texts.get(name).map(|text| ByteString(text.as_bytes().to_vec()));
            (name.to_owned(), json!(bytes))
        })
        .collect();
    json!({ "metadata": { "resourceVersion": version }, "data": data })
}

/// Whoever keeps the authority has other things to do than to wait for an API server that is away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What we are called where writers are named.
const CONTROLLER: &str = "heddle-control-plane";
/// One is enough not to go on.
const HANDED_OUT_LIMIT: u32 = 500;
/// Of the API server.
const MANAGER_LIMIT: usize = 128;
/// Of the API server: a kilobyte.
const NOTE_LIMIT: usize = 1000;
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

#[cfg(test)]
mod tests {
    use heddle_runtime::clock;
    use heddle_tls::authority::texts::NEXT_ROOT;

    use super::*;
    use crate::identity::kept::Kept;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_loses_what_is_no_more() {
        let kept = Kept::create(&"cluster.local".parse().unwrap(), clock::now()).unwrap();
        let texts = kept.to_texts();
        let mut secret: Secret = serde_json::from_value(whole(&texts)).unwrap();
        secret.metadata.resource_version = Some("7".to_owned());
        let read = stored(&secret);
        assert_eq!(read, Stored { texts: texts.clone(), revision: Revision::At("7".to_owned()) });
        let patch = onto(&texts, "7");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["data"][NEXT_ROOT], Value::Null);
        assert_eq!(patch["data"].as_object().unwrap().len(), NAMES.len());
    }
}
