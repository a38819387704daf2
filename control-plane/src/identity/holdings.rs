//! What proxies told of the trust bundle and the certificate that they go by. Each speaks for itself only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_model::identity::PodUid;
use heddle_tls::digest::Digest;

/// What one proxy goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Of its trust bundle.
    pub bundle: Digest,
    /// Of its certificate's issuer; `None`: it did not say.
    pub issuer: Option<Digest>,
    /// Of its certificate; in seconds since 1970.
    pub not_after: i64,
}

/// What all of them go by. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    holdings: BTreeMap<PodUid, (u64, Holding)>,
    told: u64,
}

impl Holdings {
    /// Takes note of what a proxy told.
    pub fn record(&self, uid: PodUid, holding: Holding) {
        let mut state = self.lock();
        state.told += 1;
        let told = state.told;
        state.holdings.insert(uid, (told, holding));
        if state.holdings.len() > LIMIT {
            let oldest = state.holdings.iter().min_by_key(|(_, (told, _))| *told);
            if let Some(oldest) = oldest.map(|(uid, _)| uid.clone()) {
                state.holdings.remove(&oldest);
            }
        }
    }

    /// What a proxy told last; `None`: nothing.
    pub fn of(&self, uid: &PodUid) -> Option<Holding> {
        self.lock().holdings.get(uid).map(|(_, holding)| *holding)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half as many again as proxies that can be connected at once.
const LIMIT: usize = 15_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_a_proxy_told_counts_and_the_oldest_of_all_goes_first() {
        let holdings = Holdings::default();
        let holding =
            |not_after| Holding { bundle: heddle_tls::digest::of(b"b"), issuer: None, not_after };
        let uid = |index: usize| -> PodUid { format!("u{index}").parse().unwrap() };
        for index in 0..LIMIT {
            holdings.record(uid(index), holding(1));
        }
        holdings.record(uid(0), holding(2));
        holdings.record(uid(LIMIT), holding(1));
        assert_eq!(holdings.of(&uid(0)).map(|holding| holding.not_after), Some(2));
        assert_eq!(holdings.of(&uid(1)), None);
        assert!(holdings.of(&uid(2)).is_some() && holdings.of(&uid(LIMIT)).is_some());
    }
}
