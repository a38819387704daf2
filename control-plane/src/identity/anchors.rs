//! Writes the trust anchors to where new proxies find them: a ConfigMap in every namespace that has meshed
//! pods or may get them. What is written where is decided in `anchors/plan.rs`.

pub mod mirror;
pub mod plan;

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use heddle_runtime::logging::Chain;
use heddle_runtime::throttle::Throttle;
use heddle_tls::authority::texts::TRUST_ANCHORS;
use heddle_tls::digest::Digest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::identity::anchors::mirror::Mirror;
use crate::identity::anchors::plan::{Found, Plan};
use crate::identity::keeper::{Authorities, Leads};
use crate::push::publisher::Snapshots;

/// The ConfigMap's name.
pub const NAME: &str = "heddle-trust-anchors";

/// Writes them, for as long as this process leads.
pub struct Distributor {
    client: Client,
    authorities: Authorities,
    snapshots: Snapshots,
    leads: Leads,
    published: watch::Sender<Option<Digest>>,
    namespaces: Mirror<()>,
    found: Mirror<Found>,
    warnings: Throttle,
    told_of: Vec<String>,
}

type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

impl Distributor {
    /// `published` is told which bundle has been written everywhere; `None`: none has, or it is not known.
    pub fn new(
        client: Client,
        authorities: Authorities,
        snapshots: Snapshots,
        leads: Leads,
        published: watch::Sender<Option<Digest>>,
    ) -> Self {
        Self {
            client,
            authorities,
            snapshots,
            leads,
            published,
            namespaces: Mirror::default(),
            found: Mirror::default(),
            warnings: Throttle::default(),
            told_of: Vec::new(),
        }
    }

    /// Writes until the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let (mut namespaces, mut maps) = (self.watch_namespaces(), self.watch_maps());
        let mut snapshots = self.snapshots.clone();
        let mut next_look = Instant::now() + LOOK_FIRST;
        loop {
            let news = tokio::select! {
                () = drain.cancelled() => return,
                Some(event) = namespaces.next() => self.take_namespace(event),
                Some(event) = maps.next() => self.take_map(event),
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    true
                }
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK_INTERVAL;
                    self.look().await;
                    false
                }
            };
            if news {
                next_look = next_look.min(Instant::now() + LOOK_SOON);
            }
        }
    }

    fn watch_namespaces(&self) -> Events<PartialObjectMeta<Namespace>> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let labelled = watcher::Config::default().labels("heddle.dev/inject=enabled");
        watcher::watcher(api, labelled).default_backoff().boxed()
    }

    fn watch_maps(&self) -> Events<ConfigMap> {
        let api: Api<ConfigMap> = Api::all(self.client.clone());
        let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        watcher::watcher(api, only).default_backoff().boxed()
    }

    fn take_namespace(
        &mut self,
        event: watcher::Result<Event<PartialObjectMeta<Namespace>>>,
    ) -> bool {
        match event {
            Ok(event) => self.namespaces.take(event, |namespace| {
                // Nothing can be made in one that is about to go.
                let stays = namespace.metadata.deletion_timestamp.is_none();
                (namespace.name_any(), stays.then_some(()))
            }),
            Err(error) => self.not_watched(&error),
        }
    }

    fn take_map(&mut self, event: watcher::Result<Event<ConfigMap>>) -> bool {
        match event {
            Ok(event) => self
                .found
                .take(event, |map| (map.namespace().unwrap_or_default(), Some(found(map)))),
            Err(error) => self.not_watched(&error),
        }
    }

    fn not_watched(&self, error: &watcher::Error) -> bool {
        if self.warnings.is_due() {
            warn!(error = %Chain(error), "where trust anchors belong cannot be watched");
        }
        false
    }

    async fn look(&mut self) {
        if !(self.leads)() || !self.namespaces.is_known() || !self.found.is_known() {
            self.published.send_replace(None);
            return;
        }
        let Some(of_pods) = self.namespaces_of_pods() else { return };
        let bundle = self.authorities.current().bundle().clone();
        let text = bundle.to_pem();
        let wanted = self.namespaces.names().chain(of_pods);
        let Plan { write, foreign } = plan::plan(wanted, self.found.entries(), &text);
        if foreign != self.told_of {
            for namespace in &foreign {
                warn!(
                    namespace,
                    "a ConfigMap heddle-trust-anchors here is not the mesh's (no label \
                     app.kubernetes.io/part-of: heddle); it is left alone, and proxies here cannot start \
                     with it"
                );
            }
            self.told_of = foreign;
        }
        let mut behind = false;
        for (namespace, exists) in write {
            behind |= !self.write(&namespace, exists, &text).await;
        }
        self.published.send_replace((!behind).then(|| bundle.digest()));
    }

    /// The namespaces of meshed pods, which need not have a label; `None`: not known yet.
    fn namespaces_of_pods(&self) -> Option<Vec<String>> {
        let snapshot = self.snapshots.borrow().clone()?;
        let pods = snapshot.contents.pods.values();
        let meshed = pods.filter(|pod| pod.meshed && pod.live);
        Some(meshed.map(|pod| pod.reference.namespace.clone()).collect())
    }

    /// False if the namespace lacks them.
    async fn write(&mut self, namespace: &str, exists: bool, text: &str) -> bool {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "labels": {
                    "app.kubernetes.io/name": "heddle",
                    "app.kubernetes.io/component": "control-plane",
                    plan::PART_OF: plan::HEDDLE,
                    "app.kubernetes.io/managed-by": MANAGER,
                },
            },
            "data": { TRUST_ANCHORS: text },
        });
        let parameters = PatchParams::apply(MANAGER);
        // Whatever somebody else made there meanwhile is not written over.
        let parameters = if exists { parameters.force() } else { parameters };
        let map = Patch::Apply(map);
        let written = timeout(ANSWER_TIMEOUT, maps.patch(NAME, &parameters, &map)).await;
        let Ok(written) = written else { return false };
        match written {
            Ok(map) => {
                info!(namespace, "trust anchors written");
                self.found.put(namespace.to_owned(), found(&map));
                true
            }
            // Gone, or about to go: nothing can start there.
            Err(kube::Error::Api(status)) if is_of_the_past(&status) => {
                debug!(namespace, "trust anchors are not wanted any more");
                true
            }
            Err(error) => {
                if self.warnings.is_due() {
                    warn!(namespace, error = %Chain(&error), "trust anchors cannot be written");
                }
                false
            }
        }
    }
}

fn found(map: &ConfigMap) -> Found {
    let labels = map.metadata.labels.as_ref();
    let part_of = labels.and_then(|labels| labels.get(plan::PART_OF)).map(String::as_str);
    let data = map.data.as_ref();
    Found {
        ours: part_of == Some(plan::HEDDLE),
        text: data.and_then(|data| data.get(TRUST_ANCHORS)).cloned().unwrap_or_default(),
    }
}

fn is_of_the_past(status: &kube::core::Status) -> bool {
    status.code == 404 || (status.code == 403 && status.message.contains("being terminated"))
}

impl std::fmt::Debug for Distributor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distributor").field("found", &self.found).finish_non_exhaustive()
    }
}

/// What we are called where writers are named.
const MANAGER: &str = "heddle-control-plane";
/// Of the API server's, for one namespace.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the first lists are there, usually.
const LOOK_FIRST: Duration = Duration::from_millis(500);
/// What comes together is written together.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// When nothing was heard: another bundle, or something that failed before.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
