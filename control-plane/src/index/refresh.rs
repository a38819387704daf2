//! What follows where nothing has changed but what stands behind services, and whether pods say that they are ready, which
//! in a large mesh it does many times a second. Only what it concerns is made anew; `assemble.rs` makes everything, and both
//! the same. What comes, goes, or says anything else has everything made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;

use super::Entry;
use super::assemble::{self, Decided, Given};
use super::attach::Protocols;
use super::backing::{self, Pods};
use super::pod_ports::PodPorts;
use super::policies::PodLimits;
use super::workloads::{self, Sources};
use crate::snapshot::{Contents, PodPort, Resource};
use crate::source::Place;
use crate::status::ObjectStatus;
use crate::translate::endpoint_slice::{EndpointSlice, Target};
use crate::translate::pod::Pod;

/// What changed since the contents were last put together.
#[derive(Debug)]
pub(super) enum Changed {
    /// No more than this.
    Little(Little),
    /// Anything else.
    Anything,
}

/// What is often all that changes.
#[derive(Debug, Default)]
pub(super) struct Little {
    /// Slices that were there before and count for the same services.
    slices: BTreeMap<ObjectReference, ChangedSlice>,
    /// Pods of which no more is new than whether they say that they are ready.
    pods: BTreeMap<PodUid, ChangedPod>,
    /// Where objects are written that changed, or of which no more is new than this.
    places: BTreeMap<ObjectReference, Place>,
}

/// A slice that says something else.
#[derive(Debug)]
struct ChangedSlice {
    service: ServiceName,
    /// Of the endpoints that it had and has.
    addresses: BTreeSet<IpAddr>,
    /// Their pods.
    pods: BTreeSet<PodUid>,
}

/// A pod that says something else.
#[derive(Debug)]
struct ChangedPod {
    reference: ObjectReference,
    says_ready: bool,
}

/// What the last contents were put together from, as far as it is not part of them.
#[derive(Debug)]
pub(super) struct Kept {
    /// Of the last contents, by which they are known again.
    last: Endpoints,
    pods: Pods,
    said: PodPorts,
    protocols: Protocols,
}

type Endpoints = Arc<HashMap<ServicePort, Arc<Resource>>>;

impl Default for Changed {
    fn default() -> Self {
        Self::Little(Little::default())
    }
}

impl Changed {
    /// Whether everything is as it was.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Little(Little { slices, pods, places }) => {
                slices.is_empty() && pods.is_empty() && places.is_empty()
            }
            Self::Anything => false,
        }
    }

    /// Takes note of a slice that was `before` and is `after`.
    pub(super) fn slice(
        &mut self,
        reference: &ObjectReference,
        before: Option<&Entry<EndpointSlice>>,
        after: Option<&Entry<EndpointSlice>>,
    ) {
        let both = both_sound(before, after);
        let Some((little, (was, is))) = self.little().zip(both) else {
            *self = Self::Anything;
            return;
        };
        if was.service != is.service {
            *self = Self::Anything;
            return;
        }
        little.place(reference, before, after);
        if was == is {
            return;
        }
        let changed = little.slices.entry(reference.clone()).or_insert_with(|| ChangedSlice {
            service: is.service.clone(),
            addresses: BTreeSet::new(),
            pods: BTreeSet::new(),
        });
        for endpoint in was.endpoints.iter().chain(&is.endpoints) {
            changed.addresses.extend(&endpoint.addresses);
            match &endpoint.target {
                Target::Pod(uid) => {
                    changed.pods.insert(uid.clone());
                }
                Target::ByAddress => {}
            }
        }
    }

    /// Takes note of a pod that was `before` and is `after`. On Kubernetes one is told of beside most slices that change, and
    /// whenever something of it changes that means nothing here.
    pub(super) fn pod(
        &mut self,
        reference: &ObjectReference,
        before: Option<&Entry<Pod>>,
        after: Option<&Entry<Pod>>,
    ) {
        let both = both_sound(before, after);
        let Some((little, (was, is))) = self.little().zip(both) else {
            *self = Self::Anything;
            return;
        };
        let says_ready = is.says_ready;
        if (Pod { says_ready, ..Pod::clone(was) }) != *is {
            *self = Self::Anything;
            return;
        }
        little.place(reference, before, after);
        if was.says_ready != says_ready {
            let changed = ChangedPod { reference: reference.clone(), says_ready };
            little.pods.insert(is.uid.clone(), changed);
        }
    }

    fn little(&mut self) -> Option<&mut Little> {
        match self {
            Self::Little(little) => Some(little),
            Self::Anything => None,
        }
    }
}

