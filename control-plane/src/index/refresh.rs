//! What follows where nothing has changed but what stands behind services, which in a large mesh it does many times a
//! second. Only what it concerns is made anew; `assemble.rs` makes everything, and both the same. Where an event of a pod
//! comes with it, as it mostly does on Kubernetes, everything is made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, ServiceName, ServicePort};

use super::Entry;
use super::assemble::{self, Decided, Given};
use super::attach::Protocols;
use super::backing::{self, Pods};
use super::pod_ports::PodPorts;
use super::policies::PodLimits;
use super::workloads::{self, Sources};
use crate::snapshot::{Contents, PodPort, Resource};
use crate::source::Place;
use crate::translate::endpoint_slice::{EndpointSlice, Target};

/// What changed since the contents were last put together.
#[derive(Debug)]
pub(super) enum Changed {
    /// What these slices say, which were there before and count for the same services.
    Slices(BTreeMap<ObjectReference, ChangedSlice>),
    /// Anything else.
    Anything,
}

/// A slice that says something else.
#[derive(Debug)]
pub(super) struct ChangedSlice {
    service: ServiceName,
    place: Place,
    /// Of the endpoints that it had and has.
    addresses: BTreeSet<IpAddr>,
    /// Their pods.
    pods: BTreeSet<PodUid>,
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
        Self::Slices(BTreeMap::new())
    }
}

impl Changed {
    /// Takes note of a slice that was `before` and is `after`.
    pub(super) fn slice(
        &mut self,
        reference: &ObjectReference,
        before: Option<&Entry<EndpointSlice>>,
        after: Option<&Entry<EndpointSlice>>,
    ) {
        let sound = |entry: &Entry<EndpointSlice>| match entry.rejected {
            None => entry.good.clone(),
            Some(_) => None,
        };
        let good = before.and_then(sound).zip(after.and_then(sound));
        let good = good.filter(|(before, after)| before.service == after.service);
        let (Self::Slices(slices), Some((before, after)), Some(entry)) = (&mut *self, good, after)
        else {
            *self = Self::Anything;
            return;
        };
        let changed = slices.entry(reference.clone()).or_insert_with(|| ChangedSlice {
            service: after.service.clone(),
            place: entry.place.clone(),
            addresses: BTreeSet::new(),
            pods: BTreeSet::new(),
        });
        changed.place = entry.place.clone();
        for endpoint in before.endpoints.iter().chain(&after.endpoints) {
            changed.addresses.extend(&endpoint.addresses);
            match &endpoint.target {
                Target::Pod(uid) => {
                    changed.pods.insert(uid.clone());
                }
                Target::ByAddress => {}
            }
        }
    }
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

    /// The contents that follow `previous`; `None` if more follows than can be told here.
    pub(super) fn refresh(
        &mut self,
        slices: &BTreeMap<ObjectReference, ChangedSlice>,
        previous: &Contents,
        (given, decided): (&Given<'_>, &Decided<'_>),
    ) -> Option<Contents> {
        let mut contents = previous.clone();
        // None but these are to be taken for the last ones, also where nothing differs.
        contents.endpoints = Arc::new(HashMap::clone(&contents.endpoints));
        let mut sockets: BTreeSet<SocketAddr> = BTreeSet::new();
        // Once for each service, however many of its slices have changed.
        let mut services: BTreeMap<&ServiceName, BTreeSet<IpAddr>> = BTreeMap::new();
        for changed in slices.values() {
            services.entry(&changed.service).or_default().extend(&changed.addresses);
        }
        for service in services {
            sockets.extend(self.refresh_service(service, &mut contents, (given, decided))?);
        }
        let addresses: BTreeSet<IpAddr> =
            slices.values().flat_map(|changed| &changed.addresses).copied().collect();
        sockets.extend(addresses.iter().flat_map(|address| self.said.sockets(*address)));
        for socket in sockets {
            set_pod_port(&mut contents, socket, self.said.settle(socket, &self.pods));
        }
        self.refresh_workloads(slices, &mut contents, &given.limits(decided, &self.pods));
        refresh_places(slices, &mut contents)?;
        self.last = Arc::clone(&contents.endpoints);
        Some(contents)
    }

    /// What stands behind one service; the ports of pods that something had been said of.
    fn refresh_service(
        &mut self,
        (name, addresses): (&ServiceName, BTreeSet<IpAddr>),
        contents: &mut Contents,
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
            let known = endpoints.get(&key).cloned();
            endpoints.insert(key, assemble::shared(known.as_ref(), made));
        }
        Some(sockets)
    }

    /// What follows for the proxies of the pods that are, or were, behind it.
    fn refresh_workloads(
        &self,
        slices: &BTreeMap<ObjectReference, ChangedSlice>,
        contents: &mut Contents,
        limits: &PodLimits,
    ) {
        let addresses = slices.values().flat_map(|changed| &changed.addresses);
        let by_address = addresses.filter_map(|address| self.pods.by_address.get(address));
        let targets = slices.values().flat_map(|changed| &changed.pods);
        let by_uid = targets.filter_map(|uid| self.pods.by_uid.get(uid));
        let pod_ports = Arc::clone(&contents.pod_ports);
        let sources = Sources { said: &self.said, pod_ports: &pod_ports, limits };
        for pod in by_address.chain(by_uid).filter(|pod| pod.meshed) {
            let known = contents.workloads.get(&pod.uid);
            let workload = assemble::shared(known, workloads::workload(pod, sources));
            if known.is_none_or(|known| !Arc::ptr_eq(known, &workload)) {
                Arc::make_mut(&mut contents.workloads).insert(pod.uid.clone(), workload);
            }
        }
    }
}

fn set_pod_port(contents: &mut Contents, socket: SocketAddr, settled: Option<PodPort>) {
    if contents.pod_ports.get(&socket) == settled.as_ref() {
        return;
    }
    let pod_ports = Arc::make_mut(&mut contents.pod_ports);
    match settled {
        Some(settled) => pod_ports.insert(socket, settled),
        None => pod_ports.remove(&socket),
    };
}

/// Of what became of the slices themselves nothing is new but which state of them it is said of.
fn refresh_places(
    slices: &BTreeMap<ObjectReference, ChangedSlice>,
    contents: &mut Contents,
) -> Option<()> {
    for (reference, changed) in slices {
        let find =
            contents.objects.binary_search_by(|known| known.reference.cmp(reference)).ok()?;
        if contents.objects.get(find)?.place != changed.place {
            Arc::make_mut(&mut contents.objects).get_mut(find)?.place = changed.place.clone();
        }
    }
    Some(())
}
