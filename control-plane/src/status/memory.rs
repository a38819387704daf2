//! What was written on which object, and what is due. Pure: the writing is in `writer.rs`.
//!
//! What is new of an object is written at once. How far proxies have come changes all the time while they
//! come along, and is written when it has settled, or when that takes long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heddle_model::names::ObjectReference;
use tokio::time::Instant;

use crate::status::written::Said;
use crate::status::{Condition, ConditionKind, ConditionState};

/// What was written, and what should be.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<ObjectReference, Entry>);

#[derive(Debug)]
struct Entry {
    wanted: Said,
    /// Since when it is wanted just so.
    settled: Instant,
    /// Since when something else is wanted than was written.
    differs: Instant,
    written: Option<Said>,
    /// Not before, after a failure.
    not_before: Instant,
}

impl Memory {
    /// Takes note of what should be written by now; objects that are not among it are gone.
    pub fn want(&mut self, all: Vec<(ObjectReference, Said)>, now: Instant) {
        let present: BTreeSet<ObjectReference> =
            all.iter().map(|(reference, _)| reference.clone()).collect();
        self.0.retain(|reference, _| present.contains(reference));
        for (reference, said) in all {
            match self.0.get_mut(&reference) {
                None => {
                    let entry = Entry {
                        wanted: said,
                        settled: now,
                        differs: now,
                        written: None,
                        not_before: now,
                    };
                    self.0.insert(reference, entry);
                }
                Some(entry) if entry.wanted == said => {}
                Some(entry) => {
                    if entry.written.as_ref() == Some(&entry.wanted) {
                        entry.differs = now;
                    }
                    entry.wanted = said;
                    entry.settled = now;
                }
            }
        }
    }

    /// What is to be written now, the longest waiting first, and no more than `limit`.
    pub fn due(&self, now: Instant, limit: usize) -> Vec<(ObjectReference, Said)> {
        let mut found: Vec<(&ObjectReference, &Entry)> =
            self.0.iter().filter(|(_, entry)| entry.is_due(now)).collect();
        found.sort_by_key(|(_, entry)| entry.differs);
        let chosen = found.into_iter().take(limit);
        chosen.map(|(reference, entry)| (reference.clone(), entry.wanted.clone())).collect()
    }

    /// This is on the object now.
    pub fn wrote(&mut self, reference: &ObjectReference, said: Said) {
        if let Some(entry) = self.0.get_mut(reference) {
            entry.written = Some(said);
        }
    }

    /// It could not be written.
    pub fn failed(&mut self, reference: &ObjectReference, now: Instant) {
        if let Some(entry) = self.0.get_mut(reference) {
            entry.not_before = now + RETRY;
        }
    }

    /// Trusts nothing that was written: somebody else may have changed it.
    pub fn forget(&mut self) {
        for entry in self.0.values_mut() {
            entry.written = None;
        }
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        if self.written.as_ref() == Some(&self.wanted) || now < self.not_before {
            return false;
        }
        let Some(written) = &self.written else { return true };
        is_news(written, &self.wanted)
            || now.duration_since(self.settled) >= SETTLE
            || now.duration_since(self.differs) >= SETTLE_LIMIT
    }
}

/// Whether more has changed than how far proxies have come.
fn is_news(written: &Said, wanted: &Said) -> bool {
    fn decided(said: &Said) -> impl Iterator<Item = &Condition> {
        let of_parents = said.parents.iter().flat_map(|(_, conditions)| conditions);
        said.conditions.iter().chain(of_parents).filter(|one| one.kind != ConditionKind::Programmed)
    }
    let refused = |said: &Said| {
        said.conditions
            .iter()
            .any(|one| one.kind == ConditionKind::Programmed && one.state == ConditionState::False)
    };
    written.revision != wanted.revision
        || !decided(written).eq(decided(wanted))
        || refused(written) != refused(wanted)
}

/// How long nothing may change before it is taken for settled.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a change waits at most.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Revision;

    fn said(generation: i64, state: ConditionState, message: &str) -> Said {
        let revision = Revision {
            api_version: "v1".to_owned(),
            uid: "u".to_owned(),
            generation: Some(generation),
        };
        let programmed = Condition {
            kind: ConditionKind::Programmed,
            state,
            reason: "Programmed",
            message: message.to_owned(),
        };
        let conditions = vec![Condition::accepted(String::new()), programmed];
        Said { revision, conditions, parents: Vec::new() }
    }

    fn reference() -> ObjectReference {
        ObjectReference { kind: "HTTPRoute".into(), namespace: "shop".into(), name: "a".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_written_when_it_has_settled_and_news_at_once() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let due = |memory: &Memory, now| memory.due(now, 10).len();
        let open = |message: &str| said(1, ConditionState::Unknown, message);
        let mut memory = Memory::default();
        memory.want(vec![(reference(), open("0 of 9"))], begin);
        assert_eq!(due(&memory, begin), 1, "a new object");
        memory.wrote(&reference(), open("0 of 9"));
        assert_eq!(due(&memory, after(60)), 0);
        for second in 0..10 {
            memory.want(vec![(reference(), open(&format!("{second} of 9 then")))], after(second));
            assert_eq!(due(&memory, after(second)), 0, "it is not settled at {second}");
        }
        assert_eq!(due(&memory, after(10)), 1, "it took long");
        memory.wrote(&reference(), open("9 of 9 then"));
        memory.want(vec![(reference(), open("8 of 9"))], after(20));
        assert_eq!((due(&memory, after(21)), due(&memory, after(22))), (0, 1));
        for (case, news) in [
            ("a refusal", said(1, ConditionState::False, "8 of 9; x refused it")),
            ("another generation", said(2, ConditionState::Unknown, "8 of 9")),
        ] {
            memory.want(vec![(reference(), news)], after(21));
            assert_eq!(due(&memory, after(21)), 1, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_later_and_what_is_gone_is_forgotten() {
        let begin = Instant::now();
        let mut memory = Memory::default();
        memory.want(vec![(reference(), said(1, ConditionState::True, ""))], begin);
        memory.failed(&reference(), begin);
        assert!(memory.due(begin + RETRY / 2, 10).is_empty());
        assert_eq!(memory.due(begin + RETRY, 10).len(), 1);
        assert!(memory.due(begin + RETRY, 0).is_empty());
        memory.wrote(&reference(), said(1, ConditionState::True, ""));
        assert!(memory.due(begin + RETRY, 10).is_empty());
        memory.forget();
        assert_eq!(memory.due(begin + RETRY, 10).len(), 1);
        memory.want(Vec::new(), begin);
        assert!(memory.due(begin + RETRY, 10).is_empty());
    }
}
