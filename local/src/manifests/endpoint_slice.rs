//! The EndpointSlices of the services, by selector and readiness, as Kubernetes' controller writes them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::documents;
use super::pod::PodPlan;
use super::service::{ServicePlan, ServicePortPlan};

/// A pod that may be an endpoint. One that is on its way out is not among them.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a PodPlan,
    /// Whether it is ready.
    pub ready: bool,
}

/// The files with the slices of all services, one file per service, so that both families change at once.
pub fn files(services: &[ServicePlan], pods: &[Candidate<'_>]) -> BTreeMap<PathBuf, Vec<u8>> {
    services
        .iter()
        .filter(|service| !service.selector.is_empty())
        .map(|service| {
            let file = format!("{}_{}.yaml", service.name.namespace, service.name.name);
            let text: String = slices(service, pods)
                .iter()
                .filter_map(documents::print_value)
                .map(|yaml| format!("---\n{}\n", yaml.trim_end()))
                .collect();
            (PathBuf::from(".generated/endpoint-slices").join(file), text.into_bytes())
        })
        .collect()
}

/// The addresses of a service's ready pods.
pub fn ready_addresses(service: &ServicePlan, pods: &[Candidate<'_>]) -> Vec<IpAddr> {
    pods.iter()
        .filter(|candidate| service.selects(candidate.pod))
        .filter(|candidate| candidate.ready || service.publish_not_ready)
        .flat_map(|candidate| candidate.pod.addresses.all())
        .collect()
}

fn slices(service: &ServicePlan, pods: &[Candidate<'_>]) -> Vec<Value> {
    let mut slices = Vec::new();
    for (family, is_family) in
        [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)]
    {
        // A name of a port may mean another number in another pod, and a slice has one list of ports.
        let mut by_ports: BTreeMap<Vec<Option<u16>>, Vec<Value>> = BTreeMap::new();
        for candidate in pods.iter().filter(|candidate| service.selects(candidate.pod)) {
            let ready = candidate.ready || service.publish_not_ready;
            let Some(address) = candidate.pod.addresses.all().into_iter().find(is_family) else {
                continue;
            };
            let numbers =
                service.ports.iter().map(|port| port.target.resolve(candidate.pod)).collect();
            by_ports.entry(numbers).or_default().push(endpoint(candidate.pod, address, ready));
        }
        for (index, (numbers, endpoints)) in by_ports.into_iter().enumerate() {
            let name = format!("{}-{}-{index}", service.name.name, family.to_lowercase());
            slices.push(slice(service, (&name, family), &numbers, endpoints));
        }
    }
    if slices.is_empty() {
        let numbers: Vec<_> = service.ports.iter().map(|_| None).collect();
        let name = format!("{}-ipv4-0", service.name.name);
        slices.push(slice(service, (&name, "IPv4"), &numbers, Vec::new()));
    }
    slices
}

fn slice(
    service: &ServicePlan,
    (name, family): (&str, &str),
    numbers: &[Option<u16>],
    endpoints: Vec<Value>,
) -> Value {
    let ports: Vec<_> = service
        .ports
        .iter()
        .zip(numbers)
        .filter_map(|(port, number)| Some(slice_port(port, (*number)?)))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": service.name.namespace,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "heddle-local",
                "kubernetes.io/service-name": service.name.name,
            },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    })
}

fn slice_port(port: &ServicePortPlan, number: u16) -> Value {
    match &port.app_protocol {
        None => json!({"name": port.name, "port": number, "protocol": port.protocol}),
        Some(app_protocol) => json!({
            "name": port.name,
            "port": number,
            "protocol": port.protocol,
            "appProtocol": app_protocol,
        }),
    }
}

fn endpoint(pod: &PodPlan, address: IpAddr, ready: bool) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
        "targetRef": {
            "kind": "Pod",
            "namespace": pod.name.namespace,
            "name": pod.name.name,
            "uid": pod.uid.as_str(),
        },
    })
}
