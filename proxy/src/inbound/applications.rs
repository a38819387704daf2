//! The application's ports, with the connections to them that can be used again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
use heddle_model::policy::{BackendPolicy, CircuitLimits};
use heddle_model::workload::Workload;
use parking_lot::Mutex;

use crate::balance::balancer::Balancer;
use crate::balance::locality::Place;

/// What is kept for each port of the application that was called.
#[derive(Debug, Default)]
pub(super) struct Applications {
    ports: Mutex<Ports>,
    local: Mutex<HashSet<IpAddr>>,
}

/// Callers make up ports, and cannot take the places of those that are declared.
#[derive(Debug, Default)]
struct Ports {
    /// As many as are declared, on as many addresses as the pod has.
    declared: HashMap<SocketAddr, Arc<Balancer>>,
    /// [`PORT_LIMIT`] at most.
    others: HashMap<SocketAddr, Arc<Balancer>>,
}

impl Applications {
    /// The port's balancer, which holds the application as its only endpoint.
    pub(super) fn of(&self, address: SocketAddr, workload: &Workload) -> Arc<Balancer> {
        let is_declared =
            workload.ports.iter().any(|declared| declared.port.number() == address.port());
        let mut ports = self.ports.lock();
        let ports = if is_declared { &mut ports.declared } else { &mut ports.others };
        if let Some(known) = ports.get(&address) {
            return Arc::clone(known);
        }
        let balancer = Balancer::labelled(label(address, workload, is_declared));
        let endpoint = Endpoint {
            address,
            peer: ExpectedPeer::Plaintext,
            zone: String::new(),
            node: String::new(),
            pod: workload.name.clone(),
        };
        let set = EndpointSet { endpoints: vec![endpoint], policy: policy() };
        balancer.update(set, &Place::default());
        // Beyond the limit a connection shares its pool with none.
        if is_declared || ports.len() < PORT_LIMIT {
            ports.insert(address, Arc::clone(&balancer));
        }
        balancer
    }

    /// Whether an address is this machine's own: only then can something be bound to it. Fails if
    /// that cannot be found out, as when descriptors have run out.
    pub(super) fn is_local(&self, ip: IpAddr) -> io::Result<bool> {
        if self.local.lock().contains(&ip) {
            return Ok(true);
        }
        match UdpSocket::bind((ip, 0)) {
            Ok(_bound) => {
                let mut local = self.local.lock();
                if local.len() < LOCAL_LIMIT {
                    local.insert(ip);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What cannot be served at once is refused at once: callers, and their proxies, know better what to
/// do then.
fn policy() -> BackendPolicy {
    let limits = CircuitLimits { pending_timeout: Duration::ZERO, ..CircuitLimits::default() };
    BackendPolicy { limits, ..BackendPolicy::default() }
}

/// Ports that are not declared share a name, so that callers cannot make up many.
fn label(address: SocketAddr, workload: &Workload, is_declared: bool) -> Arc<str> {
    let Workload { namespace, name, .. } = workload;
    if is_declared {
        format!("{namespace}/{name}:{}", address.port()).into()
    } else {
        format!("{namespace}/{name}:other").into()
    }
}

/// Ports of one application that are not declared and whose connections are kept.
const PORT_LIMIT: usize = 256;
/// Addresses that a pod may have and that need not be asked about again.
const LOCAL_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use heddle_model::names::{Port, Protocol};
    use heddle_model::workload::{InboundMode, InboundPort, NodeProbes};

    use super::*;

    fn workload() -> Workload {
        Workload {
            namespace: "default".to_owned(),
            name: "api-0".to_owned(),
            pod_uid: "u1".parse().unwrap(),
            inbound_mode: InboundMode::Strict,
            ports: vec![InboundPort { port: Port::new(80).unwrap(), protocol: Protocol::Detect }],
            rate_limits: Vec::new(),
            zone: String::new(),
            node: String::new(),
            probes: NodeProbes::default(),
            access_log: Default::default(),
        }
    }

    #[test]
    fn undeclared_ports_share_a_name_but_no_pool() {
        let applications = Applications::default();
        let of = |port| applications.of(([127, 0, 0, 1], port).into(), &workload());
        assert_eq!(&**of(80).label(), "default/api-0:80");
        assert_eq!(&**of(81).label(), "default/api-0:other");
        assert_eq!(&**of(82).label(), "default/api-0:other");
        assert!(Arc::ptr_eq(&of(81), &of(81)));
        assert!(!Arc::ptr_eq(&of(81), &of(82)));
    }

    #[test]
    fn ports_that_callers_made_up_take_no_place_of_a_declared_one() {
        let applications = Applications::default();
        let of = |port| applications.of(([127, 0, 0, 1], port).into(), &workload());
        let made_up = 1000..1000 + u16::try_from(PORT_LIMIT).unwrap();
        for port in made_up.clone() {
            of(port);
        }
        assert!(Arc::ptr_eq(&of(80), &of(80)), "declared");
        assert!(Arc::ptr_eq(&of(made_up.start), &of(made_up.start)), "within the limit");
        assert!(!Arc::ptr_eq(&of(made_up.end), &of(made_up.end)), "beyond the limit");
        assert_eq!(applications.ports.lock().others.len(), PORT_LIMIT);
    }

    #[test]
    fn only_own_addresses_are_local() {
        let applications = Applications::default();
        assert!(applications.is_local([127, 0, 0, 1].into()).unwrap());
        assert!(!applications.is_local([192, 0, 2, 1].into()).unwrap());
    }
}
