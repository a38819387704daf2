//! Which sessions a change concerns, so that the others sleep on: a thousand proxies are connected, and most changes are of
//! a service that few of them call.
//!
//! Resources are known by hashes of their keys. Two that share one wake a session that finds nothing, and cost no more.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_model::resource::ResourceKey;
use tokio::sync::Notify;

/// What all sessions wait for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interests(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<u64, Arc<Notify>>,
    /// Those that wait for anything.
    of_anything: BTreeSet<u64>,
    by_key: HashMap<u64, Vec<u64>>,
    next: u64,
}

/// What one session waits for; at first, anything.
#[derive(Debug)]
pub struct Interest {
    interests: Interests,
    session: u64,
    notify: Arc<Notify>,
    scope: Scope,
}

/// In what.
#[derive(Debug)]
enum Scope {
    Anything,
    /// Hashes of keys, in order.
    Keys(Vec<u64>),
}

impl Interests {
    /// A new session's.
    pub fn open(&self) -> Interest {
        let notify = Arc::new(Notify::new());
        let mut state = self.lock();
        let session = state.next;
        state.next += 1;
        state.sessions.insert(session, Arc::clone(&notify));
        state.of_anything.insert(session);
        drop(state);
        Interest { interests: self.clone(), session, notify, scope: Scope::Anything }
    }

    /// Wakes those whom a change concerns: `changed` is what is different, `None` stands for anything. To be called once the
    /// new snapshot can be looked at.
    pub fn wake(&self, changed: Option<&[ResourceKey]>) {
        let state = self.lock();
        let Some(changed) = changed else {
            state.sessions.values().for_each(|session| session.notify_one());
            return;
        };
        let keys = changed.iter().filter_map(|key| state.by_key.get(&hash(key)));
        let concerned: BTreeSet<u64> = keys.flatten().copied().collect();
        for session in concerned.union(&state.of_anything) {
            if let Some(notify) = state.sessions.get(session) {
                notify.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: u64, session: u64) {
        self.by_key.entry(key).or_default().push(session);
    }

    fn remove(&mut self, key: u64, session: u64) {
        let Some(sessions) = self.by_key.get_mut(&key) else { return };
        if let Some(place) = sessions.iter().position(|known| *known == session) {
            sessions.swap_remove(place);
        }
        if sessions.is_empty() {
            self.by_key.remove(&key);
        }
    }
}

impl Interest {
    /// Completes when there was a change that concerns the session, since this last completed.
    ///
    /// Cancel safe: yes.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// From now on anything concerns it.
    pub fn anything(&mut self) {
        match &self.scope {
            Scope::Anything => {}
            Scope::Keys(_) => {
                self.forget();
                self.interests.lock().of_anything.insert(self.session);
                self.scope = Scope::Anything;
            }
        }
    }

    /// From now on only these concern it. What was published before this returns may have woken nobody: look again.
    pub fn only(&mut self, keys: impl Iterator<Item = ResourceKey>) {
        let mut hashes: Vec<u64> = keys.map(|key| hash(&key)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let before = match &self.scope {
            Scope::Anything => &[][..],
            Scope::Keys(before) => before,
        };
        let is_in = |all: &[u64], key: &u64| all.binary_search(key).is_ok();
        {
            let mut state = self.interests.lock();
            for key in before.iter().filter(|key| !is_in(&hashes, key)) {
                state.remove(*key, self.session);
            }
            for key in hashes.iter().filter(|key| !is_in(before, key)) {
                state.add(*key, self.session);
            }
            state.of_anything.remove(&self.session);
        }
        self.scope = Scope::Keys(hashes);
    }

    fn forget(&self) {
        let mut state = self.interests.lock();
        match &self.scope {
            Scope::Anything => {
                state.of_anything.remove(&self.session);
            }
            Scope::Keys(keys) => keys.iter().for_each(|key| state.remove(*key, self.session)),
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.forget();
        self.interests.lock().sessions.remove(&self.session);
    }
}

fn hash(key: &ResourceKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key(last: u8) -> ResourceKey {
        ResourceKey::Destination(([10, 0, 0, last], 80).into())
    }

    fn woken(all: &[&Interest]) -> Vec<bool> {
        all.iter().map(|interest| interest.changed().now_or_never().is_some()).collect()
    }

    #[test]
    fn only_those_are_woken_whom_a_change_concerns() {
        let interests = Interests::default();
        let (mut one, mut two, new) = (interests.open(), interests.open(), interests.open());
        one.only([key(1), key(2)].into_iter());
        two.only([key(2), key(3), key(2)].into_iter());
        for (case, changed, expected) in [
            ("nobody's", Some(vec![key(9)]), [false, false, true]),
            ("one's", Some(vec![key(1)]), [true, false, true]),
            ("both's, several times", Some(vec![key(2), key(1), key(2)]), [true, true, true]),
            ("nothing", Some(vec![]), [false, false, true]),
            ("anything", None, [true, true, true]),
        ] {
            interests.wake(changed.as_deref());
            assert_eq!(woken(&[&one, &two, &new]), expected, "case: {case}");
            assert_eq!(woken(&[&one, &two, &new]), [false; 3], "once: {case}");
        }
    }

    #[test]
    fn what_a_session_waits_for_changes_and_ends_with_it() {
        let interests = Interests::default();
        let mut one = interests.open();
        one.only([key(1), key(2)].into_iter());
        one.only([key(2), key(3)].into_iter());
        for (changed, expected) in [(1, false), (2, true), (3, true)] {
            interests.wake(Some(&[key(changed)]));
            assert_eq!(woken(&[&one]), [expected], "case: {changed}");
        }
        one.anything();
        interests.wake(Some(&[key(1)]));
        assert_eq!(woken(&[&one]), [true]);
        one.only([key(4)].into_iter());
        interests.wake(Some(&[key(2)]));
        assert_eq!(woken(&[&one]), [false]);
        drop((one, interests.open()));
        let state = interests.lock();
        assert!(state.sessions.is_empty() && state.by_key.is_empty());
        assert!(state.of_anything.is_empty());
    }
}
