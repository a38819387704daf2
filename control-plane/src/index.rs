//! All objects → everything that can be asked for. Pure: one writer applies events and asks for the
//! contents that follow; readers get snapshots (`snapshot.rs`).
//!
//! An object whose newest text means nothing keeps its last good state.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_model::identity::TrustDomain;
use heddle_model::names::ObjectReference;
use heddle_model::resource::ResourceKey;

use crate::index::refresh::{Changed, Kept};
use crate::index::splits::UsedSplit;
use crate::snapshot::Contents;
use crate::source::{Content, Event, Failure, Object, Place, Unit};
use crate::translate::connection_route::{self, ConnectionRoute};
use crate::translate::endpoint_slice::{self, EndpointSlice};
use crate::translate::http_route::{self, HttpRoute};
use crate::translate::http_route_group::{self, HttpRouteGroup};
use crate::translate::node::{self, Node};
use crate::translate::pod::{self, Pod};
use crate::translate::reference_grant::{self, ReferenceGrant};
use crate::translate::service::{self, Service};
use crate::translate::traffic_policy::{self, TrafficPolicy};
use crate::translate::traffic_split::{self, TrafficSplit};
use crate::translate::{Reason, Rejected, grpc_route};

mod assemble;
mod attach;
mod backends;
mod backing;
mod conditions;
mod pod_ports;
mod policies;
mod refresh;
mod routes;
mod splits;
mod standing;
mod workloads;

/// All objects.
#[derive(Debug)]
pub struct Index {
    trust_domain: TrustDomain,
    pods: Table<Pod>,
    services: Table<Service>,
    slices: Table<EndpointSlice>,
    splits: Table<TrafficSplit>,
    groups: Table<HttpRouteGroup>,
    http_routes: Table<HttpRoute>,
    grpc_routes: Table<HttpRoute>,
    tls_routes: Table<ConnectionRoute>,
    tcp_routes: Table<ConnectionRoute>,
    grants: Table<ReferenceGrant>,
    policies: Table<TrafficPolicy>,
    nodes: Table<Node>,
    ignored: BTreeMap<ObjectReference, Ignored>,
    failures: BTreeMap<Unit, Vec<Failure>>,
    /// Splits as they last were when everything they refer to existed.
    resolved_splits: BTreeMap<ObjectReference, UsedSplit>,
    synced: bool,
    /// What changed since the contents were last put together.
    changed: Changed,
    /// What they were put together from.
    kept: Option<Kept>,
    /// In what they differed from those before.
    differs: Option<Vec<ResourceKey>>,
}

type Table<T> = BTreeMap<ObjectReference, Entry<T>>;

/// An object of a known kind.
#[derive(Debug)]
struct Entry<T> {
    place: Place,
    /// The newest text that meant something. Snapshots share it.
    good: Option<Arc<T>>,
    /// Why the newest text means nothing, if so.
    rejected: Option<Rejected>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        let Self { place, good, rejected } = self;
        Self { place: place.clone(), good: good.clone(), rejected: rejected.clone() }
    }
}

/// An object of another kind.
#[derive(Debug)]
struct Ignored {
    place: Place,
    api_version: String,
}

