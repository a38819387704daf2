//! Which requests a tap is for. Pure.

use heddle_model::identity::SpiffeId;
use heddle_model::names::ServiceName;
use heddle_model::tap::{Filter, Side, StatusRange, Target};

use crate::http::call_record::CallRecord;
use crate::http::grpc::{Code, GrpcStatus};
use crate::metrics::Direction;

/// What is known of a request when its head is there.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Seen from the workload.
    pub direction: Direction,
    /// As it is written.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Inbound: who called; empty: nobody known.
    pub caller: &'a str,
}

/// What is known of it when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What it began with.
    pub head: Head<'a>,
    /// As `namespace/name:port`; empty: none.
    pub service: &'a str,
    /// The same of what it was routed to.
    pub backend: &'a str,
    /// The name of the route's object; empty: none.
    pub route: &'a str,
    /// Outbound: who had to be at the other end.
    pub server: Option<&'a SpiffeId>,
    /// The pod of who answered; empty: none.
    pub pod: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// If it was a call of gRPC.
    pub grpc_status: GrpcStatus,
}

impl<'a> Seen<'a> {
    /// What a record tells.
    pub fn of(record: &'a CallRecord<'_>) -> Self {
        let (head, end) = (record.head, record.end);
        Self {
            head: Head {
                direction: head.direction,
                method: head.method.as_str(),
                path: &head.path,
                caller: &head.caller,
            },
            service: &head.service,
            backend: &end.backend,
            route: &end.route,
            server: end.server(),
            pod: end.endpoint.as_ref().map_or("", |endpoint| &endpoint.endpoint.pod),
            status: end.status,
            grpc_status: end.grpc_status,
        }
    }
}

/// Whether a request can still turn out to be one that is looked for.
pub fn may_match(filter: &Filter, head: &Head<'_>) -> bool {
    // What is known only at the end says nothing yet.
    let Filter { route: _, status: _, grpc_status: _, side, method, path_prefix, peer, to } =
        filter;
    let is_inbound = head.direction == Direction::Inbound;
    let fits_side = match side {
        None => true,
        Some(Side::Inbound) => is_inbound,
        Some(Side::Outbound) => !is_inbound,
    };
    fits_side
        && method.as_deref().is_none_or(|method| method == head.method)
        && path_prefix.as_deref().is_none_or(|prefix| head.path.starts_with(prefix))
        && peer.as_deref().is_none_or(|peer| !is_inbound || is_peer(peer, head.caller))
        // Whom a request is for is known to its caller's proxy alone.
        && (to.is_none() || !is_inbound)
}

/// Whether a request that is over is one that is looked for.
pub fn matches(filter: &Filter, seen: &Seen<'_>) -> bool {
    let Filter { side: _, method: _, path_prefix: _, route, status, grpc_status, peer, to } =
        filter;
    may_match(filter, &seen.head)
        && route.as_deref().is_none_or(|route| route == seen.route)
        && status.is_none_or(|StatusRange { first, last }| (first..=last).contains(&seen.status))
        && grpc_status
            .is_none_or(|number| seen.grpc_status == GrpcStatus::Ended(Code::of_number(number)))
        && peer.as_deref().is_none_or(|peer| match seen.head.direction {
            Direction::Inbound => true,
            Direction::Outbound => {
                seen.server.is_some_and(|server| is_peer(peer, &server.to_string()))
            }
        })
        && to.as_ref().is_none_or(|to| match to {
            Target::Service(service) => {
                [seen.service, seen.backend].iter().any(|label| is_of(service, label))
            }
            Target::Pod(pod) => !pod.is_empty() && pod == seen.pod,
        })
}

/// A SPIFFE ID, or `NAMESPACE/ACCOUNT` of one.
fn is_peer(wanted: &str, identity: &str) -> bool {
    if wanted.starts_with("spiffe://") {
        return wanted == identity;
    }
    let Ok(identity) = identity.parse::<SpiffeId>() else { return false };
    wanted.split_once('/') == Some((identity.namespace(), identity.service_account()))
}

