//! What this proxy holds of the mesh's configuration, and whether a pushed update replaces it. Pure:
//! no I/O, no clock. What readers see is made in resolved.rs and kept in store.rs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use heddle_model::destination::{Destination, EndpointDestination, ServiceDestination};
use heddle_model::endpoint::Endpoint;
use heddle_model::identity::PodUid;
use heddle_model::names::ServicePort;
use heddle_model::resource::{ResourceKey, Version};
use heddle_model::workload::Workload;

use crate::balance::balancer::SharedEndpoints;
use crate::discovery::update::{Content, EndpointsChange, Refusal, Update, refusal};
use crate::http::route::{CompiledRule, compile};

/// Everything held, with what is wanted.
#[derive(Debug)]
pub struct State {
    own: PodUid,
    wanted: BTreeSet<SocketAddr>,
    held: HashMap<ResourceKey, Held>,
    /// The newest refused version of resources whose last update was refused.
    refused: HashMap<ResourceKey, Version>,
    /// How many held destinations refer to these endpoints.
    referrers: HashMap<ServicePort, usize>,
    /// Endpoints that the control plane took back although a held destination refers to them; readers
    /// go on with the last ones.
    withdrawn: HashSet<ServicePort>,
    differences: u32,
    forgetful: bool,
}

/// One resource at the last version that was good.
#[derive(Debug)]
struct Held {
    version: Version,
    digest: u64,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Workload,
    Destination { refers_to: Vec<ServicePort> },
    Endpoints(Endpoints),
}

/// Shared with readers, and from one version to the next.
type Endpoints = BTreeMap<SocketAddr, Arc<Endpoint>>;

/// What became of an update.
#[derive(Debug)]
pub enum Outcome {
    /// It is held now, and readers must see this.
    Ack(Change),
    /// What was held stays.
    Nack(Refusal),
    /// What is held is newer.
    IgnoredOlder {
        /// Its version.
        held: Version,
    },
}

/// What readers must see after an update.
#[derive(Debug)]
pub enum Change {
    /// Nothing new.
    None,
    /// The own workload.
    Workload(Workload),
    /// An address means something else now, and no destination refers to the endpoints in `unused`
    /// any more, which the control plane took back before.
    Destination {
        /// The address.
        address: SocketAddr,
        /// What it means.
        meaning: Meaning,
        /// Endpoints that are not held any more.
        unused: Vec<ServicePort>,
    },
    /// All endpoints of a service's port, and how they are used.
    Endpoints(ServicePort, Box<SharedEndpoints>),
    /// Endpoints that are not held any more.
    EndpointsRemoved(ServicePort),
}

/// A destination whose routes were compiled.
#[derive(Debug)]
pub enum Meaning {
    /// Not the mesh's.
    PassThrough,
    /// Known, and not to be connected to.
    Refused {
        /// A sentence for people.
        reason: String,
    },
    /// A service's port.
    Service {
        /// As it was sent.
        service: Box<ServiceDestination>,
        /// One for each of its rules, in order.
        compiled: Vec<CompiledRule>,
    },
    /// A pod's own address.
    Endpoint(Box<EndpointDestination>),
}

/// What to ask the control plane for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The resource.
    pub key: ResourceKey,
    /// The version that is held; zero: none.
    pub known_version: Version,
    /// Its digest.
    pub known_digest: u64,
}

/// Whether both ends of a stream believe the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They do.
    Same,
    /// They do not, which a message on its way can explain.
    Differs,
    /// They did not the last time either: the stream is to be opened anew, from nothing.
    Resync,
}

impl State {
    /// Holds nothing, wants its own workload.
    pub fn new(own: PodUid) -> Self {
        Self {
            own,
            wanted: BTreeSet::new(),
            held: HashMap::new(),
            refused: HashMap::new(),
            referrers: HashMap::new(),
            withdrawn: HashSet::new(),
            differences: 0,
            forgetful: false,
        }
    }

    /// A stream begins; returns all that is wanted, with what is known of it. Held endpoints come
    /// first: the control plane cannot tell by itself which ones old destinations refer to.
    pub fn begin_session(&mut self) -> Vec<Subscription> {
        self.differences = 0;
        // The control plane is told of the good versions only, and refused ones it will send again.
        self.refused.clear();
        let forgetful = std::mem::take(&mut self.forgetful);
        let endpoints: BTreeSet<ResourceKey> = self
            .held
            .keys()
            .filter(|key| matches!(key, ResourceKey::Endpoints(_)))
            .cloned()
            .collect();
        let workload = ResourceKey::Workload(self.own.clone());
        let destinations = self.wanted.iter().copied().map(ResourceKey::Destination);
        let keys = endpoints.into_iter().chain(std::iter::once(workload)).chain(destinations);
        keys.map(|key| match self.held.get(&key) {
            Some(held) => {
                // No content has digest zero, so that all is sent again.
                let known_digest = if forgetful { 0 } else { held.digest };
                Subscription { key, known_version: held.version, known_digest }
            }
            None => Subscription { key, known_version: Version(0), known_digest: 0 },
        })
        .collect()
    }

