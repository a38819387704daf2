//! Puts everything that can be asked for together from the good states of all objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::endpoint::EndpointSet;
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::workload::{InboundPort, Workload};

use super::attach::{self, Attachments, Protocols};
use super::backends::Resolver;
use super::backing::{self, Backing, PodPorts, Pods};
use super::conditions::{self, Conflicts};
use super::policies::{self, Applied, PodLimits, Policies};
use super::routes::{self, Rules, Sources};
use super::splits::{self, Referents, Services, Splits};
use super::{Index, good, shared_good};
use crate::snapshot::{Content, Contents, PodPort, Resource, Routes, service_reference};
use crate::translate::pod::Pod;
use crate::translate::service::Service;

/// Makes the contents; resources that equal `previous` ones are shared with it.
pub(super) fn assemble(index: &mut Index, previous: &Contents) -> Contents {
    let Index { services, splits, groups, resolved_splits, .. } = index;
    let by_name: Services<'_> = good(services).map(|service| (&service.name, service)).collect();
    let referents = Referents { services: &by_name, groups };
    let splits = splits::decide(splits, referents, resolved_splits);
    let index = &*index;
    let by_name: Services<'_> =
        good(&index.services).map(|service| (&service.name, service)).collect();
    let pods = Pods::new(good(&index.pods), good(&index.nodes));
    let slices = backing::by_service(good(&index.slices));
    let grants: Vec<_> = good(&index.grants).collect();
    let mut protocols = Protocols::new();
    let mut decided = Decided {
        attachments: attach::attachments(index, &by_name),
        policies: policies::decide(good(&index.policies), &by_name),
        splits,
        resolver: Resolver { services: &by_name, grants: &grants },
        protocols: Protocols::new(),
    };
    let mut contents = Contents::default();
    let mut pod_ports = PodPorts::default();
    let mut limits = PodLimits::default();
    for (name, service) in &by_name {
        let slices = slices.get(name).map(Vec::as_slice).unwrap_or_default();
        for (number, port) in &service.ports {
            let key = ServicePort { service: (*name).clone(), port: *number };
            let backing = backing::backing(service, &port.name, slices, &pods);
            let protocol = if backing.opaque { Protocol::Opaque } else { port.protocol };
            pod_ports.add(&key, (&port.name, protocol), slices);
            protocols.insert(key.clone(), protocol);
            let policy = decided.policies.by_port.get(&key).copied();
            if let Some(policy) = policy.filter(|applied| !applied.policy.rate_limits.is_empty()) {
                let behind = backing::pods_behind(&port.name, slices, &pods);
                limits.add(&key, policy, &behind);
            }
            destinations(&mut contents, previous, (&key, protocol), (service, &decided));
            if !backing.not_ready.is_empty() {
                let not_ready = backing.not_ready.iter().copied().collect();
                contents.not_ready.insert(key.clone(), not_ready);
            }
            if backing.last_resort {
                contents.last_resort.insert(key.clone());
            }
            let endpoints = endpoints(&key, backing, (service, policy));
            contents.endpoints.insert(key.clone(), shared(previous.endpoints.get(&key), endpoints));
        }
        contents.ports.insert((*name).clone(), service.ports.keys().copied().collect());
    }
    contents.pod_ports = pod_ports.settle(&pods);
    contents.workloads = workloads(&pods, (&contents.pod_ports, &limits), previous);
    decided.protocols = protocols;
    let (services_by_address, conflicts) = service_addresses(&by_name);
    contents.services_by_address = services_by_address;
    let (objects, source_errors) = conditions::statuses(index, &decided, &conflicts);
    contents.objects = objects;
    contents.source_errors = source_errors;
    let services = shared_good(&index.services).into_iter();
    contents.services = services.map(|service| (service.name.clone(), service)).collect();
    contents.routes = Routes {
        requests: [&index.http_routes, &index.grpc_routes].map(shared_good).concat(),
        connections: [&index.tls_routes, &index.tcp_routes].map(shared_good).concat(),
        splits: shared_good(&index.splits),
    };
    contents.pods = pods.by_uid;
    contents.pods_by_address = pods.by_address;
    contents
}

