//! Node → the zone it is in, and the addresses that its kubelet calls pods from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as api;

/// What the mesh knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its topology zone; empty if it does not say.
    pub zone: String,
    /// Where its kubelet may call its pods from: its own addresses, and that of the bridge or router that
    /// most networks give the node in its pods' network. Each once.
    pub addresses: Vec<IpAddr>,
}

/// Reads a node. What is no address is no address to call from: node addresses are names, too.
pub fn translate(node: &api::Node) -> Node {
    let status = node.status.as_ref();
    let own = status.iter().flat_map(|status| status.addresses.iter().flatten());
    let own = own.filter_map(|address| address.address.parse().ok());
    let spec = node.spec.as_ref();
    let networks = spec.iter().flat_map(|spec| {
        spec.pod_cidrs.iter().flatten().chain(spec.pod_cidr.as_ref()).filter_map(|it| first(it))
    });
    let annotations = node.metadata.annotations.as_ref();
    let told = ROUTER_ANNOTATIONS.iter().filter_map(|name| annotations?.get(*name)?.parse().ok());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in own.chain(networks).chain(told) {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_LIMIT {
            addresses.push(address);
        }
    }
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        zone: zone(node.metadata.labels.as_ref()).unwrap_or_default(),
        addresses,
    }
}

/// What labels (or annotations) say of a zone.
pub fn zone(labels: Option<&BTreeMap<String, String>>) -> Option<String> {
    labels.and_then(|labels| labels.get(ZONE)).filter(|zone| !zone.is_empty()).cloned()
}

/// The first address of a network, which the usual plugins give the node: bridge, ptp, host-local, flannel.
fn first(network: &str) -> Option<IpAddr> {
    Some(match network.parse::<IpNet>().ok()?.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network).checked_add(1)?).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network).checked_add(1)?).into(),
    })
}

/// Set on nodes by cloud providers; newer Kubernetes copies it to pods.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Networks that give the node another address than the first say it so: Cilium, Calico.
const ROUTER_ANNOTATIONS: [&str; 5] = [
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
];
/// More than any node has.
const ADDRESSES_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kubelet_calls_from_the_nodes_addresses_and_the_first_of_its_pods_network() {
        let node = json!({
            "metadata": {"name": "n", "annotations": {
                "network.cilium.io/ipv4-cilium-host": "10.244.1.77", "other": "10.0.0.9",
            }},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64", "nonsense"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "10.98.0.11"}, {"type": "Hostname", "address": "n"},
            ]},
        });
        let read = translate(&serde_json::from_value(node).unwrap());
        let addresses: Vec<String> = read.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.98.0.11", "10.244.1.1", "fd00:1::1", "10.244.1.77"]);
        let bare = translate(&api::Node::default());
        assert!(bare.addresses.is_empty());
    }
}