/// Whether a label is of one of the service's ports.
fn is_of(service: &ServiceName, label: &str) -> bool {
    let named = label
        .split_once('/')
        .and_then(|(namespace, rest)| rest.rsplit_once(':').map(|(name, _port)| (namespace, name)));
    named == Some((service.namespace.as_str(), service.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";

    fn seen(server: Option<&SpiffeId>) -> Seen<'_> {
        let direction = server.map_or(Direction::Inbound, |_| Direction::Outbound);
        Seen {
            head: Head { direction, method: "GET", path: "/items/7", caller: FRONTEND },
            service: "shop/api:80",
            backend: "shop/api-v2:8080",
            route: "canary",
            server,
            pod: "api-1",
            status: 503,
            grpc_status: GrpcStatus::Ended(Code::of_number(14)),
        }
    }

    fn service(namespace: &str, name: &str) -> Option<Target> {
        Some(Target::Service(ServiceName { namespace: namespace.into(), name: name.into() }))
    }

    /// Whether an inbound and an outbound request match, and whether they may while only the head is there.
    type Row = (&'static str, Filter, [bool; 2], [bool; 2]);

    fn check(rows: impl IntoIterator<Item = Row>) {
        let api: SpiffeId = "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap();
        for (case, filter, [inbound, outbound], [may_inbound, may_outbound]) in rows {
            for (side, server, expected, may) in [
                ("inbound", None, inbound, may_inbound),
                ("outbound", Some(&api), outbound, may_outbound),
            ] {
                let seen = seen(server);
                assert_eq!(matches(&filter, &seen), expected, "case: {case}, {side}");
                assert_eq!(may_match(&filter, &seen.head), may, "case: {case}, {side}, head");
            }
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn status(first: u16, last: u16) -> Option<StatusRange> {
        Some(StatusRange { first, last })
    }

    #[test]
    fn a_filter_of_the_head_takes_what_fits_and_nothing_else() {
        let all = Filter::default;
        let side = |side| Filter { side: Some(side), ..all() };
        let method = |method| Filter { method: text(method), ..all() };
        let path = |prefix| Filter { path_prefix: text(prefix), ..all() };
        check([
            ("all", all(), [true; 2], [true; 2]),
            ("inbound", side(Side::Inbound), [true, false], [true, false]),
            ("outbound", side(Side::Outbound), [false, true], [false, true]),
            ("a method", method("GET"), [true; 2], [true; 2]),
            ("another", method("get"), [false; 2], [false; 2]),
            ("a path", path("/items/"), [true; 2], [true; 2]),
            ("a longer one", path("/items/77"), [false; 2], [false; 2]),
        ]);
    }

    #[test]
    fn a_filter_of_the_answer_takes_what_fits_and_nothing_else() {
        let all = Filter::default;
        let route = |route| Filter { route: text(route), ..all() };
        let of = |first, last| Filter { status: status(first, last), ..all() };
        let grpc = |number| Filter { grpc_status: Some(number), ..all() };
        let both = Filter { path_prefix: text("/items"), ..of(500, 599) };
        let one = Filter { method: text("GET"), ..of(200, 299) };
        check([
            ("a route", route("canary"), [true; 2], [true; 2]),
            ("another route", route("can"), [false; 2], [true; 2]),
            ("a status", of(503, 503), [true; 2], [true; 2]),
            ("a class", of(500, 599), [true; 2], [true; 2]),
            ("another class", of(400, 499), [false; 2], [true; 2]),
            ("gRPC", grpc(14), [true; 2], [true; 2]),
            ("another of gRPC", grpc(0), [false; 2], [true; 2]),
            ("all at once", both, [true; 2], [true; 2]),
            ("one of them not", one, [false; 2], [true; 2]),
        ]);
    }

    #[test]
    fn a_filter_of_an_end_takes_what_fits_and_nothing_else() {
        let all = Filter::default;
        let peer = |peer| Filter { peer: text(peer), ..all() };
        let to = |to| Filter { to, ..all() };
        check([
            ("a peer", peer(FRONTEND), [true, false], [true; 2]),
            ("a short peer", peer("shop/frontend"), [true, false], [true; 2]),
            ("the server", peer("shop/api"), [false, true], [false, true]),
            ("half a peer", peer("frontend"), [false; 2], [false, true]),
            ("to a service", to(service("shop", "api")), [false, true], [false, true]),
            ("to a backend", to(service("shop", "api-v2")), [false, true], [false, true]),
            ("to another", to(service("web", "api")), [false; 2], [false, true]),
            ("to half a name", to(service("shop", "ap")), [false; 2], [false, true]),
            ("to a pod", to(Some(Target::Pod("api-1".into()))), [false, true], [false, true]),
        ]);
    }

    #[test]
    fn what_has_no_identity_is_no_peer() {
        let filter = Filter { peer: Some("shop/frontend".into()), ..Filter::default() };
        let mut seen = seen(None);
        seen.head.caller = "";
        assert!(!matches(&filter, &seen));
    }
}
