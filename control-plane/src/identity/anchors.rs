//! Keeps the trust anchors where new proxies find them: in a ConfigMap in every namespace that has meshed
//! pods or may get them. What is written where is decided in `anchors/plan.rs`; how, is in
//! `anchors/write.rs`.

pub mod mirror;
pub mod plan;
mod write;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use heddle_model::installation::TRUST_ANCHORS_CONFIG_MAP;
use heddle_runtime::logging::Chain;
use heddle_runtime::throttle::Throttle;
use heddle_tls::digest::{self, Digest};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::identity::anchors::mirror::Mirror;
use crate::identity::anchors::plan::{Found, Lack, Plan, Seen};
use crate::identity::anchors::write::Outcome;
use crate::identity::custodian::{Authorities, Leads};
use crate::push::publisher::Snapshots;

/// What new proxies are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The bundle that is everywhere where it can be; `None`: none is, or it is not known.
    pub everywhere: Option<Digest>,
    /// Namespaces that cannot have it, each with the reason. No more than [`LACKING_SHOWN`] and their number.
    pub lacking: Vec<String>,
}

/// Writes them, for as long as this process leads.
pub struct Distributor {
    client: Client,
    authorities: Authorities,
    snapshots: Snapshots,
    leads: Leads,
    published: watch::Sender<Published>,
    namespaces: Mirror<()>,
    found: Mirror<Found>,
    /// Namespaces that refused, why, and when to try again.
    refused: BTreeMap<String, (String, Instant)>,
    warnings: Throttle,
    told_of: BTreeMap<String, Lack>,
}

type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

impl Distributor {
    /// `published` is told which bundle has been written.
    pub fn new(
        client: Client,
        authorities: Authorities,
        snapshots: Snapshots,
        leads: Leads,
        published: watch::Sender<Published>,
    ) -> Self {
        Self {
            client,
            authorities,
            snapshots,
            leads,
            published,
            namespaces: Mirror::default(),
            found: Mirror::default(),
            refused: BTreeMap::new(),
            warnings: Throttle::default(),
            told_of: BTreeMap::new(),
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
        let only =
            watcher::Config::default().fields(&format!("metadata.name={TRUST_ANCHORS_CONFIG_MAP}"));
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
            Ok(event) => {
                if let Event::Apply(map) | Event::Delete(map) = &event {
                    // Whatever stood in the way may be gone.
                    self.refused.remove(&map.namespace().unwrap_or_default());
                }
                self.found.take(event, |map| {
                    (map.namespace().unwrap_or_default(), Some(write::found(map)))
                })
            }
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
            self.published.send_replace(Published::default());
            return;
        }
        let Some(of_pods) = self.namespaces_of_pods() else { return };
        let bundle = self.authorities.current().bundle().clone();
        let text = bundle.to_pem();
        let wanted: Vec<String> = self.namespaces.names().chain(of_pods).collect();
        let behind = self.write_all(&wanted, &text).await;
        // Once more, with what was refused just now: nothing is written by this.
        let Plan { write: _, lacking } = self.plan(&wanted, &text);
        self.tell(&lacking);
        let published =
            Published { everywhere: (!behind).then(|| bundle.digest()), lacking: shown(&lacking) };
        self.published.send_if_modified(|told| {
            let other = *told != published;
            *told = published;
            other
        });
    }

    fn plan(&self, wanted: &[String], text: &str) -> Plan {
        let refused = self.refused.iter().map(|(name, (why, _))| (name.clone(), why.clone()));
        let seen = Seen { found: self.found.entries(), refused: &refused.collect() };
        plan::plan(wanted.iter().cloned(), seen, digest::of(text.as_bytes()))
    }

    /// Writes where it is due, several at once; whether some may be written the next time.
    async fn write_all(&mut self, wanted: &[String], text: &str) -> bool {
        let now = Instant::now();
        self.refused.retain(|_, (_, again)| *again > now);
        let Plan { write, lacking: _ } = self.plan(wanted, text);
        let writes = write.into_iter().map(|(namespace, exists)| {
            let client = self.client.clone();
            async move {
                let outcome = write::write(client, &namespace, exists, text).await;
                (namespace, outcome)
            }
        });
        let written: Vec<_> =
            futures_util::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).collect().await;
        let mut behind = false;
        for (namespace, outcome) in written {
            match outcome {
                Outcome::Written(found) => {
                    info!(namespace, "trust anchors written");
                    self.found.put(namespace, found);
                }
                Outcome::Gone => debug!(namespace, "trust anchors are not wanted any more"),
                Outcome::Refused(why) => {
                    self.refused.insert(namespace, (why, now + REFUSED_INTERVAL));
                }
                Outcome::Failed(why) => {
                    behind = true;
                    if self.warnings.is_due() {
                        warn!(namespace, error = why, "trust anchors cannot be written");
                    }
                }
            }
        }
        behind
    }

    /// Once for each that is new, or for another reason.
    fn tell(&mut self, lacking: &BTreeMap<String, Lack>) {
        for (namespace, lack) in lacking {
            if self.told_of.get(namespace) != Some(lack) {
                warn!(
                    namespace,
                    error = %lack,
                    "the trust anchors cannot be kept in ConfigMap {TRUST_ANCHORS_CONFIG_MAP} here; proxies here may not start"
                );
            }
        }
        self.told_of.clone_from(lacking);
    }

    /// The namespaces of meshed pods, which need not have a label; `None`: not known yet.
    fn namespaces_of_pods(&self) -> Option<Vec<String>> {
        let snapshot = self.snapshots.borrow().clone()?;
        let pods = snapshot.contents.pods.values();
        let meshed = pods.filter(|pod| pod.meshed && pod.live);
        Some(meshed.map(|pod| pod.reference.namespace.clone()).collect())
    }
}

/// For whoever looks; the log has all of them.
fn shown(lacking: &BTreeMap<String, Lack>) -> Vec<String> {
    let first = lacking.iter().take(LACKING_SHOWN);
    let mut shown: Vec<String> =
        first.map(|(namespace, lack)| format!("{namespace}: {lack}")).collect();
    let more = lacking.len().saturating_sub(LACKING_SHOWN);
    if more > 0 {
        shown.push(format!("and {more} more namespaces"));
    }
    shown
}

impl std::fmt::Debug for Distributor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distributor").field("found", &self.found).finish_non_exhaustive()
    }
}

/// A rotation waits for the last one, and an API server has others to serve.
const WRITES_AT_ONCE: usize = 8;
/// Whatever refuses is not changed by asking.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// Enough to begin with.
pub const LACKING_SHOWN: usize = 10;
/// Until the first lists are there, usually.
const LOOK_FIRST: Duration = Duration::from_millis(500);
/// What comes together is written together.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// When nothing was heard: another bundle, or something that failed before.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
