//! Rules, and whole routes, that never get what they are for, because another one does. Pure; it reads what proxies
//! are told, where everything is in its order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::names::{ObjectReference, Port, ServiceName, ServicePort};
use heddle_model::route::{HttpMatch, HttpRule, PathMatch, RuleOrigin};
use heddle_proto::admin as wire;

use crate::admin::routes::progress::of_rule;
use crate::snapshot::{Content, Contents, Resource};
use crate::translate::route::Parent;

/// By the route that is shadowed.
pub(super) type Shadows = BTreeMap<ObjectReference, Vec<wire::Shadow>>;

/// What the port of a service means, and to whom.
struct Told<'a> {
    port: &'a ServicePort,
    /// Empty: everybody.
    callers: &'a str,
    service: &'a ServiceDestination,
    origins: &'a [ObjectReference],
}

/// All of them.
pub(super) fn find(contents: &Contents) -> Shadows {
    let mut found = Shadows::new();
    for told in told(contents) {
        rules(&told, &mut found);
    }
    let of_requests = contents.routes.requests.iter();
    for (route, parents) in of_requests.map(|route| (&route.reference, &route.parents)) {
        whole(contents, route, parents, &mut found);
    }
    let of_connections = contents.routes.connections.iter();
    for (route, parents) in of_connections.map(|route| (&route.reference, &route.parents)) {
        whole(contents, route, parents, &mut found);
    }
    for split in &contents.routes.splits {
        let ports = contents.ports.get(&split.root).into_iter().flatten();
        for port in ports {
            let key = ServicePort { service: split.root.clone(), port: *port };
            if let Some(told) = at(contents, &key, "") {
                split_at(&told, &split.reference, &mut found);
            }
        }
    }
    found
}

/// What a rule of a route may send to, as proxies are told; `None`: they are not told of the rule.
pub(super) fn backends_told(
    contents: &Contents,
    route: &ObjectReference,
    field: &str,
) -> Option<BTreeSet<ServicePort>> {
    let mut found = None;
    for told in told(contents).filter(|told| told.origins.contains(route)) {
        let service = told.service;
        let of_requests =
            service.http_rules.iter().filter(|rule| is_of(&rule.origin, route, field));
        let connections = service.tls_rules.iter().map(|rule| &rule.connections);
        let connections = connections.chain([&service.connections]);
        let of_connections = connections.filter(|rule| is_of(&rule.origin, route, field));
        for rule in of_requests {
            let backends = rule.backends.iter().map(|backend| backend.backend.clone());
            found.get_or_insert_with(BTreeSet::new).extend(backends);
        }
        for rule in of_connections {
            let backends = rule.backends.iter().map(|backend| backend.backend.clone());
            found.get_or_insert_with(BTreeSet::new).extend(backends);
        }
    }
    found
}

/// The rules that proxies are told of an object.
pub(super) fn rules_told<'a>(
    contents: &'a Contents,
    object: &'a ObjectReference,
) -> impl Iterator<Item = &'a HttpRule> {
    let there = told(contents).filter(move |told| told.origins.contains(object));
    let rules = there.flat_map(|told| &told.service.http_rules);
    rules.filter(move |rule| origin(rule).is_some_and(|(known, _)| known == object))
}

fn told(contents: &Contents) -> impl Iterator<Item = Told<'_>> {
    let everybody = contents.destinations.iter().filter_map(|(port, one)| read(port, "", one));
    let own = contents.of_consumers.iter().flat_map(|(namespace, own)| {
        own.iter().filter_map(move |(port, one)| read(port, namespace, one))
    });
    everybody.chain(own)
}

fn at<'a>(contents: &'a Contents, port: &'a ServicePort, callers: &'a str) -> Option<Told<'a>> {
    let one = match callers {
        "" => contents.destinations.get(port)?,
        namespace => contents.of_consumers.get(namespace)?.get(port)?,
    };
    read(port, callers, one)
}

fn read<'a>(port: &'a ServicePort, callers: &'a str, resource: &'a Resource) -> Option<Told<'a>> {
    match &resource.content {
        Content::Destination(Destination::Service(service)) => {
            Some(Told { port, callers, service, origins: &resource.origins })
        }
        Content::Destination(_) | Content::Workload(_) | Content::Endpoints(_) => None,
    }
}

