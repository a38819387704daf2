//! One resource that a proxy was sent: what it made of it, and what it acts on meanwhile. Pure; how
//! resources hang together is in `ledger.rs`.

use std::sync::Arc;

use heddle_model::names::ObjectReference;
use heddle_model::resource::Version;

use crate::push::update::Base;
use crate::snapshot::{Content, Resource};

/// A version of a resource that a proxy says it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Zero: nothing is known.
    pub version: Version,
    /// Of the content.
    pub digest: u64,
}

/// One resource that was sent, or that the proxy had already.
#[derive(Debug)]
pub struct Held {
    /// Of what was sent last.
    pub version: Version,
    /// Of what was sent last.
    pub digest: u64,
    /// What the proxy made of it.
    pub answer: Answer,
    /// What was sent last; unknown when the proxy had it since an earlier stream.
    pub(super) content: Option<Arc<Resource>>,
    /// What the proxy may act on instead, as long as it did not acknowledge what was sent last: what
    /// that needs is kept, and kept current.
    pub(super) earlier: Vec<Earlier>,
    /// What another proxy acts on, for this one that took nothing so far.
    pub(super) stand_in: Option<StandIn>,
    pub(super) was_delta: bool,
    /// A delta was refused: the whole must be sent.
    pub(super) whole_next: bool,
}

/// What is sent in place of what was refused.
#[derive(Clone, Debug)]
pub(super) enum StandIn {
    /// It has to be sent.
    Chosen(Arc<Resource>),
    /// It was.
    Sent(Arc<Resource>),
    /// The proxy acts on it.
    Taken(Arc<Resource>),
    /// The proxy refused it, too.
    Refused,
}

/// What was sent earlier.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    pub(super) version: Version,
    /// Unknown when the proxy had it since an earlier stream.
    pub(super) resource: Option<Arc<Resource>>,
}

/// What a proxy made of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// It acts on it.
    Acknowledged,
    /// It goes on with what it had. In a place of its own, since it is seldom so, and there are many answers.
    Refused(Box<Refusal>),
}

/// Why a proxy refused an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it refused.
    pub version: Version,
    /// A sentence for people.
    pub reason: String,
    /// The object at fault, if the proxy could name one.
    pub object: Option<ObjectReference>,
    /// Where in that object; may be empty.
    pub field: String,
}

/// What of a resource counts in a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: it was refused.
    None,
    /// This, if the proxy takes it.
    Outstanding(u64),
    /// This.
    Certain(u64),
}

impl Held {
    /// What was just sent, after `before`.
    pub(super) fn sent(version: Version, resource: Arc<Resource>, before: Option<&Self>) -> Self {
        Self {
            version,
            digest: resource.digest,
            answer: Answer::Pending,
            content: Some(resource),
            earlier: before.map(Self::acted_on).unwrap_or_default(),
            stand_in: None,
            was_delta: false,
            whole_next: false,
        }
    }

    pub(super) fn known(known: Known) -> Self {
        Self {
            version: known.version,
            digest: known.digest,
            answer: Answer::Acknowledged,
            content: None,
            earlier: Vec::new(),
            stand_in: None,
            was_delta: false,
            whole_next: false,
        }
    }

    /// What was sent last; `None`: the proxy had it since an earlier stream.
    pub fn content(&self) -> Option<&Resource> {
        self.content.as_deref()
    }

    /// What the proxy may act on until it acknowledges something newer.
    pub(super) fn acted_on(&self) -> Vec<Earlier> {
        let last = Earlier { version: self.version, resource: self.content.clone() };
        match (&self.answer, &self.content) {
            (Answer::Acknowledged, None) if !self.earlier.is_empty() => self.earlier.clone(),
            (Answer::Acknowledged, _) => vec![last],
            (Answer::Refused(_), _) => self.earlier.clone(),
            // The first is what it certainly took once; who does not answer at all is not waited for.
            (Answer::Pending, _) => {
                let earlier = self.earlier.iter().cloned();
                earlier.chain(std::iter::once(last)).take(EARLIER_LIMIT).collect()
            }
        }
    }

