//! Everything that can be asked for, at one moment. Made by `index.rs`, never changed; what a proxy
//! lacks of it is decided in `push/`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_model::destination::{Destination, EndpointDestination};
use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::policy::BackendPolicy;
use heddle_model::resource::{ResourceKey, Version};
use heddle_model::workload::Workload;
use heddle_proto::convert;
use heddle_proto::discovery as wire;

use crate::push::news::News;
use crate::push::update::Encodings;
use crate::source::Failure;
use crate::status::ObjectStatus;
use crate::translate::connection_route::ConnectionRoute;
use crate::translate::http_route::HttpRoute;
use crate::translate::pod::Pod;
use crate::translate::service::Service;
use crate::translate::traffic_split::TrafficSplit;

/// What can be asked for, and its version. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with every snapshot.
    pub version: Version,
    /// What can be asked for.
    pub contents: Arc<Contents>,
    /// What of it is new.
    pub news: News,
    /// What was encoded of it for one proxy and is the same for others.
    pub encodings: Encodings,
}

impl Snapshot {
    /// One of which nothing is known but what is in it.
    pub fn first(version: Version, contents: Arc<Contents>) -> Self {
        Self { version, contents, news: News::of(version), encodings: Encodings::default() }
    }

    /// One that follows this one; `changed` is what is different, or `None` for anything.
    #[must_use]
    pub fn next(
        &self,
        version: Version,
        contents: Arc<Contents>,
        changed: Option<Vec<ResourceKey>>,
    ) -> Self {
        let news = self.news.and(version, changed);
        Self { version, contents, news, encodings: Encodings::default() }
    }
}

/// One resource. Equal ones are shared by the snapshots that have them.
#[derive(Debug, PartialEq)]
pub struct Resource {
    /// What it says.
    pub content: Content,
    /// Of the content on the wire; never zero.
    pub digest: u64,
    /// The objects that it came from.
    pub origins: Vec<ObjectReference>,
    /// Found out once, and asked by every proxy.
    needs: Vec<ServicePort>,
}

/// What a resource says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A proxy's own workload.
    Workload(Workload),
    /// What an address means.
    Destination(Destination),
    /// The endpoints of a service's port that are used, by address, and how they are.
    Endpoints(EndpointSet),
}

impl Resource {
    /// Computes the digest, and what it needs.
    pub fn new(content: Content, origins: Vec<ObjectReference>) -> Self {
        let digest = match &content {
            Content::Workload(workload) => convert::digest(&wire::Workload::from(workload)),
            Content::Destination(destination) => {
                convert::digest(&wire::Destination::from(destination))
            }
            Content::Endpoints(set) => convert::digest(&endpoints(set)),
        };
        let needs = match &content {
            Content::Destination(Destination::Service(service)) => {
                service.backends().into_iter().cloned().collect()
            }
            Content::Destination(
                Destination::PassThrough | Destination::Refused { .. } | Destination::Endpoint(_),
            )
            | Content::Workload(_)
            | Content::Endpoints(_) => Vec::new(),
        };
        Self { content, digest, origins, needs }
    }

    /// The whole of it, as on the wire.
    pub fn to_wire(&self) -> wire::update::Resource {
        match &self.content {
            Content::Workload(workload) => wire::update::Resource::Workload(workload.into()),
            Content::Destination(destination) => {
                wire::update::Resource::Destination(destination.into())
            }
            Content::Endpoints(set) => wire::update::Resource::Endpoints(endpoints(set)),
        }
    }

    /// The endpoints that a proxy needs before it can use this resource.
    pub fn needs(&self) -> &[ServicePort] {
        &self.needs
    }
}

/// What can be asked for. What there may be tens of thousands of is shared by the contents that have the same.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Every known pod.
    pub pods: Arc<HashMap<PodUid, Arc<Pod>>>,
    /// Which pod has an address.
    pub pods_by_address: Arc<HashMap<IpAddr, Arc<Pod>>>,
    /// What services say of pods' ports.
    pub pod_ports: Arc<HashMap<SocketAddr, PodPort>>,
    /// Which service has a virtual address.
    pub services_by_address: Arc<HashMap<IpAddr, ServiceName>>,
    /// The ports of every service.
    pub ports: Arc<BTreeMap<ServiceName, Vec<Port>>>,
    /// What the ports of services mean.
    pub destinations: Arc<HashMap<ServicePort, Arc<Resource>>>,
    /// What they mean to callers of namespaces that have routes of their own for them, by namespace.
    pub of_consumers: Arc<HashMap<String, HashMap<ServicePort, Arc<Resource>>>>,
    /// What stands behind the ports of services.
    pub endpoints: Arc<HashMap<ServicePort, Arc<Resource>>>,
    /// What stands there and is not ready, where there is some: for people, no proxy is told.
    pub not_ready: HashMap<ServicePort, Vec<SocketAddr>>,
    /// The ports of services whose endpoints are all called not ready by Kubernetes, and are used since there is no
    /// other (`index/standing.rs`): for people.
    pub last_resort: BTreeSet<ServicePort>,
    /// Services as they were read: for people.
    pub services: Arc<BTreeMap<ServiceName, Arc<Service>>>,
    /// Routes as they were read: for people. What proxies are told of them is in the destinations.
    pub routes: Arc<Routes>,
    /// Meshed pods, for their own proxies.
    pub workloads: Arc<HashMap<PodUid, Arc<Resource>>>,
    /// Every object that was read, or whose name could be, in order.
    pub objects: Arc<Vec<Arc<ObjectStatus>>>,
    /// What could not be read, and could not be told which object it was.
    pub source_errors: Vec<Failure>,
}

