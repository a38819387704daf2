//! All objects → everything that can be asked for. Pure: one writer applies events and asks for the
//! contents that follow; readers get snapshots (`snapshot.rs`).
//!
//! An object whose newest text means nothing keeps its last good state.

use std::collections::BTreeMap;

use heddle_model::identity::TrustDomain;
use heddle_model::names::ObjectReference;

use crate::snapshot::Contents;
use crate::source::{Content, Event, Failure, Object, Place};
use crate::translate::endpoint_slice::{self, EndpointSlice};
use crate::translate::http_route::{self, HttpRoute};
use crate::translate::pod::{self, Pod};
use crate::translate::service::{self, Service};
use crate::translate::traffic_split::{self, TrafficSplit};
use crate::translate::{Reason, Rejected};

mod assemble;
mod backing;
mod conditions;
mod routes;
mod splits;

/// All objects.
#[derive(Debug)]
pub struct Index {
    trust_domain: TrustDomain,
    pods: Table<Pod>,
    services: Table<Service>,
    slices: Table<EndpointSlice>,
    splits: Table<TrafficSplit>,
    routes: Table<HttpRoute>,
    ignored: BTreeMap<ObjectReference, Ignored>,
    failures: BTreeMap<String, Vec<Failure>>,
    /// Splits as they last were when everything they refer to existed.
    resolved_splits: BTreeMap<ObjectReference, TrafficSplit>,
    synced: bool,
}

type Table<T> = BTreeMap<ObjectReference, Entry<T>>;

/// An object of a known kind.
#[derive(Debug)]
struct Entry<T> {
    place: Place,
    /// The newest text that meant something.
    good: Option<T>,
    /// Why the newest text means nothing, if so.
    rejected: Option<Rejected>,
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
            routes: Table::new(),
            ignored: BTreeMap::new(),
            failures: BTreeMap::new(),
            resolved_splits: BTreeMap::new(),
            synced: false,
        }
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Applied(object) => self.apply_object(*object),
            Event::Deleted(reference) => self.delete(&reference),
            Event::Failed { file, failures } if failures.is_empty() => {
                self.failures.remove(&file);
            }
            Event::Failed { file, failures } => {
                self.failures.insert(file, failures);
            }
            Event::Synced => self.synced = true,
        }
    }

    /// Whether everything that existed at the start is known. Before that, nothing should be told:
    /// what is not known yet would be taken for gone.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Everything that can be asked for now. What equals `previous` is shared with it.
    pub fn contents(&mut self, previous: &Contents) -> Contents {
        assemble::assemble(self, previous)
    }

    fn apply_object(&mut self, object: Object) {
        let Object { reference, place, content, .. } = object;
        match content {
            Content::Pod(pod) => {
                let result = pod::translate(&pod, &reference, &self.trust_domain);
                put(&mut self.pods, reference, place, result);
            }
            Content::Service(service) => {
                let result = service::translate(&service, &reference);
                put(&mut self.services, reference, place, result);
            }
            Content::EndpointSlice(slice) => {
                let result = endpoint_slice::translate(&slice, &reference);
                put(&mut self.slices, reference, place, result);
            }
            Content::TrafficSplit(split) => {
                let result = traffic_split::translate(&split, &reference);
                put(&mut self.splits, reference, place, result);
            }
            Content::HttpRoute(route) => {
                let result = http_route::translate(&route, &reference);
                put(&mut self.routes, reference, place, result);
            }
            Content::Ignored { api_version } => {
                self.ignored.insert(reference, Ignored { place, api_version });
            }
        }
    }

    fn delete(&mut self, reference: &ObjectReference) {
        self.pods.remove(reference);
        self.services.remove(reference);
        self.slices.remove(reference);
        self.splits.remove(reference);
        self.resolved_splits.remove(reference);
        self.routes.remove(reference);
        self.ignored.remove(reference);
    }
}

fn put<T>(
    table: &mut Table<T>,
    reference: ObjectReference,
    place: Place,
    result: Result<T, Rejected>,
) {
    let before = table.remove(&reference).and_then(|entry| entry.good);
    let entry = match result {
        Ok(good) => Entry { place, good: Some(good), rejected: None },
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
    table.values().filter_map(|entry| entry.good.as_ref())
}

fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Invalid => "Invalid",
        Reason::UnsupportedValue => "UnsupportedValue",
    }
}

#[cfg(test)]
mod tests;
