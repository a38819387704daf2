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
    let Filter { side, method, path_prefix, route, status, grpc_status, peer, to } = filter;
    // What is known only at the end says nothing yet.
    let _ = (route, status, grpc_status);
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

    #[test]
    fn a_filter_takes_what_fits_and_nothing_else() {
        let api: SpiffeId = "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap();
        let all = Filter::default;
        let text = |text: &str| Some(text.to_owned());
        let status = |first, last| Some(StatusRange { first, last });
        // Whether an inbound and an outbound request match, and whether they may while only the head is there.
        for (case, filter, [inbound, outbound], [may_inbound, may_outbound]) in [
            ("all", all(), [true; 2], [true; 2]),
            (
                "inbound",
                Filter { side: Some(Side::Inbound), ..all() },
                [true, false],
                [true, false],
            ),
            (
                "outbound",
                Filter { side: Some(Side::Outbound), ..all() },
                [false, true],
                [false, true],
            ),
            ("a method", Filter { method: text("GET"), ..all() }, [true; 2], [true; 2]),
            ("another", Filter { method: text("get"), ..all() }, [false; 2], [false; 2]),
            ("a path", Filter { path_prefix: text("/items/"), ..all() }, [true; 2], [true; 2]),
            (
                "a longer one",
                Filter { path_prefix: text("/items/77"), ..all() },
                [false; 2],
                [false; 2],
            ),
            ("a route", Filter { route: text("canary"), ..all() }, [true; 2], [true; 2]),
            ("another route", Filter { route: text("can"), ..all() }, [false; 2], [true; 2]),
            ("a status", Filter { status: status(503, 503), ..all() }, [true; 2], [true; 2]),
            ("a class", Filter { status: status(500, 599), ..all() }, [true; 2], [true; 2]),
            ("another class", Filter { status: status(400, 499), ..all() }, [false; 2], [true; 2]),
            ("gRPC", Filter { grpc_status: Some(14), ..all() }, [true; 2], [true; 2]),
            ("another of gRPC", Filter { grpc_status: Some(0), ..all() }, [false; 2], [true; 2]),
            ("a peer", Filter { peer: text(FRONTEND), ..all() }, [true, false], [true; 2]),
            (
                "a short peer",
                Filter { peer: text("shop/frontend"), ..all() },
                [true, false],
                [true; 2],
            ),
            (
                "the server",
                Filter { peer: text("shop/api"), ..all() },
                [false, true],
                [false, true],
            ),
            ("half a peer", Filter { peer: text("frontend"), ..all() }, [false; 2], [false, true]),
            (
                "to a service",
                Filter { to: service("shop", "api"), ..all() },
                [false, true],
                [false, true],
            ),
            (
                "to a backend",
                Filter { to: service("shop", "api-v2"), ..all() },
                [false, true],
                [false, true],
            ),
            (
                "to another",
                Filter { to: service("web", "api"), ..all() },
                [false; 2],
                [false, true],
            ),
            (
                "to half a name",
                Filter { to: service("shop", "ap"), ..all() },
                [false; 2],
                [false, true],
            ),
            (
                "to a pod",
                Filter { to: Some(Target::Pod("api-1".into())), ..all() },
                [false, true],
                [false, true],
            ),
            (
                "all at once",
                Filter {
                    method: text("GET"),
                    path_prefix: text("/items"),
                    status: status(500, 599),
                    route: text("canary"),
                    ..all()
                },
                [true; 2],
                [true; 2],
            ),
            (
                "one of them not",
                Filter { method: text("GET"), status: status(200, 299), ..all() },
                [false; 2],
                [true; 2],
            ),
        ] {
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

    #[test]
    fn what_has_no_identity_is_no_peer() {
        let filter = Filter { peer: Some("shop/frontend".into()), ..Filter::default() };
        let mut seen = seen(None);
        seen.head.caller = "";
        assert!(!matches(&filter, &seen));
    }
}
