//! Which rules a service's port has, from routes, a TrafficSplit, or neither.

use std::collections::BTreeSet;

use heddle_model::filter::Fault;
use heddle_model::names::{ObjectReference, Port, ServiceName, ServicePort};
use heddle_model::route::{
    ConnectionRule, HttpBackend, HttpRule, RuleOrigin, TlsRule, WeightedBackend,
};

use super::attach::Attached;
use super::backends::{Referrer, Resolver};
use super::splits::UsedSplit;
use crate::translate::connection_route::ConnectionRoute;
use crate::translate::precedence::{self, Candidate};
use crate::translate::traffic_split::TrafficSplit;

/// The rules of one port of a service.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) http: Vec<HttpRule>,
    pub(super) tls: Vec<TlsRule>,
    pub(super) connections: ConnectionRule,
    /// The objects that they came from.
    pub(super) origins: BTreeSet<ObjectReference>,
}

/// What the rules of one port are made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) attached: Option<&'a Attached<'a>>,
    pub(super) split: Option<&'a UsedSplit>,
    /// Of routes that do not say, and of what has no route.
    pub(super) fault: Option<&'a Fault>,
    pub(super) resolver: Resolver<'a>,
}

/// What backends are looked up in, for the callers of one service.
#[derive(Clone, Copy, Debug)]
struct Lookup<'a> {
    resolver: Resolver<'a>,
    /// The service's namespace.
    called: &'a [&'a str],
}

/// Makes the rules of one port.
pub(super) fn rules(port: &ServicePort, sources: Sources<'_>) -> Rules {
    let none = Attached::default();
    let attached = sources.attached.unwrap_or(&none);
    let mut origins = BTreeSet::new();
    let called = [port.service.namespace.as_str()];
    let lookup = Lookup { resolver: sources.resolver, called: &called };
    let connections = match attached.tcp {
        Some(route) => connection_rule(route, lookup),
        None => split_connections(port, sources.split),
    };
    let mut http: Vec<HttpRule> = if !attached.http.is_empty() {
        origins.extend(attached.http.iter().map(|route| route.reference.clone()));
        let in_order = precedence::in_order(&attached.http);
        in_order.into_iter().map(|one| http_rule(&one, lookup)).collect()
    } else if attached.tcp.is_some() {
        // Requests are connections too.
        vec![of_connections(&connections)]
    } else {
        split_requests(port, sources.split)
    };
    for rule in &mut http {
        if let (true, Some(fault)) = (rule.fault == Fault::default(), sources.fault) {
            rule.fault = fault.clone();
        }
    }
    origins.extend(attached.tcp.iter().chain(&attached.tls).map(|route| route.reference.clone()));
    let split = sources.split.filter(|_| attached.tcp.is_none());
    origins.extend(split.map(|used| used.split.reference.clone()));
    Rules { http, tls: tls_rules(&attached.tls, lookup), connections, origins }
}

fn own(port: &ServicePort) -> ConnectionRule {
    ConnectionRule {
        backends: vec![WeightedBackend { backend: port.clone(), weight: 1 }],
        missing_weight: 0,
        origin: RuleOrigin::ServiceDefault,
    }
}

fn leaves(split: &TrafficSplit, port: Port) -> ConnectionRule {
    let backend = |service: &ServiceName| ServicePort { service: service.clone(), port };
    let leaves = split.leaves.iter();
    ConnectionRule {
        backends: leaves
            .map(|leaf| WeightedBackend { backend: backend(&leaf.service), weight: leaf.weight })
            .collect(),
        missing_weight: 0,
        origin: RuleOrigin::Object {
            object: split.reference.clone(),
            field: "spec.backends".to_owned(),
        },
    }
}

/// A split with conditions on requests has nothing to say of connections whose bytes are not read.
fn split_connections(port: &ServicePort, split: Option<&UsedSplit>) -> ConnectionRule {
    match split {
        Some(used) if used.matches.is_empty() => leaves(&used.split, port.port),
        Some(_) | None => own(port),
    }
}

fn split_requests(port: &ServicePort, split: Option<&UsedSplit>) -> Vec<HttpRule> {
    let Some(used) = split else { return vec![of_connections(&own(port))] };
    let mut rule = of_connections(&leaves(&used.split, port.port));
    if used.matches.is_empty() {
        return vec![rule];
    }
    rule.matches.clone_from(&used.matches);
    // Other requests go to the service that was called, as SMI has it.
    let mut others = of_connections(&own(port));
    others.origin = rule.origin.clone();
    vec![rule, others]
}

fn of_connections(rule: &ConnectionRule) -> HttpRule {
    let unfiltered = |weighted: &WeightedBackend| {
        let WeightedBackend { backend, weight } = weighted.clone();
        HttpBackend { backend, weight, filters: Vec::new() }
    };
    let backends = rule.backends.iter().map(unfiltered).collect();
    HttpRule { missing_weight: rule.missing_weight, ..HttpRule::to(backends, rule.origin.clone()) }
}

fn http_rule(candidate: &Candidate<'_>, lookup: Lookup<'_>) -> HttpRule {
    let Candidate { hostnames, one_match, match_index, rule, route } = candidate;
    // Rules are taken apart into their matches, so that each has its own place in the order; the
    // field still tells which one it was.
    let field = match rule.matches.len() {
        0 | 1 => rule.field.clone(),
        _ => format!("{}.matches[{match_index}]", rule.field),
    };
    let Lookup { resolver, called } = lookup;
    let referrer = Referrer { route: &route.reference, called };
    let (backends, missing_weight) = resolver.of_requests(&rule.backends, referrer);
    HttpRule {
        hostnames: hostnames.iter().map(|hostname| (*hostname).clone()).collect(),
        matches: vec![one_match.condition.clone()],
        filters: resolver.filters(&rule.filters, referrer),
        backends,
        missing_weight,
        timeouts: rule.timeouts,
        retry: rule.retry.clone(),
        session: rule.session.clone(),
        fault: route.fault.clone().unwrap_or_default(),
        origin: RuleOrigin::Object { object: route.reference.clone(), field },
    }
}

fn connection_rule(route: &ConnectionRoute, lookup: Lookup<'_>) -> ConnectionRule {
    let Lookup { resolver, called } = lookup;
    let referrer = Referrer { route: &route.reference, called };
    let (backends, missing_weight) = resolver.of_connections(&route.backends, referrer);
    let origin = RuleOrigin::Object { object: route.reference.clone(), field: route.field.clone() };
    ConnectionRule { backends, missing_weight, origin }
}

/// In the order of their hostnames' precedence; routes come by age.
fn tls_rules(routes: &[&ConnectionRoute], lookup: Lookup<'_>) -> Vec<TlsRule> {
    let mut found = Vec::new();
    for route in routes {
        for (rank, hostnames) in precedence::by_rank(&route.hostnames) {
            let hostnames = hostnames.into_iter().cloned().collect();
            let connections = connection_rule(route, lookup);
            found.push((rank, TlsRule { hostnames, connections }));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, rule)| rule).collect()
}