impl Little {
    fn place<T>(
        &mut self,
        reference: &ObjectReference,
        before: Option<&Entry<T>>,
        after: Option<&Entry<T>>,
    ) {
        let place = after.map(|entry| &entry.place);
        if let Some(place) = place.filter(|place| Some(*place) != before.map(|it| &it.place)) {
            self.places.insert(reference.clone(), place.clone());
        }
    }
}

/// What two states of an object say, if each means something, and neither is refused.
fn both_sound<'a, T>(
    before: Option<&'a Entry<T>>,
    after: Option<&'a Entry<T>>,
) -> Option<(&'a T, &'a T)> {
    let sound = |entry: &'a Entry<T>| match entry.rejected {
        None => entry.good.as_deref(),
        Some(_) => None,
    };
    before.and_then(sound).zip(after.and_then(sound))
}

impl Kept {
    /// Of contents that were just put together.
    pub(super) fn new(last: &Contents, pods: Pods, said: PodPorts, protocols: Protocols) -> Self {
        Self { last: Arc::clone(&last.endpoints), pods, said, protocols }
    }

    /// Whether these are the contents that were put together last.
    pub(super) fn is_of(&self, contents: &Contents) -> bool {
        Arc::ptr_eq(&self.last, &contents.endpoints)
    }

    /// The contents that follow `previous`, and in what they differ from it; `None` if more follows than can be told here.
    pub(super) fn refresh(
        &mut self,
        little: &Little,
        previous: &Contents,
        (given, decided): (&Given<'_>, &Decided<'_>),
    ) -> Option<(Contents, Vec<ResourceKey>)> {
        let Little { slices, pods, places } = little;
        let mut contents = previous.clone();
        // None but these are to be taken for the last ones, also where nothing differs.
        contents.endpoints = Arc::new(HashMap::clone(&contents.endpoints));
        self.refresh_pods(pods, &mut contents)?;
        let mut sockets: BTreeSet<SocketAddr> = BTreeSet::new();
        // Once for each service, however many of its slices and pods have changed.
        let mut services: BTreeMap<&ServiceName, BTreeSet<IpAddr>> = BTreeMap::new();
        for changed in slices.values() {
            services.entry(&changed.service).or_default().extend(&changed.addresses);
        }
        // To find them costs a look at all slices.
        if !pods.is_empty() {
            for service in given.services_of(|uid| pods.contains_key(uid)) {
                services.entry(service).or_default();
            }
        }
        let mut differs = Vec::new();
        for (name, addresses) in services {
            let news = (&mut contents, &mut differs);
            sockets.extend(self.refresh_service((name, addresses), news, (given, decided))?);
        }
        let addresses: BTreeSet<IpAddr> =
            slices.values().flat_map(|changed| &changed.addresses).copied().collect();
        sockets.extend(addresses.iter().flat_map(|address| self.said.sockets(*address)));
        for socket in sockets {
            if set_pod_port(&mut contents, socket, self.said.settle(socket, &self.pods)) {
                differs.push(ResourceKey::Destination(socket));
            }
        }
        let limits = given.limits(decided, &self.pods);
        let targets = slices.values().flat_map(|changed| &changed.pods);
        let concerned = targets.filter_map(|uid| self.pods.by_uid.get(uid));
        let concerned = concerned.chain(addresses.iter().flat_map(|one| self.pods.at(*one)));
        let workloads = self.refresh_workloads(concerned, &mut contents, &limits);
        differs.extend(workloads.into_iter().map(ResourceKey::Workload));
        refresh_places(places, &mut contents)?;
        self.last = Arc::clone(&contents.endpoints);
        Some((contents, differs))
    }