impl Index {
    /// Without objects.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            pods: Table::new(),
            services: Table::new(),
            slices: Table::new(),
            splits: Table::new(),
            groups: Table::new(),
            http_routes: Table::new(),
            grpc_routes: Table::new(),
            tls_routes: Table::new(),
            tcp_routes: Table::new(),
            grants: Table::new(),
            policies: Table::new(),
            nodes: Table::new(),
            ignored: BTreeMap::new(),
            failures: BTreeMap::new(),
            resolved_splits: BTreeMap::new(),
            synced: false,
            changed: Changed::default(),
            kept: None,
            differs: None,
        }
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: Event) {
        match &event {
            // Of these it depends on what they say.
            Event::Applied(object)
                if matches!(&object.content, Content::EndpointSlice(_) | Content::Pod(_))
                    // Not looked for where it makes no difference.
                    && (matches!(self.changed, Changed::Anything)
                        || !self.has_failure(&object.reference)) => {}
            Event::Synced => {}
            Event::Applied(_) | Event::Deleted(_) | Event::Failed { .. } => {
                self.changed = Changed::Anything;
            }
        }
        match event {
            Event::Applied(object) => self.apply_object(&object),
            Event::Deleted(reference) => self.delete(&reference),
            Event::Failed { unit, failures } if failures.is_empty() => {
                self.failures.remove(&unit);
            }
            Event::Failed { unit, failures } => {
                self.failures.insert(unit, failures);
            }
            Event::Synced => self.synced = true,
        }
    }

    /// Whether everything that existed at the start is known. Before that, nothing should be told:
    /// what is not known yet would be taken for gone.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether anything is to be told that was not when the contents were last put together.
    pub fn has_news(&self) -> bool {
        self.kept.is_none() || !self.changed.is_nothing()
    }

    /// Everything that can be asked for now. What equals `previous` is shared with it.
    pub fn contents(&mut self, previous: &Contents) -> Contents {
        let (contents, differs) = assemble::assemble(self, previous);
        self.differs = differs;
        contents
    }

    /// In what the contents that were last put together differ from those before; `None`: in anything.
    pub fn what_changed(&mut self) -> Option<Vec<ResourceKey>> {
        self.differs.take()
    }

    fn has_failure(&self, reference: &ObjectReference) -> bool {
        let mut failures = self.failures.values().flatten();
        failures.any(|failure| failure.object.as_ref() == Some(reference))
    }

    fn apply_object(&mut self, object: &Object) {
        let (name, place) = (object.reference.clone(), object.place.clone());
        match &object.content {
            Content::Pod(pod) => {
                let before = self.pods.get(&name).cloned();
                let translated = pod::translate(pod, &name, &self.trust_domain);
                put(&mut self.pods, translated, name.clone(), place);
                self.changed.pod(&name, before.as_ref(), self.pods.get(&name));
            }
            Content::Service(service) => {
                put(&mut self.services, service::translate(service, &name), name, place);
            }
            Content::Node(node) => put(&mut self.nodes, Ok(node::translate(node)), name, place),
            Content::EndpointSlice(slice) => {
                let before = self.slices.get(&name).cloned();
                put(&mut self.slices, endpoint_slice::translate(slice, &name), name.clone(), place);
                self.changed.slice(&name, before.as_ref(), self.slices.get(&name));
            }
            Content::TrafficSplit(split) => {
                put(&mut self.splits, traffic_split::translate(split, &name), name, place);
            }
            Content::HttpRouteGroup(group) => {
                put(&mut self.groups, http_route_group::translate(group), name, place);
            }
            Content::HttpRoute(route) => {
                put(&mut self.http_routes, http_route::translate(route, &name), name, place);
            }
            Content::GrpcRoute(route) => {
                put(&mut self.grpc_routes, grpc_route::translate(route, &name), name, place);
            }
            Content::TlsRoute(route) => {
                put(&mut self.tls_routes, connection_route::of_tls(route, &name), name, place);
            }
            Content::TcpRoute(route) => {
                put(&mut self.tcp_routes, connection_route::of_tcp(route, &name), name, place);
            }
            Content::ReferenceGrant(grant) => {
                let grant = reference_grant::translate(grant, &name);
                put(&mut self.grants, Ok(grant), name, place);
            }
            Content::TrafficPolicy(policy) => {
                put(&mut self.policies, traffic_policy::translate(policy, &name), name, place);
            }
            Content::Ignored { api_version } => {
                let api_version = api_version.clone();
                self.ignored.insert(name, Ignored { place, api_version });
            }
        }
    }

    fn delete(&mut self, reference: &ObjectReference) {
        self.pods.remove(reference);
        self.services.remove(reference);
        self.slices.remove(reference);
        self.splits.remove(reference);
        self.resolved_splits.remove(reference);
        self.groups.remove(reference);
        self.http_routes.remove(reference);
        self.grpc_routes.remove(reference);
        self.tls_routes.remove(reference);
        self.tcp_routes.remove(reference);
        self.grants.remove(reference);
        self.policies.remove(reference);
        self.nodes.remove(reference);
        self.ignored.remove(reference);
    }
}

fn put<T>(
    table: &mut Table<T>,
    result: Result<T, Rejected>,
    reference: ObjectReference,
    place: Place,
) {
    let before = table.remove(&reference).and_then(|entry| entry.good);
    let entry = match result {
        Ok(good) => Entry { place, good: Some(Arc::new(good)), rejected: None },
        Err(rejected) => {
            tracing::warn!(
                error = %rejected,
                object = %reference,
                %place,
                "object refused; its last good state stays"
            );
            Entry { place, good: before, rejected: Some(rejected) }
        }
    };
    table.insert(reference, entry);
}

fn good<T>(table: &Table<T>) -> impl Iterator<Item = &T> {
    table.values().filter_map(|entry| entry.good.as_deref())
}

fn shared_good<T>(table: &Table<T>) -> Vec<Arc<T>> {
    table.values().filter_map(|entry| entry.good.clone()).collect()
}

fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Invalid => "Invalid",
        Reason::UnsupportedValue => "UnsupportedValue",
        Reason::IncompatibleFilters => "IncompatibleFilters",
    }
}

#[cfg(test)]
mod tests;
