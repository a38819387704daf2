//! Which routes count for a service's port, and for whom.
//!
//! A route in the service's own namespace (of the producer) is for every caller; one of another namespace
//! (of a consumer) is for callers of that namespace only, who then do not follow the producer's. Routes of
//! one kind are merged; of several kinds only the most special counts. Source: Gateway API, GEP-1426.

use std::collections::BTreeMap;

use heddle_model::names::{ObjectReference, Port, Protocol, ServicePort};

use super::splits::{Services, UsedSplit};
use super::{Index, good};
use crate::snapshot::no_port;
use crate::translate::connection_route::ConnectionRoute;
use crate::translate::http_route::HttpRoute;
use crate::translate::precedence;
use crate::translate::route::Parent;
use crate::translate::service::Service;

/// The routes of one port, for one group of callers: of one kind only.
#[derive(Debug, Default)]
pub(super) struct Attached<'a> {
    /// All HTTPRoutes, or all GRPCRoutes.
    pub(super) http: Vec<&'a HttpRoute>,
    pub(super) tls: Vec<&'a ConnectionRoute>,
    pub(super) tcp: Option<&'a ConnectionRoute>,
}

/// The routes of all ports.
#[derive(Debug, Default)]
pub(super) struct Attachments<'a> {
    /// For every caller, but for those that have some of their own.
    pub(super) producers: BTreeMap<ServicePort, Attached<'a>>,
    /// For callers of one namespace.
    pub(super) consumers: BTreeMap<ServicePort, Vec<(&'a str, Attached<'a>)>>,
    /// Of every route that is attached somewhere.
    pub(super) standings: BTreeMap<&'a ObjectReference, Standing>,
}

/// What the ports of services speak, as services and the pods behind them say.
pub(super) type Protocols = BTreeMap<ServicePort, Protocol>;

/// How a route or a split fares at the ports that it is attached to.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// At how many it counts.
    pub(super) counts: usize,
    /// Where it gives way, and to which.
    pub(super) gives_way: Vec<String>,
}

/// Routes of all kinds that are attached to one port, for one group of callers.
#[derive(Default)]
struct Rivals<'a> {
    grpc: Vec<&'a HttpRoute>,
    http: Vec<&'a HttpRoute>,
    tls: Vec<&'a ConnectionRoute>,
    tcp: Vec<&'a ConnectionRoute>,
}

/// `None`: every caller.
type Group<'a> = (Option<&'a str>, ServicePort);

/// Finds out for every port which routes count.
pub(super) fn attachments<'a>(index: &'a Index, services: &Services<'_>) -> Attachments<'a> {
    let mut rivals: BTreeMap<Group<'a>, Rivals<'a>> = BTreeMap::new();
    for route in good(&index.grpc_routes) {
        for group in groups(&route.reference, &route.parents, services) {
            rivals.entry(group).or_default().grpc.push(route);
        }
    }
    for route in good(&index.http_routes) {
        for group in groups(&route.reference, &route.parents, services) {
            rivals.entry(group).or_default().http.push(route);
        }
    }
    for route in good(&index.tls_routes) {
        for group in groups(&route.reference, &route.parents, services) {
            rivals.entry(group).or_default().tls.push(route);
        }
    }
    for route in good(&index.tcp_routes) {
        for group in groups(&route.reference, &route.parents, services) {
            rivals.entry(group).or_default().tcp.push(route);
        }
    }
    let mut found = Attachments::default();
    for ((caller, port), rivals) in rivals {
        let attached = settle(rivals, &port, &mut found.standings);
        match caller {
            None => drop(found.producers.insert(port, attached)),
            Some(namespace) => {
                found.consumers.entry(port).or_default().push((namespace, attached));
            }
        }
    }
    found
}

/// The ports that a route is attached to, each once.
fn groups<'a>(
    route: &'a ObjectReference,
    parents: &[Parent],
    services: &Services<'_>,
) -> Vec<Group<'a>> {
    let mut found: Vec<Group<'a>> = Vec::new();
    for parent in parents {
        let caller =
            (parent.service.namespace != route.namespace).then_some(route.namespace.as_str());
        let Some(service) = services.get(&parent.service) else { continue };
        // No call is known to be for a service without an address.
        for (number, port) in service.ports.iter().filter(|_| !service.addresses.is_empty()) {
            let key = ServicePort { service: parent.service.clone(), port: *number };
            if parent.means(*number, port) && !found.contains(&(caller, key.clone())) {
                found.push((caller, key));
            }
        }
    }
    found
}

