//! What one call depends on, as facts; what follows from them is for meshctl to say. Pure. What a name stands for is
//! in `explain/name.rs`, which pods call in `explain/caller.rs`.

mod caller;
mod name;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::destination::Destination;
use heddle_model::endpoint::{EndpointSet, ExpectedPeer};
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, ServicePort};
use heddle_model::resource::ResourceKey;
use heddle_model::workload::InboundMode;
use heddle_proto::admin as wire;
use heddle_proto::discovery;

use crate::admin::explain::name::Named;
use crate::snapshot::{Content, Contents, Resource, Snapshot};
use crate::translate::pod::Pod;
use crate::translate::service::Service;

/// What is known beside the configuration.
pub(super) trait Proxied {
    /// A pod's proxy; `None`: it is not known here.
    fn proxy(&self, uid: &PodUid) -> Option<wire::Proxy>;
    /// What a pod's proxy holds of a resource, with its digest; `None`: nothing, or it is not connected here.
    fn held(&self, uid: &PodUid, key: &ResourceKey) -> Option<(wire::HeldResource, u64)>;
}

/// Where a call goes.
#[derive(Debug, Default)]
struct Target<'a> {
    service: Option<&'a Arc<Service>>,
    pod: Option<&'a Arc<Pod>>,
    port: Option<Port>,
    address: Option<SocketAddr>,
    /// Of how many.
    addresses: usize,
    /// The others that mean the same: a caller may call a service by an address of either family.
    alike: Vec<SocketAddr>,
}

/// Everything that a call depends on.
pub(super) fn facts(
    snapshot: &Snapshot,
    proxied: &impl Proxied,
    request: &wire::ExplainRequest,
) -> wire::CallFacts {
    let contents = &*snapshot.contents;
    let wire::ExplainRequest { namespace, name, host, port, .. } = request;
    let pods = caller::pods(contents, (request.kind(), namespace, name));
    // One that is connected tells most.
    let connected = |pod: &&&Arc<Pod>| proxied.proxy(&pod.uid).is_some_and(|proxy| proxy.connected);
    let caller = pods.iter().find(connected).or(pods.first());
    let mut facts = wire::CallFacts {
        version: snapshot.version.0,
        callers: count(pods.len()),
        caller: caller.map(|pod| pod_facts(contents, proxied, pod)),
        ..wire::CallFacts::default()
    };
    let named = name::resolve(contents, namespace, host);
    if let Named::Missing(missing) = &named {
        facts.known_services = name::known_services(contents, &missing.namespace);
    }
    describe_name(&named, &mut facts);
    let target = target(contents, &named, u16::try_from(*port).ok().and_then(Port::new));
    facts.service = target.service.map(|service| service_facts(contents, service));
    facts.port = target.port.map_or(0, |port| u32::from(port.number()));
    facts.pod = target.pod.map(|pod| pod_facts(contents, proxied, pod));
    facts.address = target.address.map(Into::into);
    facts.addresses = count(target.addresses);
    if let (Some(address), Some(caller)) = (target.address, caller) {
        destination(contents, proxied, (&caller.uid, address, &target.alike), &mut facts);
    }
    facts.backings = backings(contents, proxied, &target, &facts);
    facts
}

fn describe_name(named: &Named<'_>, facts: &mut wire::CallFacts) {
    let (kind, target) = match named {
        Named::Service(service) => {
            let kind = match (&service.external_name, service.addresses.is_empty()) {
                (Some(_), _) => wire::NamedAs::External,
                (None, true) => wire::NamedAs::Headless,
                (None, false) => wire::NamedAs::Service,
            };
            (kind, Some((&service.name.namespace, &service.name.name)))
        }
        Named::Pod(pod, _) => {
            (wire::NamedAs::Pod, Some((&pod.reference.namespace, &pod.reference.name)))
        }
        Named::Missing(service) => {
            (wire::NamedAs::Missing, Some((&service.namespace, &service.name)))
        }
        Named::Address(_) => (wire::NamedAs::Address, None),
        Named::Outside => (wire::NamedAs::Outside, None),
    };
    facts.named_as = kind.into();
    if let Some((namespace, name)) = target {
        facts.target_namespace.clone_from(namespace);
        facts.target_name.clone_from(name);
    }
}

