//! What proxies tell of traces that are followed, until one of them is whole. Pure: time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_proto::tap as wire;
use tokio::time::Instant;

/// What was told so far, by trace.
#[derive(Debug, Default)]
pub struct Gathered {
    traces: BTreeMap<Vec<u8>, Vec<wire::Exchange>>,
    /// In the order of their first exchanges, so that the oldest goes when there are too many.
    order: Vec<Vec<u8>>,
    chosen: Option<Chosen>,
}

#[derive(Debug)]
struct Chosen {
    trace: Vec<u8>,
    at: Instant,
    heard_at: Instant,
}

impl Gathered {
    /// Takes what a proxy tells. The first trace of which a request matches is the one that is shown.
    pub fn take(&mut self, told: wire::Exchange, now: Instant) {
        let Some(trace) = told.trace.as_ref().map(|ids| ids.trace.clone()) else { return };
        if let Some(chosen) = &mut self.chosen {
            if chosen.trace != trace {
                return;
            }
            chosen.heard_at = now;
        } else if told.is_match {
            self.chosen = Some(Chosen { trace: trace.clone(), at: now, heard_at: now });
        }
        if !self.traces.contains_key(&trace) {
            self.order.push(trace.clone());
        }
        let exchanges = self.traces.entry(trace).or_default();
        if exchanges.len() < EXCHANGES_LIMIT {
            exchanges.push(told);
        }
        if self.order.len() > TRACES_LIMIT && self.chosen.is_none() {
            let oldest = self.order.remove(0);
            self.traces.remove(&oldest);
        }
    }

    /// When the chosen trace counts as whole, if nothing more comes; `None`: none is chosen.
    pub fn whole_at(&self) -> Option<Instant> {
        let chosen = self.chosen.as_ref()?;
        let exchanges = self.traces.get(&chosen.trace)?;
        let is_root = |told: &wire::Exchange| {
            told.trace.as_ref().is_some_and(|ids| !ids.span.is_empty() && ids.parent.is_empty())
        };
        // The outermost is told last.
        let quiet = if exchanges.iter().any(is_root) { QUIET_AFTER_ROOT } else { QUIET };
        Some((chosen.heard_at + quiet).min(chosen.at + LONGEST))
    }

    /// The chosen trace: its id, and what was told of it.
    pub fn into_chosen(mut self) -> Option<(Vec<u8>, Vec<wire::Exchange>)> {
        let trace = self.chosen?.trace;
        let exchanges = self.traces.remove(&trace)?;
        Some((trace, exchanges))
    }
}

/// More calls than anybody reads.
const EXCHANGES_LIMIT: usize = 1000;
/// Requests that are under way while one is waited for that matches in the end.
const TRACES_LIMIT: usize = 256;
/// What other proxies and replicas tell comes another way, and a little later.
const QUIET_AFTER_ROOT: Duration = Duration::from_secs(1);
/// Where it is not known which call is the outermost.
const QUIET: Duration = Duration::from_secs(5);

/// Many requests may be of one trace, so that it is never quiet.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::tests::exchange;

    fn told(trace: u8, is_match: bool, parent: &[u8]) -> wire::Exchange {
        let ids =
            wire::TraceIds { trace: vec![trace; 16], span: vec![1; 8], parent: parent.into() };
        let told = exchange(wire::Side::Inbound, "api-1", "web");
        wire::Exchange { trace: Some(ids), is_match, ..told }
    }

    #[test]
    fn the_first_that_matches_is_shown_with_what_was_told_before() {
        let now = Instant::now();
        let mut gathered = Gathered::default();
        gathered.take(told(1, false, &[9; 8]), now);
        gathered.take(told(2, false, &[9; 8]), now);
        assert_eq!(gathered.whole_at(), None);
        gathered.take(told(2, true, &[9; 8]), now);
        assert_eq!(gathered.whole_at(), Some(now + QUIET));
        gathered.take(told(1, true, &[]), now + Duration::from_secs(1));
        assert_eq!(gathered.whole_at(), Some(now + QUIET), "another trace");
        gathered.take(told(2, false, &[]), now + Duration::from_secs(1));
        let whole = now + Duration::from_secs(1) + QUIET_AFTER_ROOT;
        assert_eq!(gathered.whole_at(), Some(whole), "its outermost call");
        gathered.take(told(2, false, &[9; 8]), now + Duration::from_secs(10));
        assert_eq!(gathered.whole_at(), Some(now + LONGEST), "it goes on and on");
        let (trace, exchanges) = gathered.into_chosen().unwrap();
        assert_eq!((trace, exchanges.len()), (vec![2; 16], 4));
    }

    #[test]
    fn what_nobody_waits_for_is_not_kept_for_ever() {
        let now = Instant::now();
        let mut gathered = Gathered::default();
        for number in 0..2000_u128 {
            let mut told = told(1, false, &[]);
            told.trace = Some(wire::TraceIds {
                trace: number.to_be_bytes().to_vec(),
                ..wire::TraceIds::default()
            });
            gathered.take(told, now);
        }
        assert_eq!((gathered.traces.len(), gathered.order.len()), (TRACES_LIMIT, TRACES_LIMIT));
        for _ in 0..2000 {
            gathered.take(told(7, true, &[]), now);
        }
        assert_eq!(gathered.into_chosen().unwrap().1.len(), EXCHANGES_LIMIT);
    }
}
