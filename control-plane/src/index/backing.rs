//! What stands behind the ports of services: slices and pods → endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, ServiceName};

use super::standing::{Standing, Standings};
use crate::translate::endpoint_slice::{EndpointSlice, SliceEndpoint, Target};
use crate::translate::node::Node;
use crate::translate::pod::Pod;
use crate::translate::service::Service;

/// Pods by what they are looked up by.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    pub(super) by_uid: Arc<HashMap<PodUid, Arc<Pod>>>,
    pub(super) by_address: Arc<HashMap<IpAddr, Arc<Pod>>>,
    /// Others whose objects still claim an address that belongs to a younger one, mostly none.
    elder: HashMap<IpAddr, Vec<PodUid>>,
}

impl Pods {
    pub(super) fn new<'a>(
        pods: impl Iterator<Item = &'a Pod>,
        nodes: impl Iterator<Item = &'a Node>,
    ) -> Self {
        let mut by_uid: HashMap<PodUid, Arc<Pod>> = HashMap::new();
        let mut by_address: HashMap<IpAddr, Arc<Pod>> = HashMap::new();
        let mut elder: HashMap<IpAddr, Vec<PodUid>> = HashMap::new();
        let nodes: HashMap<&str, &Node> = nodes.map(|node| (node.name.as_str(), node)).collect();
        let pods: Vec<&Pod> = pods.collect();
        // What belongs to a pod is not the node's, whichever address of a network nodes have by custom.
        let of_pods: HashSet<&IpAddr> = pods.iter().flat_map(|pod| &pod.addresses).collect();
        for pod in pods {
            let mut pod = pod.clone();
            if let Some(node) = nodes.get(pod.node.as_str()) {
                if pod.zone.is_empty() {
                    pod.zone.clone_from(&node.zone);
                }
                let sources = node.addresses.iter().filter(|address| !of_pods.contains(address));
                pod.probes.sources = sources.copied().collect();
            }
            let pod = Arc::new(pod);
            for address in &pod.addresses {
                // An address that was used again belongs to the younger pod, whatever the elder's
                // object still says.
                let known = by_address.get(address);
                let (wins, gives_way) = match known {
                    Some(known) if known.seniority < pod.seniority => {
                        (true, Some(known.uid.clone()))
                    }
                    Some(_) => (false, Some(pod.uid.clone())),
                    None => (true, None),
                };
                if wins {
                    by_address.insert(*address, Arc::clone(&pod));
                }
                if let Some(gives_way) = gives_way {
                    elder.entry(*address).or_default().push(gives_way);
                }
            }
            by_uid.insert(pod.uid.clone(), pod);
        }
        Self { by_uid: Arc::new(by_uid), by_address: Arc::new(by_address), elder }
    }

    /// All that claim an address, whomever it belongs to.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Pod>> {
        let elder = self.elder.get(&address).into_iter().flatten();
        let elder = elder.filter_map(|uid| self.by_uid.get(uid));
        self.by_address.get(&address).into_iter().chain(elder)
    }

    /// Who answers at an endpoint; `None` if that is not known yet. Then it must wait: to guess would
    /// mean to speak plain text to a pod that has a proxy.
    fn peer(
        &self,
        endpoint: &SliceEndpoint,
        address: IpAddr,
    ) -> Option<(ExpectedPeer, Option<&Pod>)> {
        let pod = match &endpoint.target {
            Target::Pod(uid) => Some(self.by_uid.get(uid)?),
            Target::ByAddress => self.by_address.get(&address),
        };
        let Some(pod) = pod else { return Some((ExpectedPeer::Plaintext, None)) };
        if !pod.live {
            return None;
        }
        let peer = if pod.meshed {
            ExpectedPeer::Mesh { identity: pod.identity.clone(), pod_uid: pod.uid.clone() }
        } else {
            ExpectedPeer::Plaintext
        };
        Some((peer, Some(pod)))
    }

    pub(super) fn says_opaque(&self, address: SocketAddr) -> bool {
        let pod = self.by_address.get(&address.ip());
        pod.zip(Port::new(address.port()))
            .is_some_and(|(pod, port)| pod.opaque_ports.contains(&port))
    }
}

/// What stands behind one port of a service.
#[derive(Debug)]
pub(super) struct Backing {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) slices: Vec<ObjectReference>,
    /// A pod behind it says that its port is opaque.
    pub(super) opaque: bool,
    /// What is behind it, not ready and not used.
    pub(super) not_ready: BTreeSet<SocketAddr>,
    /// Kubernetes calls all of the endpoints not ready.
    pub(super) last_resort: bool,
}

