//! What services say of the ports of pods, and what follows from it where several say something.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use heddle_model::names::{Port, Protocol, ServicePort};

use super::backing::{Pods, listed, said_or};
use crate::snapshot::PodPort;
use crate::translate::endpoint_slice::EndpointSlice;

/// What services say of the ports of pods.
#[derive(Debug, Default)]
pub(super) struct PodPorts(BTreeMap<SocketAddr, Vec<Said>>);

/// What one service says of a port of a pod.
#[derive(Debug)]
struct Said {
    service: ServicePort,
    protocol: Protocol,
    zone: String,
    node: String,
}

impl PodPorts {
    /// Takes note of one port of a service and all that is behind it, ready or not.
    pub(super) fn add(
        &mut self,
        port: &ServicePort,
        (name, protocol): (&str, Protocol),
        slices: &[&EndpointSlice],
    ) {
        for (_, number, endpoint) in listed(slices, name) {
            for address in &endpoint.addresses {
                let socket = SocketAddr::new(*address, number.number());
                let said = self.0.entry(socket).or_default();
                if said.iter().all(|known| known.service != *port) {
                    // The first counts where only one can: the same one, in whatever order they are added.
                    let at = said.partition_point(|known| known.service < *port);
                    let (zone, node) = (endpoint.zone.clone(), endpoint.node.clone());
                    said.insert(at, Said { service: port.clone(), protocol, zone, node });
                }
            }
        }
    }

    /// Forgets what one port of a service said of an address; at which ports something had been said.
    pub(super) fn forget(&mut self, port: &ServicePort, address: IpAddr) -> Vec<SocketAddr> {
        let sockets: Vec<SocketAddr> = self.sockets(address).collect();
        for socket in &sockets {
            if let Some(said) = self.0.get_mut(socket) {
                said.retain(|known| known.service != *port);
                if said.is_empty() {
                    self.0.remove(socket);
                }
            }
        }
        sockets
    }

    /// What is said of the ports of an address.
    pub(super) fn sockets(&self, address: IpAddr) -> impl Iterator<Item = SocketAddr> {
        let all = SocketAddr::new(address, 0)..=SocketAddr::new(address, u16::MAX);
        self.0.range(all).map(|(socket, _)| *socket)
    }

    /// The ports of an address that something is said of.
    pub(super) fn ports(&self, address: IpAddr) -> impl Iterator<Item = Port> {
        self.sockets(address).filter_map(|socket| Port::new(socket.port()))
    }

    /// All that follows.
    pub(super) fn settled(&self, pods: &Pods) -> HashMap<SocketAddr, PodPort> {
        let sockets = self.0.keys();
        sockets.filter_map(|socket| Some((*socket, self.settle(*socket, pods)?))).collect()
    }

    /// Where services disagree on the protocol, the first bytes will tell; `None`: nothing is said.
    pub(super) fn settle(&self, address: SocketAddr, pods: &Pods) -> Option<PodPort> {
        let said = self.0.get(&address)?;
        let first = said.first()?;
        let agreed = said.iter().all(|other| other.protocol == first.protocol);
        let protocol = match agreed {
            _ if pods.says_opaque(address) => Protocol::Opaque,
            true => first.protocol,
            false => Protocol::Detect,
        };
        let service = (said.len() == 1).then(|| first.service.clone());
        let pod = pods.by_address.get(&address.ip());
        let zone = said_or(&first.zone, pod.map(|pod| &pod.zone));
        let node = said_or(&first.node, pod.map(|pod| &pod.node));
        Some(PodPort { protocol, service, zone, node })
    }
}
