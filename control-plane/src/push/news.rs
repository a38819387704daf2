//! What is different from one snapshot to the next, where that is little: so that a session need not look at all that its
//! proxy holds when one endpoint somewhere has changed. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use heddle_model::resource::{ResourceKey, Version};

/// What the last snapshots changed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Everything that has changed since the snapshot of this version is known.
    since: Version,
    steps: Arc<VecDeque<Step>>,
}

/// What one snapshot changed.
#[derive(Clone, Debug)]
struct Step {
    version: Version,
    keys: Arc<[ResourceKey]>,
}

impl News {
    /// Of a snapshot of which nothing is known but that it is there.
    pub fn of(version: Version) -> Self {
        Self { since: version, steps: Arc::default() }
    }

    /// The same, and what the snapshot of this version changed in addition; `None`: anything. It is newer than all before.
    #[must_use]
    pub fn and(&self, version: Version, changed: Option<Vec<ResourceKey>>) -> Self {
        let Some(keys) = changed.filter(|keys| keys.len() <= KEYS_LIMIT) else {
            return Self::of(version);
        };
        let Self { mut since, mut steps } = self.clone();
        let list = Arc::make_mut(&mut steps);
        list.push_back(Step { version, keys: keys.into() });
        if list.len() > STEPS_LIMIT
            && let Some(forgotten) = list.pop_front()
        {
            since = forgotten.version;
        }
        Self { since, steps }
    }

    /// What may be different from what it was in the snapshot of this version, some of it more than once; `None`: anything.
    /// All else is what it was.
    pub fn since(&self, version: Version) -> Option<impl Iterator<Item = &ResourceKey>> {
        let newer = self.steps.iter().rev().take_while(move |step| step.version > version);
        (version >= self.since).then(|| newer.flat_map(|step| step.keys.iter()))
    }
}

/// A session that is further behind looks at everything. It takes more than this many changes while one proxy is written to.
const STEPS_LIMIT: usize = 32;
/// To look for more than this costs a session as much as to look at everything.
const KEYS_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u64) -> ResourceKey {
        let last = u8::try_from(last % 250).unwrap();
        ResourceKey::Destination(([10, 0, 0, last], 80).into())
    }

    fn since(news: &News, version: u64) -> Option<Vec<ResourceKey>> {
        Some(news.since(Version(version))?.cloned().collect())
    }

    #[test]
    fn what_has_changed_since_is_what_all_later_snapshots_changed() {
        let news = News::of(Version(4));
        let news = news.and(Version(6), Some(vec![key(1)])).and(Version(8), Some(vec![]));
        let news = news.and(Version(9), Some(vec![key(2), key(3)]));
        let some = |keys: &[u64]| Some(keys.iter().map(|last| key(*last)).collect::<Vec<_>>());
        for (version, expected) in [
            (3, None),
            (4, some(&[2, 3, 1])),
            (6, some(&[2, 3])),
            (8, some(&[2, 3])),
            (9, some(&[])),
        ] {
            assert_eq!(since(&news, version), expected, "case: {version}");
        }
        let anything = news.and(Version(10), None);
        assert_eq!(since(&anything, 9), None);
        assert_eq!(since(&anything, 10), some(&[]));
    }

    #[test]
    fn no_more_is_kept_than_is_worth_it() {
        let mut news = News::of(Version(0));
        let last = u64::try_from(STEPS_LIMIT).unwrap() + 5;
        for version in 1..=last {
            news = news.and(Version(version), Some(vec![key(version)]));
        }
        assert_eq!(news.steps.len(), STEPS_LIMIT);
        assert_eq!(since(&news, 4), None);
        assert_eq!(since(&news, 5).unwrap().len(), STEPS_LIMIT);
        let many = news.and(Version(last + 1), Some(vec![key(0); KEYS_LIMIT + 1]));
        assert_eq!(since(&many, last), None);
    }
}
