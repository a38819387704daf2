//! Puts everything that can be asked for together from the good states of all objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::endpoint::EndpointSet;
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Protocol, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;

use super::attach::{self, Attachments, Protocols};
use super::backends::Resolver;
use super::backing::{self, Backing, Pods};
use super::conditions::{self, Conflicts};
use super::pod_ports::PodPorts;
use super::policies::{self, Applied, PodLimits, Policies};
use super::refresh::{Changed, Kept};
use super::routes::{self, Rules, Sources};
use super::splits::{self, Referents, Services, Splits};
use super::{Index, good, shared_good, workloads};
use crate::snapshot::{Content, Contents, Resource, Routes, service_reference};
use crate::translate::endpoint_slice::{EndpointSlice, Target};
use crate::translate::pod::Pod;
use crate::translate::service::{self, Service};

/// Makes the contents, and says in what they differ from `previous`, where that is little; resources that equal those of
/// `previous` are shared with it.
pub(super) fn assemble(
    index: &mut Index,
    previous: &Contents,
) -> (Contents, Option<Vec<ResourceKey>>) {
    let (changed, kept) = (mem::take(&mut index.changed), index.kept.take());
    let Index { services, splits, groups, resolved_splits, .. } = index;
    let by_name: Services<'_> = good(services).map(|service| (&service.name, service)).collect();
    let referents = Referents { services: &by_name, groups };
    let splits = splits::decide(splits, referents, resolved_splits);
    let index_now = &*index;
    let by_name: Services<'_> =
        good(&index_now.services).map(|service| (&service.name, service)).collect();
    let slices = backing::by_service(good(&index_now.slices));
    let given = Given { services: &by_name, slices };
    let grants: Vec<_> = good(&index_now.grants).collect();
    let decided = Decided {
        attachments: attach::attachments(index_now, &by_name),
        policies: policies::decide(good(&index_now.policies), &by_name),
        splits,
        resolver: Resolver { services: &by_name, grants: &grants },
        protocols: Protocols::new(),
    };
    let kept = kept.filter(|kept| kept.is_of(previous));
    let refreshed = match (changed, kept) {
        (Changed::Little(little), Some(mut kept)) => {
            let refreshed = kept.refresh(&little, previous, (&given, &decided));
            refreshed.map(|(contents, differs)| (contents, kept, differs))
        }
        (Changed::Little(_) | Changed::Anything, _) => None,
    };
    let (contents, kept, differs) = match refreshed {
        Some((contents, kept, differs)) => (contents, kept, Some(differs)),
        None => {
            let (contents, kept) = all(index_now, previous, (&given, decided));
            (contents, kept, None)
        }
    };
    index.kept = Some(kept);
    (contents, differs)
}

/// Services, and what stands behind them.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) services: &'a Services<'a>,
    slices: BTreeMap<&'a ServiceName, Vec<&'a EndpointSlice>>,
}

impl<'a> Given<'a> {
    /// The slices of one service.
    pub(super) fn slices_of(&self, service: &ServiceName) -> &[&'a EndpointSlice] {
        self.slices.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// The services that some of these pods stand behind, in name.
    pub(super) fn services_of(
        &self,
        is_one: impl Fn(&PodUid) -> bool,
    ) -> impl Iterator<Item = &'a ServiceName> {
        let lists = move |slice: &&EndpointSlice| {
            slice.endpoints.iter().any(|endpoint| match &endpoint.target {
                Target::Pod(uid) => is_one(uid),
                Target::ByAddress => false,
            })
        };
        let services = self.slices.iter().filter(move |(_, slices)| slices.iter().any(&lists));
        services.map(|(name, _)| *name)
    }

    /// What policies say of the pods behind services.
    pub(super) fn limits(&self, decided: &Decided<'_>, pods: &Pods) -> PodLimits {
        let mut limits = PodLimits::default();
        for (key, policy) in &decided.policies.by_port {
            let service = self.services.get(&key.service);
            let port = service.and_then(|service| service.ports.get(&key.port));
            if let Some(port) = port.filter(|_| !policy.policy.rate_limits.is_empty()) {
                let behind = backing::pods_behind(&port.name, self.slices_of(&key.service), pods);
                limits.add(key, *policy, &behind);
            }
        }
        limits
    }
}