fn settle<'a>(
    rivals: Rivals<'a>,
    port: &ServicePort,
    standings: &mut BTreeMap<&'a ObjectReference, Standing>,
) -> Attached<'a> {
    let Rivals { grpc, http, mut tls, mut tcp } = rivals;
    tls.sort_by(|left, right| left.seniority.cmp(&right.seniority));
    tcp.sort_by(|left, right| left.seniority.cmp(&right.seniority));
    let reference_of_http = |route: &&'a HttpRoute| &route.reference;
    let reference = |route: &&'a ConnectionRoute| &route.reference;
    let kinds: [Vec<&'a ObjectReference>; 4] = [
        grpc.iter().map(reference_of_http).collect(),
        http.iter().map(reference_of_http).collect(),
        tls.iter().map(reference).collect(),
        // Their rules have no conditions: the first is the only one that could ever count.
        tcp.iter().map(reference).take(1).collect(),
    ];
    let winners = kinds.iter().find(|kind| !kind.is_empty()).cloned().unwrap_or_default();
    let all = kinds.iter().flatten().copied().chain(tcp.iter().map(reference).skip(1));
    for route in all {
        let standing = standings.entry(route).or_default();
        match winners.first() {
            Some(first) if !winners.contains(&route) => {
                standing.gives_way.push(format!("service {port} follows {first}"));
            }
            Some(_) | None => standing.counts += 1,
        }
    }
    let mut fitting = |routes: Vec<&'a HttpRoute>| {
        let (fit, others) = within(routes, RULES_LIMIT);
        for route in others {
            let standing = standings.entry(&route.reference).or_default();
            standing.counts = standing.counts.saturating_sub(1);
            let message = match rules_of(route) > RULES_LIMIT {
                true => format!("for service {port} it makes more than {RULES_LIMIT} rules alone"),
                false => {
                    format!("older routes of service {port} leave no room: {RULES_LIMIT} rules")
                }
            };
            standing.gives_way.push(message);
        }
        Attached { http: fit, ..Attached::default() }
    };
    match (grpc.is_empty(), http.is_empty(), tls.is_empty()) {
        (false, _, _) => fitting(grpc),
        (true, false, _) => fitting(http),
        (true, true, false) => Attached { tls, ..Attached::default() },
        (true, true, true) => Attached { tcp: tcp.first().copied(), ..Attached::default() },
    }
}

/// The oldest routes that together make no more rules than the limit, and the others.
fn within(mut routes: Vec<&HttpRoute>, limit: usize) -> (Vec<&HttpRoute>, Vec<&HttpRoute>) {
    routes.sort_by(|left, right| left.seniority.cmp(&right.seniority));
    let mut count: usize = 0;
    routes.into_iter().partition(|route| {
        let rules = rules_of(route);
        let fits = count + rules <= limit;
        count += if fits { rules } else { 0 };
        fits
    })
}

/// Each match is there once for every length of hostname.
fn rules_of(route: &HttpRoute) -> usize {
    let matches: usize = route.rules.iter().map(|rule| rule.matches.len()).sum();
    matches * precedence::by_rank(&route.hostnames).len()
}

/// How a split fares at the ports of the service that clients call, beside the routes there.
pub(super) fn of_split(
    used: &UsedSplit,
    service: &Service,
    (attachments, protocols): (&Attachments<'_>, &Protocols),
) -> Standing {
    let mut found = Standing::default();
    let mut unread = Vec::new();
    let has_conditions = !used.matches.is_empty();
    for number in service.ports.keys() {
        let port = ServicePort { service: service.name.clone(), port: *number };
        let protocol = protocols.get(&port).copied().unwrap_or(Protocol::Detect);
        let attached = attachments.producers.get(&port);
        let of_requests = attached.and_then(|attached| attached.http.first());
        let of_requests = of_requests.filter(|_| !is_unread(protocol));
        let of_all = attached.and_then(|attached| attached.tcp);
        // Whatever comes to a port that is declared HTTP is taken for a request.
        let only_requests = matches!(protocol, Protocol::Http1 | Protocol::Http2);
        match (of_all.map(|route| &route.reference), of_requests) {
            (Some(route), _) => found.gives_way.push(format!("service {port} follows {route}")),
            (None, Some(route)) => {
                let route = &route.reference;
                let nowhere = only_requests || has_conditions;
                found.counts += usize::from(!nowhere);
                found.gives_way.push(match nowhere {
                    true => format!("service {port} follows {route}"),
                    false => format!(
                        "requests to service {port} follow {route}; other connections follow this split"
                    ),
                });
            }
            (None, None) if has_conditions && is_unread(protocol) => {
                let message = format!("requests to service {port} ({protocol:?}) are not read");
                unread.push(format!("{message}, and meet no condition"));
            }
            (None, None) => found.counts += 1,
        }
    }
    // One that counts is about those ports that it can be about.
    if found.counts == 0 {
        found.gives_way.extend(unread);
    }
    found
}

fn is_unread(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tls | Protocol::Opaque => true,
        Protocol::Detect | Protocol::Http1 | Protocol::Http2 => false,
    }
}

