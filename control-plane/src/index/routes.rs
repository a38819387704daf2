//! Which rules a service's port has, from HTTPRoutes, a TrafficSplit, or neither.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::names::{ObjectReference, Port, ServiceName, ServicePort};
use heddle_model::route::{ConnectionRule, HttpBackend, HttpRule, RuleOrigin, WeightedBackend};

use super::splits::Services;
use crate::snapshot::no_port;
use crate::translate::http_route::{Backend, BackendTarget, HttpRoute};
use crate::translate::precedence::{self, Candidate};
use crate::translate::traffic_split::TrafficSplit;

/// The rules of one port of a service.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) http: Vec<HttpRule>,
    pub(super) connections: ConnectionRule,
    /// The objects that they came from.
    pub(super) origins: BTreeSet<ObjectReference>,
}

/// Makes the rules of one port. `routes` are those attached to it.
pub(super) fn rules(
    port: &ServicePort,
    routes: &[&HttpRoute],
    split: Option<&TrafficSplit>,
    services: &Services<'_>,
) -> Rules {
    let mut origins = BTreeSet::new();
    let backends = match split {
        None => vec![WeightedBackend { backend: port.clone(), weight: 1 }],
        Some(split) => {
            origins.insert(split.reference.clone());
            leaves(split, port.port)
        }
    };
    let origin = split.map_or(RuleOrigin::ServiceDefault, |split| RuleOrigin::Object {
        object: split.reference.clone(),
        field: "spec.backends".to_owned(),
    });
    let http = if routes.is_empty() {
        vec![HttpRule::to(backends.iter().map(unfiltered).collect(), origin.clone())]
    } else {
        origins.extend(routes.iter().map(|route| route.reference.clone()));
        precedence::in_order(routes)
            .into_iter()
            .map(|candidate| http_rule(candidate, services))
            .collect()
    };
    let connections = ConnectionRule { backends, missing_weight: 0, origin };
    Rules { http, connections, origins }
}

fn unfiltered(weighted: &WeightedBackend) -> HttpBackend {
    let WeightedBackend { backend, weight } = weighted.clone();
    HttpBackend { backend, weight, filters: Vec::new() }
}

fn leaves(split: &TrafficSplit, port: Port) -> Vec<WeightedBackend> {
    let backend = |service: &ServiceName| ServicePort { service: service.clone(), port };
    split
        .leaves
        .iter()
        .map(|leaf| WeightedBackend { backend: backend(&leaf.service), weight: leaf.weight })
        .collect()
}

fn http_rule(candidate: Candidate<'_>, services: &Services<'_>) -> HttpRule {
    let Candidate { http_match, rule, route } = candidate;
    // Rules are taken apart into their matches, so that each has its own place in the order; the
    // field still tells which one it was.
    let field = match rule.matches.iter().position(|one| one == http_match) {
        Some(index) if rule.matches.len() > 1 => format!("{}.matches[{index}]", rule.field),
        Some(_) | None => rule.field.clone(),
    };
    let (backends, missing_weight) = backends(&rule.backends, services);
    let origin = RuleOrigin::Object { object: route.clone(), field };
    HttpRule {
        matches: vec![http_match.clone()],
        missing_weight,
        timeouts: rule.timeouts,
        ..HttpRule::to(backends, origin)
    }
}

/// Those that exist, and the share of those that do not: its requests are answered with 500, as the
/// Gateway API has it.
fn backends(backends: &[Backend], services: &Services<'_>) -> (Vec<HttpBackend>, u32) {
    let mut existing = Vec::new();
    let mut missing_weight: u32 = 0;
    for backend in backends {
        match &backend.target {
            BackendTarget::Service(port) if unresolved(backend, services).is_none() => {
                let weighted = WeightedBackend { backend: port.clone(), weight: backend.weight };
                existing.push(unfiltered(&weighted));
            }
            BackendTarget::Service(_) | BackendTarget::Unusable { .. } => {
                missing_weight = missing_weight.saturating_add(backend.weight);
            }
        }
    }
    (existing, missing_weight)
}

/// Why requests cannot be sent to a backend: a word and a sentence.
fn unresolved(backend: &Backend, services: &Services<'_>) -> Option<(&'static str, String)> {
    match &backend.target {
        BackendTarget::Unusable { reason, message } => Some((*reason, message.clone())),
        BackendTarget::Service(port) => {
            let Some(service) = services.get(&port.service) else {
                return Some((
                    "BackendNotFound",
                    format!("service {} does not exist", port.service),
                ));
            };
            if service.ports.contains_key(&port.port) {
                return None;
            }
            let known: Vec<Port> = service.ports.keys().copied().collect();
            Some(("BackendNotFound", no_port(&port.service, port.port.number(), &known)))
        }
    }
}

/// What is wrong with a route's parents, each with its field.
pub(super) fn parent_problems(route: &HttpRoute, services: &Services<'_>) -> Vec<String> {
    let problem = |parent: &crate::translate::http_route::Parent| {
        let Some(service) = services.get(&parent.service) else {
            return Some(format!("{}: service {} does not exist", parent.field, parent.service));
        };
        let port = parent.port.filter(|port| !service.ports.contains_key(port))?;
        let known: Vec<Port> = service.ports.keys().copied().collect();
        Some(format!("{}.port: {}", parent.field, no_port(&parent.service, port.number(), &known)))
    };
    route.parents.iter().filter_map(problem).collect()
}

/// The first thing that is wrong with a route's backends, and how many more there are.
pub(super) fn backend_problem(
    route: &HttpRoute,
    services: &Services<'_>,
) -> Option<(&'static str, String)> {
    let mut problems = route
        .rules
        .iter()
        .flat_map(|rule| &rule.backends)
        .filter_map(|backend| unresolved(backend, services).zip(Some(&backend.field)));
    let ((reason, message), field) = problems.next()?;
    let more = match problems.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some((reason, format!("{field}: {message}{more}; its share of requests fails")))
}

/// Routes by the ports they are attached to.
pub(super) fn by_port<'a>(
    routes: impl Iterator<Item = &'a HttpRoute>,
    services: &Services<'_>,
) -> BTreeMap<ServicePort, Vec<&'a HttpRoute>> {
    let mut found: BTreeMap<ServicePort, Vec<&HttpRoute>> = BTreeMap::new();
    for route in routes {
        for parent in &route.parents {
            let Some(service) = services.get(&parent.service) else { continue };
            let ports =
                service.ports.keys().filter(|port| parent.port.is_none_or(|only| only == **port));
            for port in ports {
                let key = ServicePort { service: parent.service.clone(), port: *port };
                let attached = found.entry(key).or_default();
                if attached.iter().all(|known| known.reference != route.reference) {
                    attached.push(route);
                }
            }
        }
    }
    found
}