    /// What pods say of themselves.
    fn refresh_pods(
        &mut self,
        changed: &BTreeMap<PodUid, ChangedPod>,
        contents: &mut Contents,
    ) -> Option<()> {
        for (uid, ChangedPod { reference, says_ready }) in changed {
            // Of two objects that claim to be one pod, one counts.
            let known = self.pods.by_uid.get(uid).filter(|known| known.reference == *reference)?;
            let pod = Arc::new(Pod { says_ready: *says_ready, ..Pod::clone(known) });
            for address in &pod.addresses {
                if self
                    .pods
                    .by_address
                    .get(address)
                    .is_some_and(|owner| owner.reference == *reference)
                {
                    let by_address = Arc::make_mut(&mut self.pods.by_address);
                    by_address.insert(*address, Arc::clone(&pod));
                }
            }
            Arc::make_mut(&mut self.pods.by_uid).insert(uid.clone(), pod);
        }
        contents.pods = Arc::clone(&self.pods.by_uid);
        contents.pods_by_address = Arc::clone(&self.pods.by_address);
        Some(())
    }

    /// What stands behind one service; the ports of pods that something had been said of.
    fn refresh_service(
        &mut self,
        (name, addresses): (&ServiceName, BTreeSet<IpAddr>),
        (contents, differs): (&mut Contents, &mut Vec<ResourceKey>),
        (given, decided): (&Given<'_>, &Decided<'_>),
    ) -> Option<Vec<SocketAddr>> {
        let mut sockets = Vec::new();
        // Nothing stands behind a service that does not exist.
        let Some(service) = given.services.get(name) else { return Some(sockets) };
        let slices = given.slices_of(name);
        let endpoints = Arc::make_mut(&mut contents.endpoints);
        for (number, port) in &service.ports {
            let key = ServicePort { service: name.clone(), port: *number };
            let backing = backing::backing(service, &port.name, slices, &self.pods);
            let protocol = assemble::protocol(port, &backing);
            // What speaks another protocol is another destination, and routes may have something to say of it.
            if self.protocols.get(&key) != Some(&protocol) {
                return None;
            }
            for address in &addresses {
                sockets.extend(self.said.forget(&key, *address));
            }
            self.said.add(&key, (&port.name, protocol), slices);
            assemble::stand(&mut contents.not_ready, &mut contents.last_resort, &key, &backing);
            let policy = decided.policies.by_port.get(&key).copied();
            let made = assemble::endpoints(&key, backing, (service, policy));
            let known = endpoints.get(&key);
            let made = assemble::shared(known, made);
            if known.is_none_or(|known| !Arc::ptr_eq(known, &made)) {
                differs.push(ResourceKey::Endpoints(key.clone()));
                endpoints.insert(key, made);
            }
        }
        Some(sockets)
    }

    /// What follows for the proxies of pods that are, or were, behind a service that changed, or have the address of one:
    /// whose it is.
    fn refresh_workloads<'a>(
        &self,
        concerned: impl Iterator<Item = &'a Arc<Pod>>,
        contents: &mut Contents,
        limits: &PodLimits,
    ) -> Vec<PodUid> {
        let pod_ports = Arc::clone(&contents.pod_ports);
        let sources = Sources { said: &self.said, pod_ports: &pod_ports, limits };
        let mut differs = Vec::new();
        for pod in concerned.filter(|pod| pod.meshed) {
            let known = contents.workloads.get(&pod.uid);
            let workload = assemble::shared(known, workloads::workload(pod, sources));
            if known.is_none_or(|known| !Arc::ptr_eq(known, &workload)) {
                Arc::make_mut(&mut contents.workloads).insert(pod.uid.clone(), workload);
                differs.push(pod.uid.clone());
            }
        }
        differs
    }
}

/// Whether that is something else than was settled before.
fn set_pod_port(contents: &mut Contents, socket: SocketAddr, settled: Option<PodPort>) -> bool {
    if contents.pod_ports.get(&socket) == settled.as_ref() {
        return false;
    }
    let pod_ports = Arc::make_mut(&mut contents.pod_ports);
    match settled {
        Some(settled) => pod_ports.insert(socket, settled),
        None => pod_ports.remove(&socket),
    };
    true
}

/// Of what became of the objects themselves nothing is new but which state of them it is said of.
fn refresh_places(
    places: &BTreeMap<ObjectReference, Place>,
    contents: &mut Contents,
) -> Option<()> {
    for (reference, place) in places {
        let at = contents.objects.binary_search_by(|known| known.reference.cmp(reference)).ok()?;
        let status = ObjectStatus::clone(contents.objects.get(at)?);
        let status = Arc::new(ObjectStatus { place: place.clone(), ..status });
        *Arc::make_mut(&mut contents.objects).get_mut(at)? = status;
    }
    Some(())
}
