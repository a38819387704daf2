//! Who is there to be asked, from the configuration: pods and proxies of workloads and behind services. Pure.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::endpoint::ExpectedPeer;
use heddle_model::names::{Port, ServiceName, ServicePort};
use heddle_proto::telemetry as wire;

use crate::snapshot::{Content, Contents};
use crate::telemetry::proxy::Workload;
use crate::telemetry::query::{Grouping, Groups, Key, Query};
use crate::translate::pod::Pod;

/// What owns a pod; the pod itself, if nothing does.
pub fn workload_of(pod: &Pod) -> Workload {
    let namespace = pod.reference.namespace.clone();
    match pod.owner.clone() {
        Some(owner) => Workload { kind: owner.kind, namespace, name: owner.name },
        None => Workload { kind: "Pod".to_owned(), namespace, name: pod.reference.name.clone() },
    }
}

/// Pods, and how many of them have a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Population {
    pods: u32,
    meshed: u32,
    identities: BTreeSet<String>,
}

impl Population {
    fn add(&mut self, identity: Option<String>) {
        self.pods = self.pods.saturating_add(1);
        self.meshed = self.meshed.saturating_add(u32::from(identity.is_some()));
        self.identities.extend(identity);
    }

    /// As it is told.
    pub fn to_wire(&self) -> wire::Population {
        wire::Population {
            pods: self.pods,
            meshed: self.meshed,
            identities: self.identities.iter().take(IDENTITIES_TOLD).cloned().collect(),
        }
    }
}

/// Who is there, by workload and by pod.
#[derive(Debug, Default)]
pub struct Pods {
    by_workload: BTreeMap<Workload, Population>,
    by_pod: BTreeMap<(Workload, String), Population>,
}

impl Pods {
    /// Those that run.
    pub fn of(contents: &Contents) -> Self {
        let mut found = Self::default();
        for pod in contents.pods.values().filter(|pod| pod.live) {
            let identity = pod.meshed.then(|| pod.identity.to_string());
            let workload = workload_of(pod);
            found.by_workload.entry(workload.clone()).or_default().add(identity.clone());
            let name = pod.reference.name.clone();
            found.by_pod.entry((workload, name)).or_default().add(identity);
        }
        found
    }

    /// Adds groups in which nothing was counted: what exists and is silent is shown as such.
    pub fn add_silent(&self, groups: &mut Groups, contents: &Contents, query: &Query) {
        let is_in = |namespace: &str| query.namespace.as_deref().is_none_or(|one| one == namespace);
        let silent: Vec<Key> = match query.grouping {
            Grouping::Workload => {
                self.by_workload.keys().map(|workload| of_pod(workload, "")).collect()
            }
            Grouping::Pod => {
                self.by_pod.keys().map(|(workload, pod)| of_pod(workload, pod)).collect()
            }
            Grouping::Service => contents.endpoints.keys().map(of_service).collect(),
            Grouping::Backend | Grouping::Route | Grouping::Edge => Vec::new(),
        };
        for key in silent.into_iter().filter(|key| is_in(&key.namespace)) {
            groups.entry(key).or_default();
        }
    }

    /// Who serves a group; `None`: not known.
    pub fn of_group(
        &self,
        key: &Key,
        contents: &Contents,
        grouping: Grouping,
    ) -> Option<Population> {
        match grouping {
            Grouping::Workload => self.by_workload.get(&key.workload).cloned(),
            Grouping::Pod => self.by_pod.get(&(key.workload.clone(), key.pod.clone())).cloned(),
            Grouping::Service | Grouping::Route => behind(&key.service, contents),
            Grouping::Backend => behind(&key.backend, contents),
            Grouping::Edge if key.backend.is_empty() => {
                self.by_workload.get(&key.workload).cloned()
            }
            Grouping::Edge => behind(&key.backend, contents),
        }
    }
}

fn of_pod(workload: &Workload, pod: &str) -> Key {
    Key {
        namespace: workload.namespace.clone(),
        workload: workload.clone(),
        pod: pod.to_owned(),
        ..Key::default()
    }
}

fn of_service(port: &ServicePort) -> Key {
    Key { namespace: port.service.namespace.clone(), service: port.to_string(), ..Key::default() }
}

/// Those that are ready behind `namespace/name:port`.
fn behind(service: &str, contents: &Contents) -> Option<Population> {
    let resource = contents.endpoints.get(&service_port(service)?)?;
    let Content::Endpoints(set) = &resource.content else { return None };
    let mut found = Population::default();
    for endpoint in &set.endpoints {
        found.add(match &endpoint.peer {
            ExpectedPeer::Mesh { identity, .. } => Some(identity.to_string()),
            ExpectedPeer::Plaintext => None,
        });
    }
    Some(found)
}

fn service_port(text: &str) -> Option<ServicePort> {
    let (namespace, rest) = text.split_once('/')?;
    let (name, port) = rest.rsplit_once(':')?;
    let service = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
    Some(ServicePort { service, port: Port::new(port.parse().ok()?)? })
}

/// More accounts behind one service are a mistake, or nobody reads them.
const IDENTITIES_TOLD: usize = 10;