    /// The newest version of anything held; zero: nothing is.
    pub fn highest_version(&self) -> Version {
        self.held.values().map(|held| held.version).max().unwrap_or_default()
    }

    /// Wants what an address means; false if it did already.
    pub fn want(&mut self, address: SocketAddr) -> bool {
        self.wanted.insert(address)
    }

    /// Does not want an address any more, and drops what was held of it; returns endpoints that are
    /// not held any more either.
    pub fn unwant(&mut self, address: SocketAddr) -> Vec<ServicePort> {
        self.wanted.remove(&address);
        let key = ResourceKey::Destination(address);
        self.refused.remove(&key);
        let refers_to = match self.held.remove(&key).map(|held| held.value) {
            Some(Value::Destination { refers_to }) => refers_to,
            Some(Value::Workload | Value::Endpoints(_)) | None => Vec::new(),
        };
        self.release(&refers_to)
    }

    /// Takes an update, or refuses it and stays as it was.
    pub fn apply(&mut self, update: Update) -> Outcome {
        let Update { key, version, digest, content } = update;
        if let Some(held) = self.held.get(&key) {
            if version < held.version {
                return Outcome::IgnoredOlder { held: held.version };
            }
            let same_content = held.digest == digest && content != Content::EndpointsRemoved;
            if version == held.version && same_content {
                self.refused.remove(&key);
                return Outcome::Ack(Change::None);
            }
        }
        let stamp = Stamp { version, digest };
        let outcome = match (&key, content) {
            (ResourceKey::Workload(uid), Content::Workload(workload)) => {
                let uid = uid.clone();
                self.apply_workload(&uid, stamp, workload)
            }
            (ResourceKey::Destination(address), Content::Destination(destination)) => {
                self.apply_destination(*address, stamp, destination)
            }
            (ResourceKey::Endpoints(service), Content::Endpoints(change)) => {
                self.apply_endpoints(service, stamp, change)
            }
            (ResourceKey::Endpoints(service), Content::EndpointsRemoved) => {
                self.held.remove(&key);
                if self.referrers.contains_key(service) {
                    self.withdrawn.insert(service.clone());
                    Ok(Change::None)
                } else {
                    Ok(Change::EndpointsRemoved(service.clone()))
                }
            }
            (
                ResourceKey::Workload(_) | ResourceKey::Destination(_) | ResourceKey::Endpoints(_),
                Content::Workload(_)
                | Content::Destination(_)
                | Content::Endpoints(_)
                | Content::EndpointsRemoved,
            ) => Err(refusal("the update's content is not of the kind that its key names")),
        };
        match outcome {
            Ok(change) => {
                self.refused.remove(&key);
                Outcome::Ack(change)
            }
            Err(refusal) => self.refuse(key, version, refusal),
        }
    }

    /// Refuses an update that could not even be read.
    pub fn refuse(&mut self, key: ResourceKey, version: Version, refusal: Refusal) -> Outcome {
        if let Some(held) = self.held.get(&key)
            && version < held.version
        {
            return Outcome::IgnoredOlder { held: held.version };
        }
        if self.is_wanted(&key) {
            self.refused.insert(key, version);
        }
        Outcome::Nack(refusal)
    }

    /// Compares with what the control plane believes; see `Digest` in the wire contract.
    pub fn compare(&mut self, fold: u64, resources: u32) -> Agreement {
        if (fold, resources) == self.fold() {
            self.differences = 0;
            return Agreement::Same;
        }
        self.differences += 1;
        if self.differences < DIFFERENCES_UNTIL_RESYNC {
            return Agreement::Differs;
        }
        self.forgetful = true;
        Agreement::Resync
    }

    /// The exclusive-or of the digests of all that is held and was not refused since, and their number.
    pub fn fold(&self) -> (u64, u32) {
        let standing = self.held.iter().filter(|(key, _)| !self.refused.contains_key(*key));
        standing.fold((0, 0), |(fold, count), (_, held)| (fold ^ held.digest, count + 1))
    }

    /// Whether a good version is held.
    pub fn holds(&self, key: &ResourceKey) -> bool {
        self.held.contains_key(key)
    }

