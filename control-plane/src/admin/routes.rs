//! Routes and splits as they were read, and what became of them: conditions, what never gets a request, how far
//! proxies have come. What never gets one is found in `routes/shadows.rs`, what proxies hold in `routes/progress.rs`.

pub(super) mod progress;
mod shadows;

use std::collections::BTreeMap;

use heddle_model::filter::{HttpFilter, Mirror};
use heddle_model::names::{ObjectReference, Port, ServiceName};
use heddle_model::route::Hostname;
use heddle_proto::admin as wire;
use heddle_proto::discovery;

use crate::admin::routes::progress::Progress;
use crate::snapshot::{Contents, Snapshot};
use crate::status::ObjectStatus;
use crate::translate::connection_route::ConnectionRoute;
use crate::translate::http_route::HttpRoute;
use crate::translate::route::filters::Filter;
use crate::translate::route::{Backend, BackendTarget, Parent};
use crate::translate::traffic_split::TrafficSplit;

/// What is looked up while routes are told of.
struct Lookup<'a> {
    contents: &'a Contents,
    progress: &'a Progress,
    objects: BTreeMap<&'a ObjectReference, &'a ObjectStatus>,
    shadows: shadows::Shadows,
    condition: &'a dyn Fn(&ObjectStatus) -> Vec<wire::Condition>,
}

/// All routes that are of a namespace, or attached to a service there; empty: all.
pub(super) fn routes(
    snapshot: &Snapshot,
    progress: &Progress,
    namespace: &str,
    condition: &dyn Fn(&ObjectStatus) -> Vec<wire::Condition>,
) -> wire::Routes {
    let contents = &*snapshot.contents;
    let objects = contents.objects.iter().map(|status| (&status.reference, &**status)).collect();
    let shadows = shadows::find(contents);
    let lookup = Lookup { contents, progress, objects, shadows, condition };
    let of_requests = contents.routes.requests.iter().map(|route| of_requests(route, &lookup));
    let of_connections =
        contents.routes.connections.iter().map(|route| of_connections(route, &lookup));
    let splits = contents.routes.splits.iter().map(|split| of_split(split, &lookup));
    let is_meant = |route: &wire::Route| {
        let there = |parent: &wire::RouteParent| {
            parent.service.as_ref().is_some_and(|service| service.namespace == namespace)
        };
        namespace.is_empty() || route.namespace == namespace || route.parents.iter().any(there)
    };
    let all = of_requests.chain(of_connections).chain(splits);
    wire::Routes {
        version: snapshot.version.0,
        // A route of gateways only is none of the mesh's.
        routes: all.filter(|route| !route.parents.is_empty() && is_meant(route)).collect(),
    }
}

fn of_requests(route: &HttpRoute, lookup: &Lookup<'_>) -> wire::Route {
    let rules = route.rules.iter().map(|rule| wire::RouteRule {
        field: rule.field.clone(),
        matches: rule.matches.iter().map(|one| (&one.condition).into()).collect(),
        filters: rule.filters.iter().filter_map(filter).collect(),
        backends: lookup.backends(&route.reference, &rule.field, &rule.backends),
        held: lookup.progress.shares(&route.reference, &rule.field),
    });
    wire::Route {
        hostnames: route.hostnames.iter().map(hostname).collect(),
        rules: rules.collect(),
        ..lookup.route(&route.reference, route.parents.iter().map(parent).collect())
    }
}