/// What was decided where several objects want something of one service.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    pub(super) attachments: Attachments<'a>,
    pub(super) policies: Policies<'a>,
    pub(super) splits: Splits,
    pub(super) resolver: Resolver<'a>,
    /// Of every port, once all are known.
    pub(super) protocols: Protocols,
}

/// What a port means to every caller, and to those whose namespace has routes of its own for it.
fn destinations(
    contents: &mut Contents,
    previous: &Contents,
    (key, protocol): (&ServicePort, Protocol),
    (service, decided): (&Service, &Decided<'_>),
) {
    let applied = decided.policies.by_port.get(key);
    let of_policy = applied.and_then(|applied| applied.policy.fault.as_ref());
    let sources = Sources {
        attached: decided.attachments.producers.get(key),
        split: decided.splits.by_root.get(&key.service),
        fault: of_policy.or(service.fault.as_ref()),
        resolver: decided.resolver,
    };
    let policy = applied.filter(|_| of_policy.is_some()).map(|applied| &applied.policy.reference);
    let made = destination(key, protocol, (routes::rules(key, sources), policy));
    contents.destinations.insert(key.clone(), shared(previous.destinations.get(key), made));
    for (namespace, attached) in decided.attachments.consumers.get(key).into_iter().flatten() {
        let sources = Sources { attached: Some(attached), ..sources };
        let made = destination(key, protocol, (routes::rules(key, sources), policy));
        let known = previous.of_consumers.get(*namespace).and_then(|own| own.get(key));
        let own = contents.of_consumers.entry((*namespace).to_owned()).or_default();
        own.insert(key.clone(), shared(known, made));
    }
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
    (rules, policy): (Rules, Option<&ObjectReference>),
) -> (Content, Vec<ObjectReference>) {
    let mut origins = vec![service_reference(&key.service)];
    origins.extend(rules.origins);
    // Whoever routes by server name says that there may be one to be read. What is not encrypted stays
    // what it is: requests are requests, and proxies look no further than for a name on opaque ports.
    let protocol = match protocol {
        Protocol::Http1 | Protocol::Http2 if !rules.tls.is_empty() => Protocol::Detect,
        Protocol::Detect | Protocol::Http1 | Protocol::Http2 | Protocol::Tls | Protocol::Opaque => {
            protocol
        }
    };
    origins.extend(policy.cloned());
    let destination = Destination::Service(ServiceDestination {
        service: key.clone(),
        protocol,
        http_rules: rules.http,
        tls_rules: rules.tls,
        connections: rules.connections,
    });
    (Content::Destination(destination), origins)
}

fn endpoints(
    key: &ServicePort,
    backing: Backing,
    (service, applied): (&Service, Option<Applied<'_>>),
) -> (Content, Vec<ObjectReference>) {
    let mut origins = vec![service_reference(&key.service)];
    origins.extend(backing.slices);
    origins.extend(applied.map(|applied| applied.policy.reference.clone()));
    let policy = policies::backend_policy(service, applied);
    let set = EndpointSet { endpoints: backing.endpoints, policy };
    (Content::Endpoints(set), origins)
}

fn workloads(
    pods: &Pods,
    (pod_ports, limits): (&HashMap<std::net::SocketAddr, PodPort>, &PodLimits),
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
        let slices_say = |part: fn(&PodPort) -> &String| {
            let mut said = pod.addresses.iter().flat_map(|address| {
                let ports = served.get(address).into_iter().flatten();
                ports.filter_map(|port| {
                    pod_ports.get(&std::net::SocketAddr::new(*address, port.number()))
                })
            });
            said.find(|said| !part(said).is_empty()).map(part).cloned().unwrap_or_default()
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
        let made = (Content::Workload(workload), origins);
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