    /// How many resources are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn is_wanted(&self, key: &ResourceKey) -> bool {
        match key {
            ResourceKey::Workload(uid) => *uid == self.own,
            ResourceKey::Destination(address) => self.wanted.contains(address),
            // Implied by a destination, which may be still to come.
            ResourceKey::Endpoints(_) => true,
        }
    }

    fn apply_workload(
        &mut self,
        uid: &PodUid,
        stamp: Stamp,
        workload: Workload,
    ) -> Result<Change, Refusal> {
        if *uid != self.own || workload.pod_uid != self.own {
            return Err(refusal(&format!("this proxy serves pod {}, not {uid}", self.own)));
        }
        self.hold(ResourceKey::Workload(uid.clone()), stamp, Value::Workload);
        Ok(Change::Workload(workload))
    }

    fn apply_destination(
        &mut self,
        address: SocketAddr,
        stamp: Stamp,
        destination: Destination,
    ) -> Result<Change, Refusal> {
        // An update can cross an Unsubscribe on the wire.
        if !self.wanted.contains(&address) {
            return Ok(Change::None);
        }
        let (meaning, refers_to) = understand(destination)?;
        for service in &refers_to {
            *self.referrers.entry(service.clone()).or_default() += 1;
        }
        let value = Value::Destination { refers_to };
        let before = self.hold(ResourceKey::Destination(address), stamp, value);
        let unused = match before {
            Some(Value::Destination { refers_to }) => self.release(&refers_to),
            Some(Value::Workload | Value::Endpoints(_)) | None => Vec::new(),
        };
        Ok(Change::Destination { address, meaning, unused })
    }

    fn apply_endpoints(
        &mut self,
        service: &ServicePort,
        stamp: Stamp,
        change: EndpointsChange,
    ) -> Result<Change, Refusal> {
        let key = ResourceKey::Endpoints(service.clone());
        let held = self.held.get(&key);
        if held.is_none() && self.held.len() >= RESOURCE_LIMIT {
            return Err(refusal(&format!(
                "this proxy holds {RESOURCE_LIMIT} resources, its limit"
            )));
        }
        let mut endpoints = base(held, change.base)?;
        for address in &change.removed {
            endpoints.remove(address);
        }
        let upserted = change.upserted.into_iter();
        endpoints.extend(upserted.map(|endpoint| (endpoint.address, Arc::new(endpoint))));
        if endpoints.len() > ENDPOINT_LIMIT {
            let reason =
                format!("{} endpoints are over the limit of {ENDPOINT_LIMIT}", endpoints.len());
            return Err(refusal(&reason));
        }
        let all = endpoints.values().cloned().collect();
        let set = SharedEndpoints { endpoints: all, policy: change.policy };
        self.withdrawn.remove(service);
        self.hold(key, stamp, Value::Endpoints(endpoints));
        Ok(Change::Endpoints(service.clone(), Box::new(set)))
    }

    fn hold(&mut self, key: ResourceKey, stamp: Stamp, value: Value) -> Option<Value> {
        let Stamp { version, digest } = stamp;
        let held = Held { version, digest, value };
        self.held.insert(key, held).map(|before| before.value)
    }

    /// A destination does not refer to these any more; returns those that are dropped therefore. What
    /// is held the control plane takes back by itself; to drop it here would make its next delta one
    /// on an unknown base.
    fn release(&mut self, services: &[ServicePort]) -> Vec<ServicePort> {
        let mut dropped = Vec::new();
        for service in services {
            let Some(count) = self.referrers.get_mut(service) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.referrers.remove(service);
            if self.withdrawn.remove(service) {
                dropped.push(service.clone());
            }
        }
        dropped
    }
}

#[derive(Clone, Copy)]
struct Stamp {
    version: Version,
    digest: u64,
}

/// Compiles a destination's routes; returns the endpoints that it refers to, too.
fn understand(destination: Destination) -> Result<(Meaning, Vec<ServicePort>), Refusal> {
    match destination {
        Destination::PassThrough => Ok((Meaning::PassThrough, Vec::new())),
        Destination::Refused { reason } => Ok((Meaning::Refused { reason }, Vec::new())),
        Destination::Endpoint(endpoint) => Ok((Meaning::Endpoint(Box::new(endpoint)), Vec::new())),
        Destination::Service(service) => {
            let compiled = compile(&service.http_rules).map_err(|error| Refusal {
                reason: error.reason,
                origin: error.origin,
                field: error.field,
            })?;
            let refers_to = service.backends().into_iter().cloned().collect();
            let service = Box::new(service);
            Ok((Meaning::Service { service, compiled }, refers_to))
        }
    }
}

/// The endpoints that a change applies to.
fn base(held: Option<&Held>, base: Version) -> Result<Endpoints, Refusal> {
    if base == Version(0) {
        return Ok(BTreeMap::new());
    }
    match held {
        Some(Held { version, value: Value::Endpoints(endpoints), .. }) if *version == base => {
            Ok(endpoints.clone())
        }
        Some(held) => Err(refusal(&format!(
            "the change applies to version {base}, but version {} is held",
            held.version
        ))),
        None => Err(refusal(&format!("the change applies to version {base}, but none is held"))),
    }
}

/// Two digests in a row that differ are no coincidence of messages on their way.
const DIFFERENCES_UNTIL_RESYNC: u32 = 2;
/// How many resources are held at most: ten endpoints lists or so for each of many destinations.
const RESOURCE_LIMIT: usize = 50_000;
/// How many endpoints one service's port may have: beyond what Kubernetes supports.
const ENDPOINT_LIMIT: usize = 100_000;

#[cfg(test)]
mod tests;