    /// What the proxy had since an earlier stream may be what there is still.
    pub(super) fn recognise(&mut self, current: &Arc<Resource>) {
        if self.content.is_none() && self.digest == current.digest {
            self.content = Some(Arc::clone(current));
            self.earlier.clear();
        }
    }

    /// The proxy took `version`. True if something may not be needed any more.
    pub(super) fn acknowledge(&mut self, version: Version) -> bool {
        if let (Answer::Refused(_), Some(StandIn::Sent(resource))) = (&self.answer, &self.stand_in)
        {
            self.stand_in = Some(StandIn::Taken(Arc::clone(resource)));
            return false;
        }
        if self.version == version {
            self.answer = Answer::Acknowledged;
        }
        let before = self.earlier.len();
        self.earlier.retain(|earlier| earlier.version >= version && self.version != version);
        self.earlier.len() < before
    }

    /// The proxy refused `version`. True if something must be sent again, whole.
    pub(super) fn refuse(&mut self, version: Version, refusal: Refusal) -> bool {
        if self.version != version {
            self.earlier.retain(|earlier| earlier.version != version);
            return false;
        }
        if let (Answer::Refused(_), Some(StandIn::Sent(_))) = (&self.answer, &self.stand_in) {
            self.stand_in = Some(StandIn::Refused);
            self.earlier.clear();
            return true;
        }
        self.answer = Answer::Refused(Box::new(refusal));
        self.whole_next = self.was_delta;
        self.whole_next
    }

    /// Whether the proxy has nothing that it could act on.
    pub(super) fn lacks_all(&self) -> bool {
        matches!(self.answer, Answer::Refused(_))
            && self.earlier.is_empty()
            && self.stand_in.is_none()
    }

    /// What the proxy took for certain, and when.
    pub(super) fn taken(&self) -> Option<(Version, Arc<Resource>)> {
        match &self.answer {
            Answer::Acknowledged => Some((self.version, Arc::clone(self.content.as_ref()?))),
            // Before it answers, the first of what it had is what it acts on, or took once.
            Answer::Pending | Answer::Refused(_) => {
                let Earlier { version, resource } = self.earlier.first()?;
                Some((*version, Arc::clone(resource.as_ref()?)))
            }
        }
    }

    /// What is to be sent in place of what was refused.
    pub(super) fn chosen(&self) -> Option<&Arc<Resource>> {
        match &self.stand_in {
            Some(StandIn::Chosen(resource)) => Some(resource),
            Some(StandIn::Sent(_) | StandIn::Taken(_) | StandIn::Refused) | None => None,
        }
    }

    /// It is sent now.
    pub(super) fn send_stand_in(&mut self, version: Version, resource: Arc<Resource>) {
        self.version = version;
        self.earlier = vec![Earlier { version, resource: Some(Arc::clone(&resource)) }];
        self.stand_in = Some(StandIn::Sent(resource));
    }

    /// The digest of what the proxy should hold, if it is outstanding or there is any.
    pub(super) fn standing(&self) -> Standing {
        match (&self.answer, &self.stand_in) {
            (Answer::Pending, _) => Standing::Outstanding(self.digest),
            (Answer::Acknowledged, _) => Standing::Certain(self.digest),
            (Answer::Refused(_), Some(StandIn::Sent(resource))) => {
                Standing::Outstanding(resource.digest)
            }
            (Answer::Refused(_), Some(StandIn::Taken(resource))) => {
                Standing::Certain(resource.digest)
            }
            (Answer::Refused(_), Some(StandIn::Chosen(_) | StandIn::Refused) | None) => {
                Standing::None
            }
        }
    }

    /// What a delta can be made from: not after a refusal, since it is not known what the proxy has.
    pub(super) fn delta_base(&self) -> Option<Base> {
        if matches!(self.answer, Answer::Refused(_)) {
            return None;
        }
        let resource = self.content.as_ref()?;
        match &resource.content {
            Content::Endpoints(_) => {
                Some(Base { version: self.version, resource: Arc::clone(resource) })
            }
            Content::Workload(_) | Content::Destination(_) => None,
        }
    }
}

/// How many updates in a row a proxy may leave without an answer before it loses what the later ones need.
const EARLIER_LIMIT: usize = 8;
