//! Puts everything that can be asked for together from the good states of all objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::endpoint::EndpointSet;
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::policy::BackendPolicy;
use heddle_model::workload::{InboundPort, Workload};

use super::backing::{self, Backing, PodPorts, Pods};
use super::conditions::{self, Conflicts};
use super::routes::{self, Rules};
use super::splits::{self, Services};
use super::{Index, good};
use crate::snapshot::{Content, Contents, PodPort, Resource, service_reference};
use crate::translate::pod::Pod;

/// Makes the contents; resources that equal `previous` ones are shared with it.
pub(super) fn assemble(index: &mut Index, previous: &Contents) -> Contents {
    let Index { services, splits, resolved_splits, .. } = index;
    let by_name: Services<'_> = good(services).map(|service| (&service.name, service)).collect();
    let splits = splits::decide(splits, &by_name, resolved_splits);
    let index = &*index;
    let by_name: Services<'_> =
        good(&index.services).map(|service| (&service.name, service)).collect();
    let pods = Pods::new(good(&index.pods));
    let slices = backing::by_service(good(&index.slices));
    let attached = routes::by_port(good(&index.routes), &by_name);
    let mut contents = Contents::default();
    let mut pod_ports = PodPorts::default();
    for (name, service) in &by_name {
        let slices = slices.get(name).map(Vec::as_slice).unwrap_or_default();
        for (number, port) in &service.ports {
            let key = ServicePort { service: (*name).clone(), port: *number };
            let backing = backing::backing(service, &port.name, slices, &pods);
            let protocol = if backing.opaque { Protocol::Opaque } else { port.protocol };
            pod_ports.add(&key, (&port.name, protocol), slices);
            let routes = attached.get(&key).map(Vec::as_slice).unwrap_or_default();
            let rules = routes::rules(&key, routes, splits.by_root.get(*name), &by_name);
            let destination = destination(&key, protocol, rules);
            contents
                .destinations
                .insert(key.clone(), shared(previous.destinations.get(&key), destination));
            let endpoints = endpoints(&key, backing);
            contents.endpoints.insert(key.clone(), shared(previous.endpoints.get(&key), endpoints));
        }
        contents.ports.insert((*name).clone(), service.ports.keys().copied().collect());
    }
    contents.pod_ports = pod_ports.settle(&pods);
    contents.workloads = workloads(&pods, &contents.pod_ports, previous);
    let (services_by_address, conflicts) = service_addresses(&by_name);
    contents.services_by_address = services_by_address;
    let (objects, source_errors) = conditions::statuses(index, &by_name, &splits, &conflicts);
    contents.objects = objects;
    contents.source_errors = source_errors;
    contents.pods = pods.by_uid;
    contents.pods_by_address = pods.by_address;
    contents
}

/// The previous resource if it says the same: then nothing was changed, and no digest is computed.
fn shared(
    previous: Option<&Arc<Resource>>,
    (content, origins): (Content, Vec<ObjectReference>),
) -> Arc<Resource> {
    previous
        .filter(|previous| previous.content == content && previous.origins == origins)
        .cloned()
        .unwrap_or_else(|| Arc::new(Resource::new(content, origins)))
}

fn destination(
    key: &ServicePort,
    protocol: Protocol,
    rules: Rules,
) -> (Content, Vec<ObjectReference>) {
    let mut origins = vec![service_reference(&key.service)];
    origins.extend(rules.origins);
    let destination = Destination::Service(ServiceDestination {
        service: key.clone(),
        protocol,
        http_rules: rules.http,
        tls_rules: Vec::new(),
        connections: rules.connections,
    });
    (Content::Destination(destination), origins)
}

fn endpoints(key: &ServicePort, backing: Backing) -> (Content, Vec<ObjectReference>) {
    let mut origins = vec![service_reference(&key.service)];
    origins.extend(backing.slices);
    let set = EndpointSet { endpoints: backing.endpoints, policy: BackendPolicy::default() };
    (Content::Endpoints(set), origins)
}

fn workloads(
    pods: &Pods,
    pod_ports: &HashMap<std::net::SocketAddr, PodPort>,
    previous: &Contents,
) -> HashMap<PodUid, Arc<Resource>> {
    let mut served: HashMap<IpAddr, BTreeSet<Port>> = HashMap::new();
    for address in pod_ports.keys() {
        if let Some(port) = Port::new(address.port()) {
            served.entry(address.ip()).or_default().insert(port);
        }
    }
    let workload = |pod: &Arc<Pod>| {
        let mut ports: BTreeMap<Port, Protocol> = BTreeMap::new();
        let declared = pod.ports.iter().map(|declared| declared.port);
        let behind = pod.addresses.iter().filter_map(|address| served.get(address)).flatten();
        for port in declared.chain(behind.copied()) {
            let said = pod.addresses.iter().find_map(|address| {
                pod_ports.get(&std::net::SocketAddr::new(*address, port.number()))
            });
            let protocol = said.map_or_else(|| pod.protocol_of(port), |said| said.protocol);
            ports.insert(port, protocol);
        }
        let ports = ports.into_iter().map(|(port, protocol)| InboundPort { port, protocol });
        let workload = Workload {
            namespace: pod.reference.namespace.clone(),
            name: pod.reference.name.clone(),
            pod_uid: pod.uid.clone(),
            inbound_mode: pod.inbound_mode,
            ports: ports.collect(),
            rate_limits: Vec::new(),
            zone: String::new(),
            node: String::new(),
        };
        let made = (Content::Workload(workload), vec![pod.reference.clone()]);
        (pod.uid.clone(), shared(previous.workloads.get(&pod.uid), made))
    };
    pods.by_uid.values().filter(|pod| pod.meshed).map(workload).collect()
}

/// An address that two services claim belongs to the older one.
fn service_addresses(services: &Services<'_>) -> (HashMap<IpAddr, ServiceName>, Conflicts) {
    let mut by_age: Vec<_> = services.values().collect();
    by_age.sort_by(|left, right| left.seniority.cmp(&right.seniority));
    let mut found: HashMap<IpAddr, ServiceName> = HashMap::new();
    let mut conflicts = Conflicts::default();
    for service in by_age {
        for address in &service.addresses {
            let owner = found.entry(*address).or_insert_with(|| service.name.clone());
            if *owner != service.name {
                let message =
                    format!("spec.clusterIPs: {address} belongs to service {owner} already");
                conflicts.services.insert(service_reference(&service.name), message);
            }
        }
    }
    (found, conflicts)
}
