//! What one proxy holds, and what it lacks. Pure: `session.rs` sends what [`Ledger::next_update`] says
//! and tells the ledger what the proxy answers. One resource of it is in `held.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use heddle_model::identity::PodUid;
use heddle_model::names::ServicePort;
use heddle_model::resource::{ResourceKey, Version};
use heddle_proto::discovery as wire;

use crate::push::held::{Held, Known, Refusal, StandIn, Standing};
use crate::push::update::{Update, What};
use crate::snapshot::{Resource, Snapshot};

/// What one proxy holds.
#[derive(Debug)]
pub struct Ledger {
    own: PodUid,
    subscriptions: BTreeSet<ResourceKey>,
    held: BTreeMap<ResourceKey, Held>,
    /// Endpoints that the proxy says it holds since an earlier stream: which of them it needs is not
    /// known before it took something newer in place of every destination that it came with.
    brought: BTreeSet<ServicePort>,
    /// Endpoints that subscribed destinations refer to.
    needed: BTreeSet<ServicePort>,
    plan: VecDeque<ResourceKey>,
    /// The snapshot that the plan follows from; `None` where something else has happened since that it has to follow.
    planned: Option<Version>,
    /// How often all was looked at.
    plans: u64,
    counts: Counts,
    /// The highest version that the proxy says it has, or had, of anything.
    known: Version,
    /// A version above this cannot have been sent by any control plane.
    ceiling: Version,
}

/// What was answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Updates that the proxy took.
    pub acknowledged: u64,
    /// Updates that the proxy refused.
    pub refused: u64,
    /// The highest version that it took.
    pub acknowledged_version: Version,
}

/// Whether outstanding answers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// They are.
    Left,
    /// No more: whoever does not answer may be stuck, which a digest finds out.
    Over,
}

/// A subscription that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubscribed {
    /// Another pod's own configuration.
    #[error("pod {own} may not subscribe to workload {asked}")]
    OtherWorkload {
        /// Who asks.
        own: PodUid,
        /// For whose.
        asked: PodUid,
    },
    /// The limit is reached.
    #[error("more than {SUBSCRIPTIONS_LIMIT} subscriptions")]
    TooMany,
    /// No control plane ever sent such a version.
    #[error("version {0} is no version")]
    ImpossibleVersion(Version),
}

impl Ledger {
    /// Of a proxy that just connected; `now` is the version that the clock would give at present.
    pub fn new(own: PodUid, now: Version) -> Self {
        Self {
            own,
            subscriptions: BTreeSet::new(),
            held: BTreeMap::new(),
            brought: BTreeSet::new(),
            needed: BTreeSet::new(),
            plan: VecDeque::new(),
            planned: None,
            plans: 0,
            counts: Counts::default(),
            known: Version::default(),
            ceiling: Version(now.0.saturating_add(CLOCK_ERROR_LIMIT_MICROS)),
        }
    }

    /// Takes note of the highest version that the proxy holds, of whatever resource.
    pub fn resume(&mut self, known: Version) -> Result<(), NotSubscribed> {
        self.check(known)?;
        self.known = self.known.max(known);
        Ok(())
    }

    fn check(&self, known: Version) -> Result<(), NotSubscribed> {
        if known > self.ceiling {
            return Err(NotSubscribed::ImpossibleVersion(known));
        }
        Ok(())
    }

    /// Takes note of what the proxy wants, and has. [`Ledger::follow`] then finds what follows.
    pub fn subscribe(&mut self, key: ResourceKey, known: Known) -> Result<(), NotSubscribed> {
        self.check(known.version)?;
        let room = match &key {
            ResourceKey::Endpoints(_) => self.held.len() < HELD_LIMIT,
            ResourceKey::Workload(_) | ResourceKey::Destination(_) => {
                self.subscriptions.len() < SUBSCRIPTIONS_LIMIT || self.subscriptions.contains(&key)
            }
        };
        if !room {
            return Err(NotSubscribed::TooMany);
        }
        match &key {
            ResourceKey::Workload(asked) if *asked != self.own => {
                let own = self.own.clone();
                return Err(NotSubscribed::OtherWorkload { own, asked: asked.clone() });
            }
            // Implied by destinations; to name them is to say what is held of them.
            ResourceKey::Endpoints(port) => {
                self.brought.insert(port.clone());
            }
            ResourceKey::Workload(_) | ResourceKey::Destination(_) => {
                let again = !self.subscriptions.insert(key.clone());
                if again {
                    self.distrust_endpoints_of(&key);
                }
            }
        }
        self.planned = None;
        self.known = self.known.max(known.version);
        // What it says counts for more than what was sent: it asks anew when the two differ.
        let before = self.held.remove(&key);
        if known.version > Version::default() {
            let mut held = Held::known(known);
            held.earlier = before.map(|held| held.acted_on()).unwrap_or_default();
            held.earlier.retain(|earlier| earlier.version == known.version);
            self.held.insert(key, held);
        }
        Ok(())
    }

