//! What the proxies of meshed pods are told of their own workloads.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use heddle_model::names::{ObjectReference, Port, Protocol};
use heddle_model::workload::{InboundPort, Workload};

use super::pod_ports::PodPorts;
use super::policies::PodLimits;
use crate::snapshot::{Content, PodPort};
use crate::translate::pod::Pod;

/// What a pod's workload is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) said: &'a PodPorts,
    /// What follows from it.
    pub(super) pod_ports: &'a HashMap<SocketAddr, PodPort>,
    pub(super) limits: &'a PodLimits,
}

/// What one pod's proxy is told.
pub(super) fn workload(pod: &Pod, sources: Sources<'_>) -> (Content, Vec<ObjectReference>) {
    let Sources { said, pod_ports, limits } = sources;
    let mut ports: BTreeMap<Port, Protocol> = BTreeMap::new();
    let declared = pod.ports.iter().map(|declared| declared.port);
    let behind = pod.addresses.iter().flat_map(|address| said.ports(*address));
    for port in declared.chain(behind) {
        let said = pod
            .addresses
            .iter()
            .find_map(|address| pod_ports.get(&SocketAddr::new(*address, port.number())));
        let protocol = said.map_or_else(|| pod.protocol_of(port), |said| said.protocol);
        ports.insert(port, protocol);
    }
    let slices_say = |part: fn(&PodPort) -> &String| {
        let sockets = pod.addresses.iter().flat_map(|address| said.sockets(*address));
        let mut all = sockets.filter_map(|socket| pod_ports.get(&socket));
        all.find(|said| !part(said).is_empty()).map(part).cloned().unwrap_or_default()
    };
    let (zone, node) = (slices_say(|said| &said.zone), slices_say(|said| &said.node));
    let (rate_limits, policies) = limits.of(&pod.uid);
    let ports = ports.into_iter().map(|(port, protocol)| InboundPort { port, protocol });
    let workload = Workload {
        namespace: pod.reference.namespace.clone(),
        name: pod.reference.name.clone(),
        pod_uid: pod.uid.clone(),
        inbound_mode: pod.inbound_mode,
        ports: ports.collect(),
        rate_limits,
        zone: if pod.zone.is_empty() { zone } else { pod.zone.clone() },
        node: if pod.node.is_empty() { node } else { pod.node.clone() },
        probes: pod.probes.clone(),
        access_log: pod.access_log,
    };
    let mut origins = vec![pod.reference.clone()];
    origins.extend(policies);
    (Content::Workload(workload), origins)
}