/// The names of a service's ports, for people.
pub(super) fn port_names(service: &Service) -> String {
    let names = service.ports.values().map(|port| port.name.as_str());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") }
}

/// Where a route of requests is attached to ports whose requests the mesh does not see, and no others.
pub(super) fn unread_ports(
    parents: &[Parent],
    services: &Services<'_>,
    protocols: &Protocols,
) -> Vec<String> {
    let mut found = Vec::new();
    for parent in parents {
        let Some(service) = services.get(&parent.service) else { continue };
        let meant = service.ports.iter().filter(|(number, port)| parent.means(**number, port));
        let protocol = |number: Port| {
            let key = ServicePort { service: service.name.clone(), port: number };
            protocols.get(&key).copied().unwrap_or(Protocol::Detect)
        };
        let meant: Vec<(Port, Protocol)> =
            meant.map(|(number, _)| (*number, protocol(*number))).collect();
        // A route for every port is about those that it can be about.
        if !meant.is_empty() && meant.iter().all(|(_, protocol)| is_unread(*protocol)) {
            let ports: Vec<String> =
                meant.iter().map(|(number, protocol)| format!("{number} ({protocol:?})")).collect();
            let ports = ports.join(", ");
            let field = &parent.field;
            found.push(format!(
                "{field}: requests to port {ports} are not read, and follow no route"
            ));
        }
    }
    found
}

/// What is wrong with a route's parents, each with its field.
pub(super) fn parent_problems(parents: &[Parent], services: &Services<'_>) -> Vec<String> {
    parents.iter().filter_map(|parent| parent_problem(parent, services)).collect()
}

/// What is wrong with one parent, with its field.
pub(super) fn parent_problem(parent: &Parent, services: &Services<'_>) -> Option<String> {
    let Parent { field, index: _, service: name, port, port_name } = parent;
    let Some(service) = services.get(name) else {
        return Some(format!("{field}: service {name} does not exist"));
    };
    if service.addresses.is_empty() {
        return Some(format!(
            "{field}: service {name} has no address of its own, by which its routes are known"
        ));
    }
    if let Some(port) = port.filter(|port| !service.ports.contains_key(port)) {
        let known: Vec<_> = service.ports.keys().copied().collect();
        return Some(format!("{field}.port: {}", no_port(name, port.number(), &known)));
    }
    let port_name = port_name.as_ref()?;
    let meant = service.ports.iter().any(|(number, one)| parent.means(*number, one));
    (!meant).then(|| {
        let known = port_names(service);
        format!(
            "{field}.sectionName: service {name} has no port {port_name:?} there (it has {known})"
        )
    })
}

/// How many rules a proxy looks through for one request, at most. A route may have 1,024 matches.
const RULES_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use gateway_api::experimental::httproutes::HttpRouteSpec;

    use super::*;
    use crate::source::Custom;
    use crate::translate::http_route;
    use crate::translate::test_objects::read;

    #[test]
    fn the_oldest_routes_have_the_rules_that_a_proxy_takes() {
        let route = |name: &str, hostnames: &str, year: u32| {
            let text = format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, \
                 creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec: {{hostnames: [{hostnames}], rules: \
                 [{{matches: [{{}}, {{method: GET}}]}}]}}\n"
            );
            let (reference, route) = read::<Custom<HttpRouteSpec>>(&text);
            http_route::translate(&route, &reference).unwrap()
        };
        let young = route("young", "", 2026);
        let middle = route("middle", "a.b, '*.b', '*.c.b'", 2024);
        let old = route("old", "a.b, b.b", 2020);
        let names = |limit: usize| {
            let (fit, _) = within(vec![&young, &middle, &old], limit);
            fit.iter().map(|route| route.reference.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(10), ["old", "middle", "young"]);
        assert_eq!(names(8), ["old", "middle"]);
        assert_eq!(names(7), ["old", "young"]);
        assert_eq!(names(1), [""; 0]);
    }
}