fn target<'a>(contents: &'a Contents, named: &Named<'a>, port: Option<Port>) -> Target<'a> {
    match named {
        Named::Service(service) => {
            let port = port.or_else(|| only_port(service));
            let mut addresses: Vec<IpAddr> = service.addresses.clone();
            if addresses.is_empty() && service.external_name.is_none() {
                addresses = behind(contents, service);
            }
            let pod = match service.addresses.is_empty() {
                true => addresses.first().and_then(|address| contents.pods_by_address.get(address)),
                false => None,
            };
            let address =
                addresses.first().zip(port).map(|(ip, port)| SocketAddr::new(*ip, port.number()));
            let others = service.addresses.iter().skip(1);
            let alike = others
                .zip(std::iter::repeat(port))
                .filter_map(|(ip, port)| port.map(|port| SocketAddr::new(*ip, port.number())));
            Target {
                service: Some(service),
                pod,
                port,
                address,
                addresses: addresses.len(),
                alike: alike.collect(),
            }
        }
        Named::Pod(pod, service) => {
            let port = port.or_else(|| only_port(service));
            let address = pod.addresses.first().zip(port);
            Target {
                service: Some(service),
                pod: Some(pod),
                port,
                address: address.map(|(ip, port)| SocketAddr::new(*ip, port.number())),
                addresses: pod.addresses.len(),
                alike: Vec::new(),
            }
        }
        Named::Address(address) => {
            let service = contents.services_by_address.get(address);
            let service = service.and_then(|name| contents.services.get(name));
            let port = port.or_else(|| service.and_then(|service| only_port(service)));
            Target {
                service,
                pod: contents.pods_by_address.get(address).filter(|_| service.is_none()),
                port,
                address: port.map(|port| SocketAddr::new(*address, port.number())),
                addresses: 1,
                alike: Vec::new(),
            }
        }
        Named::Missing(_) | Named::Outside => Target { port, ..Target::default() },
    }
}

fn only_port(service: &Service) -> Option<Port> {
    let mut ports = service.ports.keys();
    ports.next().filter(|_| ports.next().is_none()).copied()
}

/// What the name of a headless service stands for: the addresses of its ready pods.
fn behind(contents: &Contents, service: &Service) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for number in service.ports.keys() {
        let key = ServicePort { service: service.name.clone(), port: *number };
        let set = contents.endpoints.get(&key).and_then(|resource| endpoint_set(resource));
        for endpoint in set.into_iter().flat_map(|set| &set.endpoints) {
            if !found.contains(&endpoint.address.ip()) {
                found.push(endpoint.address.ip());
            }
        }
    }
    found
}

/// What the caller's proxy is told of an address, and what it made of it.
fn destination(
    contents: &Contents,
    proxied: &impl Proxied,
    (caller, address, alike): (&PodUid, SocketAddr, &[SocketAddr]),
    facts: &mut wire::CallFacts,
) {
    let key = ResourceKey::Destination(address);
    let Some(resource) = contents.resource(&key, caller) else { return };
    if let Content::Destination(destination) = &resource.content {
        facts.destination = Some(destination.into());
    }
    facts.origins = resource.origins.iter().map(Into::into).collect();
    let asked = std::iter::once(&address).chain(alike);
    let held = asked.map(|address| proxied.held(caller, &ResourceKey::Destination(*address)));
    if let Some((held, digest)) = held.flatten().next() {
        facts.held_is_current = digest == resource.digest;
        facts.held = Some(held);
    }
    for needed in resource.needs() {
        facts.backings.push(backing(contents, proxied, needed));
    }
    if let Content::Destination(Destination::Endpoint(endpoint)) = &resource.content
        && let Some(pod) = contents.pods_by_address.get(&endpoint.endpoint.address.ip())
    {
        facts.pod = Some(pod_facts(contents, proxied, pod));
    }
}

/// Those that the destination needs, and the called port's own: callers without a proxy go there.
fn backings(
    contents: &Contents,
    proxied: &impl Proxied,
    target: &Target<'_>,
    facts: &wire::CallFacts,
) -> Vec<wire::BackingFacts> {
    let mut found = facts.backings.clone();
    let own =
        target.service.zip(target.port).filter(|(service, port)| service.ports.contains_key(port));
    if let Some((service, port)) = own {
        let own = ServicePort { service: service.name.clone(), port };
        let wire = Some(discovery::ServicePort::from(&own));
        if found.iter().all(|known| known.port != wire) {
            found.push(backing(contents, proxied, &own));
        }
    }
    found
}

