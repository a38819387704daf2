//! What a workload's node may ask in plain text where all else is refused: its probes, from its own addresses,
//! to the exact port, and as far as it can be read the exact request. Pure functions.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_model::workload::{ProbeKind, Workload};
use http::{Method, Uri};

use crate::http::HttpVersion;

/// A workload, and where its node may call from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    /// It knows its node's addresses, where the control plane does, and what is asked.
    pub(super) workload: &'a Workload,
    /// The next hops of this network namespace: on most networks they are the node.
    pub(super) gateways: &'a [IpAddr],
}

/// How a connection of the node comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeEntrance {
    /// With requests, of which some may pass.
    Requests(ProbeRequests),
    /// As the application's own TLS.
    Tls,
    /// To say nothing: it was answered by being taken.
    Nothing,
}

/// The requests of a node to one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequests(Arc<[ProbeRequest]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ProbeRequest {
    Http { path: String },
    Grpc,
}

/// What the first bytes of a connection that is no proxy's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// There are none, and none will come.
    None,
    /// A ClientHello, for the application.
    Hello,
    /// Anything else.
    Other,
}

/// How a connection comes in that is no proxy's; `None`: nothing of the node's is like it.
pub(super) fn entrance(
    node: Node<'_>,
    (source, port): (IpAddr, u16),
    first: First,
) -> Option<NodeEntrance> {
    let Node { workload, gateways } = node;
    // A listener for both families has IPv4 callers in IPv6 addresses.
    let source = source.to_canonical();
    if !workload.probes.sources.contains(&source) && !gateways.contains(&source) {
        return None;
    }
    let asked = workload.probes.probes.iter().filter(|probe| probe.port.number() == port);
    let mut asked = asked.map(|probe| &probe.kind).peekable();
    asked.peek()?;
    match first {
        // Whatever is asked of the port, a connection that says nothing learns nothing.
        First::None => Some(NodeEntrance::Nothing),
        First::Hello => asked.any(|kind| *kind == ProbeKind::Https).then_some(NodeEntrance::Tls),
        First::Other => {
            let requests = asked.filter_map(|kind| match kind {
                ProbeKind::Http { path } => Some(ProbeRequest::Http { path: path.clone() }),
                ProbeKind::Grpc => Some(ProbeRequest::Grpc),
                ProbeKind::Https | ProbeKind::Tcp => None,
            });
            let requests: Arc<[ProbeRequest]> = requests.collect();
            (!requests.is_empty()).then_some(NodeEntrance::Requests(ProbeRequests(requests)))
        }
    }
}

impl ProbeRequests {
    /// Whether a request is one of the node's.
    pub fn admit(&self, version: HttpVersion, method: &Method, uri: &Uri) -> bool {
        let asked = uri.path_and_query().map_or("/", |asked| asked.as_str());
        self.0.iter().any(|probe| match (probe, version) {
            (ProbeRequest::Http { path }, HttpVersion::Http1) => {
                method == Method::GET && asked == path
            }
            (ProbeRequest::Grpc, HttpVersion::Http2) => {
                method == Method::POST && asked == HEALTH_CHECK
            }
            (ProbeRequest::Http { .. }, HttpVersion::Http2)
            | (ProbeRequest::Grpc, HttpVersion::Http1) => false,
        })
    }
}

/// Source: gRPC's health checking protocol, and what the kubelet calls of it.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

#[cfg(test)]
pub(super) mod tests {
    use heddle_model::names::Port;
    use heddle_model::workload::{InboundMode, NodeProbes, Probe};

    use super::*;

    pub(crate) fn workload(probes: &[(u16, ProbeKind)]) -> Workload {
        let probe = |(port, kind): &(u16, ProbeKind)| Probe {
            port: Port::new(*port).unwrap(),
            kind: kind.clone(),
        };
        Workload {
            namespace: "default".to_owned(),
            name: "api-0".to_owned(),
            pod_uid: "u1".parse().unwrap(),
            inbound_mode: InboundMode::Strict,
            ports: Vec::new(),
            rate_limits: Vec::new(),
            zone: String::new(),
            node: String::new(),
            probes: NodeProbes {
                sources: vec![[10, 98, 0, 11].into()],
                probes: probes.iter().map(probe).collect(),
            },
        }
    }