/// Slices by the service they stand behind.
pub(super) fn by_service<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> BTreeMap<&'a ServiceName, Vec<&'a EndpointSlice>> {
    let mut found: BTreeMap<&ServiceName, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        found.entry(&slice.service).or_default().push(slice);
    }
    found
}

/// Finds what stands behind one port of a service.
pub(super) fn backing(
    service: &Service,
    port_name: &str,
    slices: &[&EndpointSlice],
    pods: &Pods,
) -> Backing {
    let mut found: Standings<SocketAddr, (Endpoint, Option<PodUid>)> = Standings::new();
    let mut opaque = false;
    let mut not_ready = BTreeSet::new();
    for (slice, port, endpoint) in listed(slices, port_name) {
        for address in &endpoint.addresses {
            let socket = SocketAddr::new(*address, port.number());
            opaque |= pods.says_opaque(socket);
            let known = Standing::of(endpoint, pods).zip(pods.peer(endpoint, *address));
            let Some((standing, (peer, pod))) = known else {
                not_ready.insert(socket);
                continue;
            };
            debug_assert_eq!(slice.service, service.name, "slices are listed by service");
            let uid = pod.map(|pod| pod.uid.clone());
            let (zone, node) = topology(endpoint, pod);
            let pod = pod.map(|pod| pod.reference.name.clone()).unwrap_or_default();
            let endpoint = Endpoint { address: socket, peer, zone, node, pod };
            found.add(standing, socket, (endpoint, uid));
        }
    }
    let chosen = found.choose();
    not_ready.extend(chosen.spare);
    Backing {
        endpoints: one_per_pod(chosen.used, service.addresses.first()),
        slices: slices.iter().map(|slice| slice.reference.clone()).collect(),
        opaque,
        not_ready,
        last_resort: chosen.last_resort,
    }
}

/// Zone and node: what the slice says, or else what the pod does.
fn topology(endpoint: &SliceEndpoint, pod: Option<&Pod>) -> (String, String) {
    (
        said_or(&endpoint.zone, pod.map(|pod| &pod.zone)),
        said_or(&endpoint.node, pod.map(|pod| &pod.node)),
    )
}

pub(super) fn said_or(said: &str, other: Option<&String>) -> String {
    match said {
        "" => other.cloned().unwrap_or_default(),
        said => said.to_owned(),
    }
}

/// The pods behind one port of a service, ready or not, each with its own port.
pub(super) fn pods_behind(
    port_name: &str,
    slices: &[&EndpointSlice],
    pods: &Pods,
) -> BTreeSet<(PodUid, Port)> {
    let mut found = BTreeSet::new();
    for (_, port, endpoint) in listed(slices, port_name) {
        for address in &endpoint.addresses {
            if let Some((_, Some(pod))) = pods.peer(endpoint, *address) {
                found.insert((pod.uid.clone(), port));
            }
        }
    }
    found
}

/// A pod with addresses of both families is one endpoint, not two with double the share: the one of
/// the family that the service prefers.
fn one_per_pod(
    found: BTreeMap<SocketAddr, (Endpoint, Option<PodUid>)>,
    primary: Option<&IpAddr>,
) -> Vec<Endpoint> {
    let preferred_is_v6 = primary.is_some_and(IpAddr::is_ipv6);
    let mut chosen: HashMap<(PodUid, u16), SocketAddr> = HashMap::new();
    for (address, (_, uid)) in &found {
        if let Some(uid) = uid {
            let known = chosen.entry((uid.clone(), address.port())).or_insert(*address);
            if known.is_ipv6() != preferred_is_v6 && address.is_ipv6() == preferred_is_v6 {
                *known = *address;
            }
        }
    }
    found
        .into_iter()
        .filter(|(address, (_, uid))| {
            uid.clone().is_none_or(|uid| chosen.get(&(uid, address.port())) == Some(address))
        })
        .map(|(_, (endpoint, _))| endpoint)
        .collect()
}

pub(super) fn listed<'a>(
    slices: &[&'a EndpointSlice],
    port_name: &str,
) -> Vec<(&'a EndpointSlice, Port, &'a SliceEndpoint)> {
    let mut found = Vec::new();
    for slice in slices {
        for port in slice.ports.iter().filter(|port| port.name == port_name) {
            found.extend(slice.endpoints.iter().map(|endpoint| (*slice, port.port, endpoint)));
        }
    }
    found
}
