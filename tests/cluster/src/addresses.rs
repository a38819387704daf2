//! The addresses of a cluster, all of them in network namespaces that nothing else is in, and so the same for every
//! cluster.

use std::net::Ipv4Addr;

/// The bridge that all nodes are connected to, and their way out, which leads nowhere.
pub const FABRIC: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// How long the prefix of the nodes' network is.
pub const FABRIC_PREFIX_BITS: u8 = 24;
/// Of all pods.
pub const PODS: &str = "10.244.0.0/16";
/// Of all services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The service `kubernetes`: the first address of the range, which the API server takes.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The service `kube-dns`.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Where the API server listens on the first node.
pub const API_PORT: u16 = 6443;
/// The first node, which runs the control plane.
pub const FIRST_NODE: u8 = 1;
/// The domain of all services.
pub const DOMAIN: &str = "cluster.local";

/// A node's own address.
pub fn of_node(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, 0, 10_u8.saturating_add(number))
}

/// The addresses of a node's pods.
pub fn pods_of_node(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// The API server, as the nodes see it.
pub fn api_server() -> String {
    format!("https://{}:{API_PORT}", of_node(FIRST_NODE))
}
