//! What the endpoints of a service may be used for, and which of them are: the one place that decides when a pod that
//! Kubernetes calls not ready is used all the same. Why: `docs/adr/0009-a-last-resort.md`.

use std::collections::BTreeMap;

use super::backing::Pods;
use crate::translate::endpoint_slice::{Readiness, SliceEndpoint, Target};

/// What an endpoint may be used for, the best first. All of the best kind that there is are used, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Everything.
    Ready,
    /// It is about to end, and serves.
    Ending,
    /// Kubernetes calls its pod not ready, which said itself that it is when its node was last heard of.
    Unheard,
    /// The same, of one that is about to end.
    UnheardEnding,
}

impl Standing {
    /// What an endpoint may be used for; `None`: nothing, since its pod says so itself, or nobody says otherwise.
    ///
    /// What the pod said last may be older than its slice, or newer: they are told by two watches. Whichever comes
    /// first, a pod that always said that it is ready has a standing at every moment between, on the way out as on the
    /// way back.
    pub(super) fn of(endpoint: &SliceEndpoint, pods: &Pods) -> Option<Self> {
        let says_ready = match &endpoint.target {
            Target::Pod(uid) => pods.by_uid.get(uid).is_some_and(|pod| pod.says_ready),
            Target::ByAddress => false,
        };
        match endpoint.readiness {
            Readiness::Ready => Some(Self::Ready),
            Readiness::Ending => Some(Self::Ending),
            Readiness::PodNotReady { ending: false } => says_ready.then_some(Self::Unheard),
            Readiness::PodNotReady { ending: true } => says_ready.then_some(Self::UnheardEnding),
            Readiness::NotReady => None,
        }
    }

    /// Kubernetes calls it not ready.
    pub(super) fn is_last_resort(self) -> bool {
        match self {
            Self::Ready | Self::Ending => false,
            Self::Unheard | Self::UnheardEnding => true,
        }
    }
}

/// The endpoints of one port, by what they may be used for.
#[derive(Debug)]
pub(super) struct Standings<K, V>(BTreeMap<Standing, BTreeMap<K, V>>);

/// Which of them are used.
#[derive(Debug)]
pub(super) struct Chosen<K, V> {
    pub(super) used: BTreeMap<K, V>,
    /// Kubernetes calls those that are used not ready.
    pub(super) last_resort: bool,
    /// What Kubernetes calls not ready, and is not needed.
    pub(super) spare: Vec<K>,
}

impl<K: Ord, V> Standings<K, V> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, standing: Standing, key: K, value: V) {
        self.0.entry(standing).or_default().insert(key, value);
    }

    /// All of the best kind.
    pub(super) fn choose(mut self) -> Chosen<K, V> {
        let Some((standing, used)) = self.0.pop_first() else {
            return Chosen { used: BTreeMap::new(), last_resort: false, spare: Vec::new() };
        };
        let left = self.0.into_iter().filter(|(standing, _)| standing.is_last_resort());
        // What is listed twice, once as it was before, is not both.
        let spare = left.flat_map(|(_, others)| others.into_keys());
        let spare = spare.filter(|key| !used.contains_key(key)).collect();
        Chosen { last_resort: standing.is_last_resort(), spare, used }
    }
}