fn of_connections(route: &ConnectionRoute, lookup: &Lookup<'_>) -> wire::Route {
    let rule = wire::RouteRule {
        field: route.field.clone(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: lookup.backends(&route.reference, &route.field, &route.backends),
        held: lookup.progress.shares(&route.reference, &route.field),
    };
    wire::Route {
        hostnames: route.hostnames.iter().map(hostname).collect(),
        rules: vec![rule],
        ..lookup.route(&route.reference, route.parents.iter().map(parent).collect())
    }
}

fn of_split(split: &TrafficSplit, lookup: &Lookup<'_>) -> wire::Route {
    let backends = split.leaves.iter().map(|leaf| {
        let exists = lookup.contents.ports.contains_key(&leaf.service);
        wire::RouteBackend {
            service: Some(service(&leaf.service)),
            port: 0,
            weight: leaf.weight,
            problem: match exists {
                true => String::new(),
                false => format!("service {} does not exist", leaf.service),
            },
        }
    });
    let rule = wire::RouteRule {
        field: SPLIT_FIELD.to_owned(),
        matches: lookup.matches_of_split(split),
        filters: Vec::new(),
        backends: backends.collect(),
        held: lookup.progress.shares(&split.reference, SPLIT_FIELD),
    };
    let root = wire::RouteParent {
        service: Some(service(&split.root)),
        port: 0,
        port_name: String::new(),
    };
    wire::Route { rules: vec![rule], ..lookup.route(&split.reference, vec![root]) }
}

impl Lookup<'_> {
    /// What is told of every route alike.
    fn route(&self, reference: &ObjectReference, parents: Vec<wire::RouteParent>) -> wire::Route {
        let status = self.objects.get(reference);
        let (proxies, acknowledged, refused) = self.progress.of(reference);
        wire::Route {
            kind: reference.kind.clone(),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            file: status.map(|status| status.place.file().to_owned()).unwrap_or_default(),
            parents,
            conditions: status.map(|status| (self.condition)(status)).unwrap_or_default(),
            shadows: self.shadows.get(reference).cloned().unwrap_or_default(),
            proxies,
            acknowledged,
            refused,
            ..wire::Route::default()
        }
    }

    fn backends(
        &self,
        route: &ObjectReference,
        field: &str,
        backends: &[Backend],
    ) -> Vec<wire::RouteBackend> {
        let told = shadows::backends_told(self.contents, route, field);
        let one = |backend: &Backend| match &backend.target {
            BackendTarget::Unusable { message, .. } => wire::RouteBackend {
                service: None,
                port: 0,
                weight: backend.weight,
                problem: message.clone(),
            },
            BackendTarget::Service(port) => {
                let known = self.contents.ports.get(&port.service);
                let problem = match known {
                    None => format!("service {} does not exist", port.service),
                    Some(known) if !known.contains(&port.port) => {
                        self.contents.no_port(&port.service, port.port.number())
                    }
                    Some(_) if told.as_ref().is_some_and(|told| !told.contains(port)) => format!(
                        "service {} is of another namespace, and no ReferenceGrant there allows it",
                        port.service
                    ),
                    Some(_) => String::new(),
                };
                wire::RouteBackend {
                    service: Some(service(&port.service)),
                    port: u32::from(port.port.number()),
                    weight: backend.weight,
                    problem,
                }
            }
        };
        backends.iter().map(one).collect()
    }

    /// The conditions of its groups, as proxies are told of them.
    fn matches_of_split(&self, split: &TrafficSplit) -> Vec<discovery::HttpMatch> {
        let rule = shadows::rules_told(self.contents, &split.reference).next();
        rule.map(|rule| rule.matches.iter().map(Into::into).collect()).unwrap_or_default()
    }
}

fn filter(filter: &Filter) -> Option<discovery::HttpFilter> {
    match filter {
        Filter::Settled(filter) => Some(filter.into()),
        Filter::Mirror { target: BackendTarget::Service(port), fraction, .. } => {
            let mirror = Mirror { backend: port.clone(), fraction: *fraction };
            Some((&HttpFilter::Mirror(mirror)).into())
        }
        // What is wrong with it is in the route's conditions.
        Filter::Mirror { target: BackendTarget::Unusable { .. }, .. } => None,
    }
}

fn parent(parent: &Parent) -> wire::RouteParent {
    wire::RouteParent {
        service: Some(service(&parent.service)),
        port: parent.port.map_or(0, |port: Port| u32::from(port.number())),
        port_name: parent.port_name.clone().unwrap_or_default(),
    }
}

fn service(name: &ServiceName) -> discovery::ServiceName {
    discovery::ServiceName { namespace: name.namespace.clone(), name: name.name.clone() }
}

fn hostname(hostname: &Hostname) -> String {
    match hostname {
        Hostname::Exact(name) => name.clone(),
        Hostname::Below(parent) => format!("*.{parent}"),
    }
}

/// Where a split has its shares.
const SPLIT_FIELD: &str = "spec.backends";

#[cfg(test)]
mod tests;