/// Routes as they were read; of those that mean nothing, as they last meant something.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// HTTPRoutes and GRPCRoutes.
    pub requests: Vec<Arc<HttpRoute>>,
    /// TLSRoutes and TCPRoutes.
    pub connections: Vec<Arc<ConnectionRoute>>,
    /// TrafficSplits.
    pub splits: Vec<Arc<TrafficSplit>>,
}

/// What services say of a pod's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// What is known of the protocol.
    pub protocol: Protocol,
    /// The service that the port stands behind, if exactly one does.
    pub service: Option<ServicePort>,
    /// The pod's topology zone; empty if not known.
    pub zone: String,
    /// The node it runs on; empty if not known.
    pub node: String,
}

impl Contents {
    /// Looks a resource up for a proxy; `None` if it has to wait for it: a workload that is not known yet.
    pub fn resource(&self, key: &ResourceKey, caller: &PodUid) -> Option<Arc<Resource>> {
        match key {
            ResourceKey::Workload(uid) => self.workloads.get(uid).cloned(),
            ResourceKey::Destination(address) => Some(self.destination(*address, caller)),
            ResourceKey::Endpoints(port) => {
                Some(self.endpoints.get(port).cloned().unwrap_or_else(|| {
                    Arc::new(Resource::new(Content::Endpoints(EndpointSet::default()), Vec::new()))
                }))
            }
        }
    }

    /// The namespace that a pod is in, by which its routes are chosen; `None` if it is not known yet:
    /// then it is told what everybody is.
    pub fn namespace(&self, pod: &PodUid) -> Option<&str> {
        self.pods.get(pod).map(|pod| pod.reference.namespace.as_str())
    }

    fn destination(&self, address: SocketAddr, caller: &PodUid) -> Arc<Resource> {
        let Some(service) = self.services_by_address.get(&address.ip()) else {
            let (destination, origins) = self.by_pod(address);
            return Arc::new(Resource::new(Content::Destination(destination), origins));
        };
        let known = Port::new(address.port()).and_then(|port| {
            let key = ServicePort { service: service.clone(), port };
            let own = self.namespace(caller).and_then(|name| self.of_consumers.get(name));
            own.and_then(|own| own.get(&key)).or_else(|| self.destinations.get(&key))
        });
        known.cloned().unwrap_or_else(|| {
            let reason = self.no_port(service, address.port());
            Arc::new(Resource::new(
                Content::Destination(Destination::Refused { reason }),
                vec![service_reference(service)],
            ))
        })
    }

    fn by_pod(&self, address: SocketAddr) -> (Destination, Vec<ObjectReference>) {
        let pod = self.pods_by_address.get(&address.ip()).filter(|pod| pod.meshed);
        let Some((pod, port)) = pod.zip(Port::new(address.port())) else {
            return (Destination::PassThrough, Vec::new());
        };
        let said = self.pod_ports.get(&address);
        let protocol = match said {
            Some(said) => said.protocol,
            None => pod.protocol_of(port),
        };
        let destination = Destination::Endpoint(EndpointDestination {
            endpoint: Endpoint {
                address,
                peer: ExpectedPeer::Mesh {
                    identity: pod.identity.clone(),
                    pod_uid: pod.uid.clone(),
                },
                zone: said.map_or_else(|| pod.zone.clone(), |said| said.zone.clone()),
                node: said.map_or_else(|| pod.node.clone(), |said| said.node.clone()),
                pod: pod.reference.name.clone(),
            },
            protocol,
            service: said.and_then(|said| said.service.clone()),
        });
        (destination, vec![pod.reference.clone()])
    }

    /// Why a service cannot be called at a port.
    pub fn no_port(&self, service: &ServiceName, port: u16) -> String {
        no_port(service, port, self.ports.get(service).map(Vec::as_slice).unwrap_or_default())
    }
}

/// Why a service cannot be called at a port.
pub fn no_port(service: &ServiceName, port: u16, known: &[Port]) -> String {
    let known: Vec<String> = known.iter().map(Port::to_string).collect();
    let has = if known.is_empty() { "none over TCP".to_owned() } else { known.join(", ") };
    format!("service {service} has no port {port} (it has {has})")
}

/// All of them, on nothing that came before.
fn endpoints(set: &EndpointSet) -> wire::Endpoints {
    wire::Endpoints {
        base_version: 0,
        upserted: set.endpoints.iter().map(Into::into).collect(),
        removed: Vec::new(),
        policy: policy(set),
    }
}

/// The policy as it is sent: nothing, where all is as by default.
pub fn policy(set: &EndpointSet) -> Option<wire::BackendPolicy> {
    (set.policy != BackendPolicy::default()).then(|| (&set.policy).into())
}

/// The object of a service.
pub fn service_reference(service: &ServiceName) -> ObjectReference {
    ObjectReference {
        kind: "Service".to_owned(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
    }
}