fn all(
    index: &Index,
    previous: &Contents,
    (given, mut decided): (&Given<'_>, Decided<'_>),
) -> (Contents, Kept) {
    let pods = Pods::new(good(&index.pods), good(&index.nodes));
    let mut protocols = Protocols::new();
    let mut contents = Contents::default();
    let mut said = PodPorts::default();
    let mut all_endpoints = HashMap::new();
    for (name, service) in given.services {
        let slices = given.slices_of(name);
        for (number, port) in &service.ports {
            let key = ServicePort { service: (*name).clone(), port: *number };
            let backing = backing::backing(service, &port.name, slices, &pods);
            let protocol = protocol(port, &backing);
            said.add(&key, (&port.name, protocol), slices);
            protocols.insert(key.clone(), protocol);
            let policy = decided.policies.by_port.get(&key).copied();
            destinations(&mut contents, previous, (&key, protocol), (service, &decided));
            stand(&mut contents.not_ready, &mut contents.last_resort, &key, &backing);
            let endpoints = endpoints(&key, backing, (service, policy));
            let known = previous.endpoints.get(&key);
            all_endpoints.insert(key.clone(), shared(known, endpoints));
        }
        let ports = service.ports.keys().copied().collect();
        Arc::make_mut(&mut contents.ports).insert((*name).clone(), ports);
    }
    contents.endpoints = Arc::new(all_endpoints);
    contents.pod_ports = Arc::new(said.settled(&pods));
    let limits = given.limits(&decided, &pods);
    let sources =
        workloads::Sources { said: &said, pod_ports: &contents.pod_ports, limits: &limits };
    let workload = |pod: &Arc<Pod>| {
        let made = workloads::workload(pod, sources);
        (pod.uid.clone(), shared(previous.workloads.get(&pod.uid), made))
    };
    let meshed = pods.by_uid.values().filter(|pod| pod.meshed);
    contents.workloads = Arc::new(meshed.map(workload).collect());
    decided.protocols.clone_from(&protocols);
    let (services_by_address, conflicts) = service_addresses(given.services);
    contents.services_by_address = Arc::new(services_by_address);
    let (objects, source_errors) = conditions::statuses(index, &decided, &conflicts);
    contents.objects = Arc::new(objects.into_iter().map(Arc::new).collect());
    contents.source_errors = source_errors;
    let services = shared_good(&index.services).into_iter();
    let services = services.map(|service| (service.name.clone(), service)).collect();
    contents.services = Arc::new(services);
    contents.routes = Arc::new(Routes {
        requests: [&index.http_routes, &index.grpc_routes].map(shared_good).concat(),
        connections: [&index.tls_routes, &index.tcp_routes].map(shared_good).concat(),
        splits: shared_good(&index.splits),
    });
    contents.pods = Arc::clone(&pods.by_uid);
    contents.pods_by_address = Arc::clone(&pods.by_address);
    let kept = Kept::new(&contents, pods, said, protocols);
    (contents, kept)
}

/// What a port speaks, as its service and the pods behind it say.
pub(super) fn protocol(port: &service::ServicePort, backing: &Backing) -> Protocol {
    if backing.opaque { Protocol::Opaque } else { port.protocol }
}

/// What stands behind a port and is not used, or only as a last resort.
pub(super) fn stand(
    not_ready: &mut HashMap<ServicePort, Vec<SocketAddr>>,
    last_resort: &mut BTreeSet<ServicePort>,
    key: &ServicePort,
    backing: &Backing,
) {
    if backing.not_ready.is_empty() {
        not_ready.remove(key);
    } else {
        not_ready.insert(key.clone(), backing.not_ready.iter().copied().collect());
    }
    if backing.last_resort {
        last_resort.insert(key.clone());
    } else {
        last_resort.remove(key);
    }
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
    let made = shared(previous.destinations.get(key), made);
    Arc::make_mut(&mut contents.destinations).insert(key.clone(), made);
    for (namespace, attached) in decided.attachments.consumers.get(key).into_iter().flatten() {
        let sources = Sources { attached: Some(attached), ..sources };
        let made = destination(key, protocol, (routes::rules(key, sources), policy));
        let known = previous.of_consumers.get(*namespace).and_then(|own| own.get(key));
        let of_consumers = Arc::make_mut(&mut contents.of_consumers);
        let own = of_consumers.entry((*namespace).to_owned()).or_default();
        own.insert(key.clone(), shared(known, made));
    }
}

/// The previous resource if it says the same: then nothing was changed, and no digest is computed.
pub(super) fn shared(
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

pub(super) fn endpoints(
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