/// Rules behind one that takes all that they are for.
fn rules(told: &Told<'_>, found: &mut Shadows) {
    let mut first: HashMap<String, &HttpRule> = HashMap::new();
    let mut takes_all: Option<&HttpRule> = None;
    for rule in &told.service.http_rules {
        // Rules have one match each, taken apart by precedence.
        let condition = format!("{:?} {:?}", rule.hostnames, rule.matches);
        let by = takes_all.or_else(|| first.get(&condition).copied());
        if let (Some(by), Some((object, field))) = (by, origin(rule)) {
            let (by, by_field) = origin(by).unwrap_or((object, ""));
            let shadow = told.shadow(of_rule(field), (by, of_rule(by_field)));
            // Another match of the same rule takes nothing away from it.
            if (by, of_rule(by_field)) != (object, of_rule(field)) {
                push(found, object, shadow);
            }
        }
        first.entry(condition).or_insert(rule);
        if takes_all.is_none() && is_for_all(rule) {
            takes_all = Some(rule);
        }
    }
}

fn is_for_all(rule: &HttpRule) -> bool {
    let every = |one: &HttpMatch| {
        let path = match &one.path {
            None => true,
            Some(PathMatch::Prefix(prefix)) => prefix == "/",
            Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => false,
        };
        path && one.headers.is_empty() && one.query_parameters.is_empty() && one.method.is_none()
    };
    rule.hostnames.is_empty() && (rule.matches.is_empty() || rule.matches.iter().any(every))
}

/// A route that is attached to a port whose proxies are not told of it.
fn whole(contents: &Contents, route: &ObjectReference, parents: &[Parent], found: &mut Shadows) {
    for parent in parents {
        let same = parent.service.namespace == route.namespace;
        let callers = if same { "" } else { route.namespace.as_str() };
        for port in meant(contents, parent) {
            let Some(told) = at(contents, &port, callers) else { continue };
            let winner = told.origins.iter().find(|origin| is_route(origin));
            if let Some(winner) = winner.filter(|_| !told.origins.contains(route)) {
                push(found, route, told.shadow("", (winner, "")));
            }
        }
    }
}

/// A split of which nothing is left beside routes.
fn split_at(told: &Told<'_>, split: &ObjectReference, found: &mut Shadows) {
    let requests = told.service.http_rules.first().and_then(origin);
    let by = match requests {
        Some((object, _)) if object != split => Some(object),
        Some(_) => None,
        None => told.origins.iter().find(|origin| is_route(origin) && *origin != split),
    };
    if let Some(by) = by {
        push(found, split, told.shadow("", (by, "")));
    }
}

fn meant(contents: &Contents, parent: &Parent) -> Vec<ServicePort> {
    let name: &ServiceName = &parent.service;
    let Some(service) = contents.services.get(name) else { return Vec::new() };
    let ports = service.ports.iter().filter(|(number, port)| parent.means(**number, port));
    ports
        .map(|(number, _): (&Port, _)| ServicePort { service: name.clone(), port: *number })
        .collect()
}

fn is_route(object: &ObjectReference) -> bool {
    object.kind.ends_with("Route") || object.kind == "TrafficSplit"
}

fn origin(rule: &HttpRule) -> Option<(&ObjectReference, &str)> {
    match &rule.origin {
        RuleOrigin::Object { object, field } => Some((object, field)),
        RuleOrigin::ServiceDefault => None,
    }
}

fn is_of(origin: &RuleOrigin, route: &ObjectReference, field: &str) -> bool {
    match origin {
        RuleOrigin::Object { object, field: known } => object == route && of_rule(known) == field,
        RuleOrigin::ServiceDefault => false,
    }
}

fn push(found: &mut Shadows, route: &ObjectReference, shadow: wire::Shadow) {
    let known = found.entry(route.clone()).or_default();
    if !known.contains(&shadow) {
        known.push(shadow);
    }
}

impl Told<'_> {
    fn shadow(&self, field: &str, (by, by_field): (&ObjectReference, &str)) -> wire::Shadow {
        wire::Shadow {
            port: Some(self.port.into()),
            callers: self.callers.to_owned(),
            field: field.to_owned(),
            by: Some(by.into()),
            by_field: by_field.to_owned(),
        }
    }
}
