//! Who wants to know of single requests. Asked at a request's head; of most requests nobody does, and
//! then nothing is kept of them.

use std::fmt;
use std::sync::Arc;

use http::Request;

use crate::http::body::Body;
use crate::http::call_record::CallRecord;
use crate::metrics::Direction;

/// Wants to know of requests, or does not.
pub trait Witness: fmt::Debug + Send + Sync {
    /// How much it wants to know of this request, which it may add to. Called for every request: if
    /// nothing is wanted of any, it is to cost no more than reading a flag.
    fn wants(&self, request: &mut Request<Body>, asked: &Asking<'_>) -> Interest;

    /// Whether it may want to know of the next request, or add to it. Asked before the request is looked at: if nobody
    /// may, [`Self::wants`] is not called for it, and [`Self::passed_over`] is.
    fn may_want(&self) -> bool {
        true
    }

    /// There was a request that nobody was asked about.
    fn passed_over(&self) {}

    /// It is over. Not to be waited in: what cannot be taken at once is dropped, and counted.
    fn tell(&self, record: &CallRecord<'_>);
}

/// Where a request was seen.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called, as `namespace/name:port`; empty for inbound.
    pub service: &'a str,
    /// Inbound: who called, by its certificate; empty: nobody known.
    pub caller: &'a str,
}

/// How much is wanted to be known of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// Nothing: it is not told of.
    #[default]
    Nothing,
    /// All but headers.
    Call,
    /// The headers of the request and of its response too.
    Headers,
}

/// All who want to know. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(Arc<[Arc<dyn Witness>]>);

impl Witnesses {
    /// Of these.
    pub fn new(all: Vec<Arc<dyn Witness>>) -> Self {
        Self(all.into())
    }

    /// These, and one more.
    pub fn with(&self, another: Arc<dyn Witness>) -> Self {
        Self(self.0.iter().map(Arc::clone).chain([another]).collect())
    }

    /// Who wants to know of this request, and how much is kept for them.
    pub fn ask(&self, request: &mut Request<Body>, asked: &Asking<'_>) -> (Interest, Interested) {
        let mut most = Interest::Nothing;
        let mut interested = Interested(0);
        for (number, witness) in self.0.iter().enumerate() {
            let interest = witness.wants(request, asked);
            if interest > Interest::Nothing {
                interested.0 |= 1 << number;
            }
            most = most.max(interest);
        }
        (most, interested)
    }

    /// Whether somebody has to be asked about the next request. If not, it counts as one that nobody wants to know of.
    pub fn have_to_be_asked(&self) -> bool {
        let may_want = self.0.iter().any(|witness| witness.may_want());
        if !may_want {
            for witness in self.0.iter() {
                witness.passed_over();
            }
        }
        may_want
    }

    /// Tells those who wanted to know.
    pub fn tell(&self, interested: Interested, record: &CallRecord<'_>) {
        for (number, witness) in self.0.iter().enumerate() {
            if interested.0 & (1 << number) != 0 {
                witness.tell(record);
            }
        }
    }
}

/// Which of the witnesses want to know, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interested(u32);