fn backing(contents: &Contents, proxied: &impl Proxied, port: &ServicePort) -> wire::BackingFacts {
    let mut found = wire::BackingFacts { port: Some(port.into()), ..wire::BackingFacts::default() };
    let Some(resource) = contents.endpoints.get(port) else { return found };
    let Some(set) = endpoint_set(resource) else { return found };
    for endpoint in &set.endpoints {
        let pod = match &endpoint.peer {
            ExpectedPeer::Mesh { pod_uid, .. } => contents.pods.get(pod_uid),
            ExpectedPeer::Plaintext => contents.pods_by_address.get(&endpoint.address.ip()),
        };
        found.endpoints.push(wire::EndpointFacts {
            endpoint: Some(endpoint.into()),
            ready: true,
            pod: pod.map(|pod| pod_facts(contents, proxied, pod)),
        });
    }
    for address in contents.not_ready.get(port).into_iter().flatten() {
        let pod = contents.pods_by_address.get(&address.ip());
        found.endpoints.push(wire::EndpointFacts {
            endpoint: Some(discovery::Endpoint {
                address: Some((*address).into()),
                pod: pod.map(|pod| pod.reference.name.clone()).unwrap_or_default(),
                zone: pod.map(|pod| pod.zone.clone()).unwrap_or_default(),
                node: pod.map(|pod| pod.node.clone()).unwrap_or_default(),
                ..discovery::Endpoint::default()
            }),
            ready: false,
            pod: pod.map(|pod| pod_facts(contents, proxied, pod)),
        });
    }
    found.last_resort = contents.last_resort.contains(port);
    found.policy = Some((&set.policy).into());
    let is_policy = |origin: &&ObjectReference| origin.kind == "TrafficPolicy";
    found.policy_origin = resource.origins.iter().find(is_policy).map(Into::into);
    found
}

fn endpoint_set(resource: &Resource) -> Option<&EndpointSet> {
    match &resource.content {
        Content::Endpoints(set) => Some(set),
        Content::Workload(_) | Content::Destination(_) => None,
    }
}

fn pod_facts(contents: &Contents, proxied: &impl Proxied, pod: &Pod) -> wire::PodFacts {
    let workload = contents.workloads.get(&pod.uid).map(|resource| &resource.content);
    let rate_limits = match workload {
        Some(Content::Workload(workload)) => workload.rate_limits.iter().map(Into::into).collect(),
        Some(Content::Destination(_) | Content::Endpoints(_)) | None => Vec::new(),
    };
    let inbound_mode = match pod.inbound_mode {
        InboundMode::Permissive => discovery::InboundMode::Permissive,
        InboundMode::Strict => discovery::InboundMode::Strict,
    };
    wire::PodFacts {
        namespace: pod.reference.namespace.clone(),
        name: pod.reference.name.clone(),
        pod_uid: pod.uid.to_string(),
        meshed: pod.meshed,
        inbound_mode: inbound_mode.into(),
        identity: pod.identity.to_string(),
        zone: pod.zone.clone(),
        node: pod.node.clone(),
        proxy: proxied.proxy(&pod.uid),
        rate_limits,
    }
}

fn service_facts(contents: &Contents, service: &Service) -> wire::ServiceFacts {
    let ports = service.ports.iter().map(|(number, port)| {
        let key = ServicePort { service: service.name.clone(), port: *number };
        let told = contents.destinations.get(&key).map(|resource| &resource.content);
        let told = match told {
            Some(Content::Destination(Destination::Service(told))) => told.protocol,
            Some(_) | None => port.protocol,
        };
        let reason = match (told == port.protocol, told) {
            (true, _) => port.evidence.to_string(),
            (false, heddle_model::names::Protocol::Opaque) => "a pod behind it says so".to_owned(),
            (false, _) => "a TLSRoute is attached to it".to_owned(),
        };
        wire::PortFacts {
            port: u32::from(number.number()),
            name: port.name.clone(),
            target: port.target.clone(),
            protocol: discovery::Protocol::from(told).into(),
            reason,
        }
    });
    wire::ServiceFacts {
        namespace: service.name.namespace.clone(),
        name: service.name.name.clone(),
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        ports: ports.collect(),
        external_name: service.external_name.clone().unwrap_or_default(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
