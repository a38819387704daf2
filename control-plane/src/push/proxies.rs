//! Which proxies are and were connected, and what each holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_model::destination::Destination;
use heddle_model::identity::PodUid;
use heddle_model::resource::{ResourceKey, Version};
use tokio_util::sync::CancellationToken;

use crate::push::ledger::Ledger;
use crate::push::programmed::Link;
use crate::snapshot::{Content, Resource};

/// The proxies. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<PodUid, Record>,
    streams: BTreeMap<PodUid, (u64, CancellationToken)>,
    next_session: u64,
}

/// What is known of one proxy.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it said of itself.
    pub proxy_version: String,
    /// Its stream is open.
    pub connected: bool,
    /// What it holds, or held when its stream ended.
    pub ledger: SharedLedger,
    session: u64,
}

impl Record {
    /// Whether it can be told anything now.
    pub fn link(&self) -> Link {
        if self.connected { Link::Connected } else { Link::Disconnected }
    }
}

/// A session's ledger, which status may look at.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Of a proxy that just connected.
    pub fn new(own: PodUid, now: Version) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(own, now))))
    }

    /// For a moment; never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a proxy is connected, until it is dropped.
#[derive(Debug)]
pub struct Connected {
    proxies: Proxies,
    uid: PodUid,
    session: u64,
}

/// One of a pod's streams, from before its first message until it is dropped.
#[derive(Debug)]
pub struct Opened {
    proxies: Proxies,
    uid: PodUid,
    session: u64,
    replaced: CancellationToken,
}

impl Opened {
    /// Completes when the same pod opened another one.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Proxies {
    /// Takes note of a new stream, and ends an older one of the same pod: one workload cannot use up
    /// what there is for all.
    pub fn open(&self, uid: &PodUid) -> Opened {
        let mut state = self.lock();
        let session = state.next_session;
        state.next_session += 1;
        let replaced = CancellationToken::new();
        let former = state.streams.insert(uid.clone(), (session, replaced.clone()));
        drop(state);
        if let Some((_, former)) = former {
            former.cancel();
        }
        Opened { proxies: self.clone(), uid: uid.clone(), session, replaced }
    }

    /// Takes note of a new stream. An older one of the same proxy is forgotten: its end is on its way.
    pub fn connect(&self, uid: &PodUid, proxy_version: String, ledger: SharedLedger) -> Connected {
        let mut state = self.lock();
        let session = state.next_session;
        state.next_session += 1;
        let record = Record { proxy_version, connected: true, ledger, session };
        state.records.insert(uid.clone(), record);
        Connected { proxies: self.clone(), uid: uid.clone(), session }
    }

    /// All of them.
    pub fn all(&self) -> Vec<(PodUid, Record)> {
        self.lock().records.iter().map(|(uid, record)| (uid.clone(), record.clone())).collect()
    }

    /// The newest meaning of a service's address that some proxy took, other than what was refused.
    /// What a disconnected proxy took may be of a service that had the address before, and what one of
    /// another namespace took may be of that namespace's routes: `is_alike` tells which may stand in.
    pub fn taken(
        &self,
        key: &ResourceKey,
        refused_digest: u64,
        is_alike: impl Fn(&PodUid) -> bool,
    ) -> Option<Arc<Resource>> {
        let ledgers: Vec<SharedLedger> = self
            .lock()
            .records
            .iter()
            .filter(|(uid, record)| record.connected && is_alike(uid))
            .map(|(_, record)| record.ledger.clone())
            .collect();
        let is_service = |resource: &Resource| {
            matches!(&resource.content, Content::Destination(Destination::Service(_)))
        };
        ledgers
            .iter()
            .filter_map(|ledger| ledger.lock().taken(key))
            .filter(|(_, resource)| resource.digest != refused_digest && is_service(resource))
            .max_by_key(|(version, _)| *version)
            .map(|(_, resource)| resource)
    }

    /// How many streams are open.
    pub fn connected(&self) -> usize {
        self.lock().records.values().filter(|record| record.connected).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut state = self.proxies.lock();
        if state.streams.get(&self.uid).is_some_and(|(session, _)| *session == self.session) {
            state.streams.remove(&self.uid);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut state = self.proxies.lock();
        if let Some(record) = state.records.get_mut(&self.uid)
            && record.session == self.session
        {
            record.connected = false;
        }
        let gone = state.records.iter().filter(|(_, record)| !record.connected);
        let oldest = gone.clone().min_by_key(|(_, record)| record.session);
        let oldest = oldest.map(|(uid, _)| uid.clone()).filter(|_| gone.count() > GONE_LIMIT);
        if let Some(oldest) = oldest {
            state.records.remove(&oldest);
        }
    }
}

/// How many proxies are remembered that are not connected any more.
const GONE_LIMIT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_came_back_is_not_gone_when_its_old_stream_ends() {
        let proxies = Proxies::default();
        let uid: PodUid = "u".parse().unwrap();
        let old = proxies.connect(&uid, String::new(), SharedLedger::new(uid.clone(), Version(0)));
        let new = proxies.connect(&uid, String::new(), SharedLedger::new(uid.clone(), Version(0)));
        drop(old);
        assert_eq!(proxies.connected(), 1);
        drop(new);
        assert_eq!(proxies.connected(), 0);
        assert_eq!(proxies.all().len(), 1);
    }

    #[tokio::test]
    async fn a_pod_has_one_stream() {
        let proxies = Proxies::default();
        let uid: PodUid = "u".parse().unwrap();
        let first = proxies.open(&uid);
        let other = proxies.open(&"v".parse().unwrap());
        let second = proxies.open(&uid);
        first.replaced().await;
        drop(first);
        assert!(!second.replaced.is_cancelled() && !other.replaced.is_cancelled());
        drop(proxies.open(&uid));
        second.replaced().await;
        drop((second, other));
        assert!(proxies.lock().streams.is_empty());
    }

    #[test]
    fn only_so_many_gone_proxies_are_remembered() {
        let proxies = Proxies::default();
        for index in 0..=GONE_LIMIT + 5 {
            let uid: PodUid = format!("u{index}").parse().unwrap();
            drop(proxies.connect(&uid, String::new(), SharedLedger::new(uid.clone(), Version(0))));
        }
        assert_eq!(proxies.all().len(), GONE_LIMIT);
    }
}