    fn entered(
        workload: &Workload,
        source: impl Into<IpAddr>,
        port: u16,
        first: First,
    ) -> Option<NodeEntrance> {
        let gateways = [[10, 244, 1, 1].into()];
        entrance(Node { workload, gateways: &gateways }, (source.into(), port), first)
    }

    fn http(path: &str) -> ProbeKind {
        ProbeKind::Http { path: path.to_owned() }
    }

    #[test]
    fn the_node_alone_comes_in_and_to_the_exact_port_alone() {
        let asked = workload(&[
            (8080, http("/healthz")),
            (8443, ProbeKind::Https),
            (5432, ProbeKind::Tcp),
            (9000, ProbeKind::Grpc),
        ]);
        let node = [10, 98, 0, 11];
        let requests = "requests";
        for (case, source, port, first, expected) in [
            ("a request", node, 8080, First::Other, Some(requests)),
            ("from the bridge", [10, 244, 1, 1], 8080, First::Other, Some(requests)),
            ("from a pod", [10, 244, 1, 2], 8080, First::Other, None),
            ("from another node", [10, 98, 0, 12], 8080, First::Other, None),
            ("to another port", node, 8081, First::Other, None),
            ("nothing to another port", node, 8081, First::None, None),
            ("TLS to a plain port", node, 8080, First::Hello, None),
            ("TLS", node, 8443, First::Hello, Some("tls")),
            ("a request to a TLS port", node, 8443, First::Other, None),
            ("nothing", node, 5432, First::None, Some("nothing")),
            ("something to a port for nothing", node, 5432, First::Other, None),
            ("TLS to a port for nothing", node, 5432, First::Hello, None),
            ("gRPC", node, 9000, First::Other, Some(requests)),
        ] {
            let found = entered(&asked, source, port, first);
            let found = found.map(|entrance| match entrance {
                NodeEntrance::Requests(_) => requests,
                NodeEntrance::Tls => "tls",
                NodeEntrance::Nothing => "nothing",
            });
            assert_eq!(found, expected, "case: {case}");
        }
        let mapped: IpAddr = "::ffff:10.98.0.11".parse().unwrap();
        assert!(entered(&asked, mapped, 8080, First::Other).is_some());
        let unknown = Workload {
            probes: NodeProbes { sources: Vec::new(), ..asked.probes.clone() },
            ..asked
        };
        assert!(entered(&unknown, node, 8080, First::Other).is_none());
        assert!(entered(&unknown, [10, 244, 1, 1], 8080, First::Other).is_some());
    }

    #[test]
    fn the_exact_request_alone_passes() {
        let asked =
            workload(&[(80, http("/healthz?full=1")), (80, http("/")), (80, ProbeKind::Grpc)]);
        let came = entered(&asked, [10, 98, 0, 11], 80, First::Other);
        let Some(NodeEntrance::Requests(requests)) = came else { panic!("it does not come in") };
        let (one, two) = (HttpVersion::Http1, HttpVersion::Http2);
        for (case, version, method, uri, expected) in [
            ("as it is asked", one, Method::GET, "/healthz?full=1", true),
            ("with its host", one, Method::GET, "http://10.0.0.1:80/healthz?full=1", true),
            ("the other one", one, Method::GET, "/", true),
            ("without its query", one, Method::GET, "/healthz", false),
            ("with another query", one, Method::GET, "/healthz?full=2", false),
            ("below", one, Method::GET, "/healthz/x?full=1", false),
            ("in other letters", one, Method::GET, "/HEALTHZ?full=1", false),
            ("another method", one, Method::POST, "/", false),
            ("HEAD", one, Method::HEAD, "/", false),
            ("another version", two, Method::GET, "/", false),
            ("gRPC", two, Method::POST, HEALTH_CHECK, true),
            ("gRPC's watch", two, Method::POST, "/grpc.health.v1.Health/Watch", false),
            ("gRPC over HTTP/1", one, Method::POST, HEALTH_CHECK, false),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(requests.admit(version, &method, &uri), expected, "case: {case}");
        }
    }
}