    /// A proxy that asks anew found that it holds something else than it should; it may be the
    /// endpoints, which it does not ask for.
    fn distrust_endpoints_of(&mut self, key: &ResourceKey) {
        let content = self.held.get(key).and_then(|held| held.content.clone());
        for port in content.iter().flat_map(|resource| resource.needs()) {
            self.held.remove(&ResourceKey::Endpoints(port.clone()));
        }
    }

    /// Takes note of what the proxy does not want any more.
    pub fn unsubscribe(&mut self, key: &ResourceKey) {
        self.planned = None;
        self.subscriptions.remove(key);
        if !matches!(key, ResourceKey::Endpoints(_)) {
            self.held.remove(key);
        }
    }

    /// Finds out what to look at since there is a newer snapshot, or something else has happened. Where nothing has but that
    /// some resources are different ones, only those are looked at that the proxy is told of; which endpoints it needs is
    /// said by others. A thousand proxies are asked this whenever an endpoint changes somewhere.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let Some(changed) = self.planned.and_then(|planned| snapshot.news.since(planned)) else {
            return self.plan(snapshot);
        };
        for key in changed {
            if self.is_needed(key) && !self.plan.contains(key) {
                // Nothing that is to be sent yet may need it newer than it is.
                self.plan.push_front(key.clone());
            }
        }
        self.planned = Some(snapshot.version);
    }

    /// Whether there may be something to send.
    pub fn is_behind(&self) -> bool {
        !self.plan.is_empty()
    }

    /// Finds out in which order to look for what the proxy lacks: endpoints before the destinations
    /// that need them, and what nothing needs any more at the end.
    fn plan(&mut self, snapshot: &Snapshot) {
        let mut plan = VecDeque::new();
        let mut needed: BTreeSet<ServicePort> = BTreeSet::new();
        let mut all_is_known = true;
        for key in &self.subscriptions {
            let current = snapshot.contents.resource(key, &self.own);
            if let (Some(held), Some(current)) = (self.held.get_mut(key), &current) {
                held.recognise(current);
            }
            // Taken back only when what follows is acknowledged: it may be refused.
            let acted_on = self.held.get(key).map(Held::acted_on).unwrap_or_default();
            // A workload needs nothing.
            all_is_known &= matches!(key, ResourceKey::Workload(_))
                || acted_on.iter().all(|earlier| earlier.resource.is_some());
            let acted_on = acted_on.into_iter().filter_map(|earlier| earlier.resource);
            let chosen = self.held.get(key).and_then(Held::chosen).cloned();
            for resource in current.into_iter().chain(acted_on).chain(chosen) {
                for port in resource.needs() {
                    if needed.insert(port.clone()) {
                        plan.push_back(ResourceKey::Endpoints(port.clone()));
                    }
                }
            }
            plan.push_back(key.clone());
        }
        if all_is_known {
            self.brought.clear();
        }
        for port in &self.brought {
            let key = ResourceKey::Endpoints(port.clone());
            if self.held.contains_key(&key) && needed.insert(port.clone()) {
                plan.push_back(key);
            }
        }
        for key in self.held.keys() {
            if matches!(key, ResourceKey::Endpoints(port) if !needed.contains(port)) {
                plan.push_back(key.clone());
            }
        }
        self.plan = plan;
        self.needed = needed;
        self.planned = Some(snapshot.version);
        self.plans += 1;
    }

    /// Whether something has happened that what [`Ledger::follow`] found last does not follow from.
    pub fn must_look(&self) -> bool {
        self.planned.is_none()
    }

    /// Another number whenever other resources may concern the proxy than before.
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// What [`Ledger::follow`] would find something to look at in, as long as it does not have to look at everything.
    pub fn concerns(&self) -> impl Iterator<Item = ResourceKey> {
        let needed = self.needed.iter().cloned().map(ResourceKey::Endpoints);
        self.subscriptions.iter().cloned().chain(needed)
    }

    /// The next update of the plan, as if it were sent; `None`: the proxy lacks nothing.
    pub fn next_update(&mut self, snapshot: &Snapshot) -> Option<Update> {
        while let Some(key) = self.plan.pop_front() {
            if let Some(update) = self.update(key, snapshot) {
                return Some(update);
            }
        }
        None
    }

    fn update(&mut self, key: ResourceKey, snapshot: &Snapshot) -> Option<Update> {
        let version = snapshot.version;
        if !self.is_needed(&key) {
            self.held.remove(&key)?;
            return Some(Update { key, version, what: What::Removed });
        }
        let resource = snapshot.contents.resource(&key, &self.own)?;
        if let Some(held) = self.held.get_mut(&key) {
            held.recognise(&resource);
        }
        let held = self.held.get(&key);
        if held.is_some_and(|held| held.digest == resource.digest && !held.whole_next) {
            return self.update_in_place(key, version);
        }
        if held.is_some_and(|held| held.chosen().is_some()) {
            // What would have stood in does not any more, and may not be needed.
            self.planned = None;
        }
        let base = held.and_then(Held::delta_base);
        // The same version cannot be base and result.
        let base = base.filter(|base| base.version < version);
        let was_delta = base.is_some();
        let sent = Held::sent(version, Arc::clone(&resource), held);
        self.held.insert(key.clone(), Held { was_delta, ..sent });
        Some(Update { key, version, what: What::Is { resource, base } })
    }

    /// What was refused stays so; the proxy gets what stands in for it, if there is something.
    fn update_in_place(&mut self, key: ResourceKey, version: Version) -> Option<Update> {
        let held = self.held.get_mut(&key)?;
        let resource = Arc::clone(held.chosen()?);
        held.send_stand_in(version, Arc::clone(&resource));
        Some(Update { key, version, what: What::Is { resource, base: None } })
    }

    fn is_needed(&self, key: &ResourceKey) -> bool {
        match key {
            ResourceKey::Endpoints(port) => self.needed.contains(port),
            ResourceKey::Workload(_) | ResourceKey::Destination(_) => {
                self.subscriptions.contains(key)
            }
        }
    }

    /// Whether a version must be raised before anything can be sent: the proxy would ignore an update
    /// that is not newer than what it has.
    pub fn version_to_exceed(&self, snapshot: &Snapshot) -> Option<Version> {
        // Whatever was sent is of this snapshot, or an older one.
        Some(self.known).filter(|version| *version > snapshot.version)
    }

    /// The proxy took an update. True if something may not be needed any more.
    pub fn acknowledge(&mut self, key: &ResourceKey, version: Version) -> bool {
        // What was taken back since, or replaced, was still taken.
        self.counts.acknowledged += 1;
        let Some(held) = self.held.get_mut(key).filter(|held| version <= held.version) else {
            return false;
        };
        self.counts.acknowledged_version = self.counts.acknowledged_version.max(version);
        // Destinations alone need anything.
        let is_news = held.acknowledge(version) && matches!(key, ResourceKey::Destination(_));
        if is_news {
            self.planned = None;
        }
        is_news
    }

    /// The proxy refused an update. True if it must be sent again, whole: a delta does not tell
    /// whether its content was at fault, or the proxy held another base.
    pub fn refuse(&mut self, key: &ResourceKey, version: Version, refusal: Refusal) -> bool {
        self.counts.refused += 1;
        self.planned = None;
        self.held.get_mut(key).is_some_and(|held| held.refuse(version, refusal))
    }

    /// The digest of what the proxy refused, if it has nothing to go on with.
    pub fn lacks_all_but(&self, key: &ResourceKey) -> Option<u64> {
        let held = self.held.get(key).filter(|held| held.lacks_all());
        held.filter(|_| matches!(key, ResourceKey::Destination(_))).map(|held| held.digest)
    }

    /// What the proxy takes a resource for, and since which version.
    pub fn taken(&self, key: &ResourceKey) -> Option<(Version, Arc<Resource>)> {
        self.held.get(key)?.taken()
    }

    /// Has this sent in place of what was refused, with [`Ledger::follow`].
    pub fn stand_in(&mut self, key: &ResourceKey, resource: Arc<Resource>) {
        self.planned = None;
        if let Some(held) = self.held.get_mut(key).filter(|held| held.lacks_all()) {
            held.stand_in = Some(StandIn::Chosen(resource));
        }
    }

    /// Everything that the proxy should hold by now, and did not refuse. While answers are outstanding
    /// there is none, unless they have been for so long that none will come.
    pub fn digest(&self, patience: Patience) -> Option<wire::Digest> {
        let mut digest = wire::Digest { fold: 0, resources: 0 };
        for held in self.held.values() {
            match (held.standing(), patience) {
                (Standing::Outstanding(_), Patience::Left) => return None,
                (Standing::None, Patience::Left | Patience::Over) => {}
                (Standing::Certain(standing), Patience::Left | Patience::Over)
                | (Standing::Outstanding(standing), Patience::Over) => {
                    digest.fold ^= standing;
                    digest.resources += 1;
                }
            }
        }
        Some(digest)
    }

    /// What is held.
    pub fn held(&self) -> impl Iterator<Item = (&ResourceKey, &Held)> {
        self.held.iter()
    }

    /// Whether a resource was sent, or known already.
    pub fn holds(&self, key: &ResourceKey) -> bool {
        self.held.contains_key(key)
    }

    /// What is subscribed to.
    pub fn subscriptions(&self) -> &BTreeSet<ResourceKey> {
        &self.subscriptions
    }

    /// Whose it is.
    pub fn own(&self) -> &PodUid {
        &self.own
    }

    /// What was answered so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// How many resources one proxy may subscribe to; far more than any workload talks to.
pub const SUBSCRIPTIONS_LIMIT: usize = 10_000;
/// How many resources one proxy may bring with it; no proxy holds more.
const HELD_LIMIT: usize = 60_000;
/// How far the clock of an earlier control plane may have been ahead: a year. A proxy that claims more
/// is lying, and believing it would use up the versions of all.
const CLOCK_ERROR_LIMIT_MICROS: u64 = 365 * 24 * 3600 * 1_000_000;

#[cfg(test)]
mod tests;
