//! The stream of one proxy: tells it what to look for as taps and pods come and go, and passes on what it tells of
//! taps that it was told of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use heddle_proto::tap as wire;
use heddle_tls::peer::PeerIdentity;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::push::publisher::Snapshots;
use crate::snapshot::Contents;
use crate::tap::registry::{Live, Looking, Taps};
use crate::tap::subject::Part;
use crate::telemetry::population::workload_of;

/// An order. In a place of its own, since a channel has many places and most of them are empty for ever.
pub type Outgoing = Box<Result<wire::Order, Status>>;

/// One proxy that is attached.
pub struct Session {
    /// Whose proxy, by its certificate.
    pub peer: PeerIdentity,
    /// What it tells, in a place of its own: mostly the session is only waiting.
    pub inbound: Box<Streaming<wire::Told>>,
    /// What it is told.
    pub orders: mpsc::Sender<Outgoing>,
    /// What runs.
    pub taps: Taps,
    /// Whose pod it is.
    pub snapshots: Snapshots,
}

/// A tap that the proxy was told of.
struct Told {
    live: Arc<Live>,
    part: Part,
    /// Since it said that it looks.
    looking: Option<Looking>,
}

impl Session {
    /// Runs until the proxy goes, says what makes no sense, or the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut told: BTreeMap<u64, Told> = BTreeMap::new();
        let mut changes = self.taps.changes();
        loop {
            if self.order(&mut told).await.is_none() {
                return;
            }
            let asked = tokio::select! {
                () = drain.cancelled() => return,
                () = self.orders.closed() => return,
                changed = changes.changed() => changed.map_err(drop).map(|()| None),
                // Who is behind a service changes while a tap of it runs.
                changed = self.snapshots.changed(), if !self.taps.is_empty() => {
                    changed.map_err(drop).map(|()| None)
                }
                said = self.inbound.message() => said.map_err(drop).and_then(|said| said.ok_or(())).map(Some),
            };
            let makes_sense = match asked {
                Ok(None) => true,
                Ok(Some(said)) => self.take(said, &mut told),
                Err(()) => false,
            };
            if !makes_sense {
                return;
            }
        }
    }

    /// Tells the proxy what differs from what it was told; `None`: it is gone.
    async fn order(&mut self, told: &mut BTreeMap<u64, Told>) -> Option<()> {
        if told.is_empty() && self.taps.is_empty() {
            return Some(());
        }
        let contents = self.snapshots.borrow_and_update().clone().map(|it| it.contents);
        let wanted = self.wanted(contents.as_deref());
        let over: Vec<u64> = told
            .iter()
            .filter(|(number, told)| wanted.get(number).is_none_or(|(_, part)| *part != told.part))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            told.remove(&number);
            self.send(wire::order::Order::End(number)).await?;
        }
        for (number, (live, part)) in wanted {
            if let Entry::Vacant(place) = told.entry(number) {
                let begin = wire::Begin::new(number, &live.request.tap, part == Part::Looks);
                place.insert(Told { live, part, looking: None });
                self.send(wire::order::Order::Begin(begin)).await?;
            }
        }
        Some(())
    }

    fn wanted(&self, contents: Option<&Contents>) -> BTreeMap<u64, (Arc<Live>, Part)> {
        let pod = contents.and_then(|contents| contents.pods.get(&self.peer.pod_uid));
        let both = pod.zip(contents);
        both.map(|(pod, contents)| self.taps.wanted(pod, contents)).unwrap_or_default()
    }

    async fn send(&self, order: wire::order::Order) -> Option<()> {
        self.orders.send(Box::new(Ok(wire::Order { order: Some(order) }))).await.ok()
    }

    /// Whether what the proxy said makes sense.
    fn take(&self, said: wire::Told, told: &mut BTreeMap<u64, Told>) -> bool {
        let wire::Told { tap, mut exchanges, left_out } = said;
        if exchanges.len() > EXCHANGES_LIMIT {
            debug!(peer = %self.peer.identity, "a proxy tells too much at once of a tap");
            return false;
        }
        // What it tells of a tap that has just ended.
        let Some(tap) = told.get_mut(&tap) else { return true };
        tap.looking.get_or_insert_with(|| tap.live.look());
        if !exchanges.is_empty() {
            let workload = self.workload();
            exchanges.iter_mut().for_each(|exchange| exchange.workload = Some(workload.clone()));
        }
        if !exchanges.is_empty() || left_out > 0 {
            self.taps.tell(&tap.live, exchanges, left_out);
        }
        true
    }

    /// What a proxy says of itself does not count.
    fn workload(&self) -> wire::Workload {
        let PeerIdentity { identity, pod_uid } = &self.peer;
        let snapshot = self.snapshots.borrow().clone();
        let pod = snapshot.and_then(|snapshot| snapshot.contents.pods.get(pod_uid).cloned());
        let identity_text = identity.to_string();
        match pod {
            Some(pod) => {
                let workload = workload_of(&pod);
                wire::Workload {
                    namespace: workload.namespace,
                    kind: workload.kind,
                    name: workload.name,
                    pod: pod.reference.name.clone(),
                    identity: identity_text,
                }
            }
            None => wire::Workload {
                namespace: identity.namespace().to_owned(),
                kind: "Pod".to_owned(),
                name: pod_uid.to_string(),
                pod: pod_uid.to_string(),
                identity: identity_text,
            },
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// In one message, as tap.proto says.
const EXCHANGES_LIMIT: usize = 32;
