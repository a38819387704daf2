//! What a workload's node may ask without the mesh's TLS where all else is refused: its probes, from its own addresses,
//! to the exact port, and the exact request. Pure functions.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_model::workload::{ProbeGet, ProbeKind, Workload};
use http::header::{ACCEPT, HOST, HeaderName, USER_AGENT};
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
    /// The same, inside of TLS that the proxy takes in the application's place.
    Https(ProbeRequests),
    /// To say nothing: it was answered by being taken.
    Nothing,
}

/// The requests of a node to one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequests(Arc<[ProbeRequest]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ProbeRequest {
    Get(ProbeGet),
    Grpc,
}

/// What of an admitted request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passing {
    /// A GET with these headers at most, and without a body.
    Get(Vec<HeaderName>),
    /// A call of gRPC, as it is.
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
        First::Hello => {
            let requests = asked.filter_map(|kind| match kind {
                ProbeKind::Https(get) => Some(ProbeRequest::Get(get.clone())),
                ProbeKind::Http(_) | ProbeKind::Grpc | ProbeKind::Tcp => None,
            });
            ProbeRequests::some(requests).map(NodeEntrance::Https)
        }
        First::Other => {
            let requests = asked.filter_map(|kind| match kind {
                ProbeKind::Http(get) => Some(ProbeRequest::Get(get.clone())),
                ProbeKind::Grpc => Some(ProbeRequest::Grpc),
                ProbeKind::Https(_) | ProbeKind::Tcp => None,
            });
            ProbeRequests::some(requests).map(NodeEntrance::Requests)
        }
    }
}

impl ProbeRequests {
    fn some(requests: impl Iterator<Item = ProbeRequest>) -> Option<Self> {
        let requests: Arc<[ProbeRequest]> = requests.collect();
        (!requests.is_empty()).then_some(Self(requests))
    }

    /// What of a request passes; `None`: it is none of the node's.
    pub fn admit(&self, version: HttpVersion, method: &Method, uri: &Uri) -> Option<Passing> {
        let asked = uri.path_and_query().map_or("/", |asked| asked.as_str());
        let is = |probe: &&ProbeRequest| match (probe, version) {
            (ProbeRequest::Get(get), HttpVersion::Http1) => {
                method == Method::GET && asked == get.path
            }
            (ProbeRequest::Grpc, HttpVersion::Http2) => {
                method == Method::POST && asked == HEALTH_CHECK
            }
            (ProbeRequest::Get(_), HttpVersion::Http2)
            | (ProbeRequest::Grpc, HttpVersion::Http1) => false,
        };
        let mut found = None;
        for probe in self.0.iter().filter(is) {
            let ProbeRequest::Get(get) = probe else { return Some(Passing::Grpc) };
            // Two probes may ask for one path, each with headers of its own.
            found.get_or_insert_with(|| USUAL.to_vec()).extend(told(get));
        }
        found.map(Passing::Get)
    }
}

fn told(get: &ProbeGet) -> impl Iterator<Item = HeaderName> {
    get.headers.iter().filter_map(|name| name.parse().ok())
}

/// What the kubelet always sends, and nothing that says where a request ends.
const USUAL: [HeaderName; 3] = [HOST, USER_AGENT, ACCEPT];

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
            access_log: Default::default(),
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

    fn get(path: &str, headers: &[&str]) -> ProbeGet {
        let headers = headers.iter().map(|name| (*name).to_owned()).collect();
        ProbeGet { path: path.to_owned(), headers }
    }

    fn http(path: &str) -> ProbeKind {
        ProbeKind::Http(get(path, &[]))
    }

    #[test]
    fn the_node_alone_comes_in_and_to_the_exact_port_alone() {
        let asked = workload(&[
            (8080, http("/healthz")),
            (8443, ProbeKind::Https(get("/healthz", &[]))),
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
            ("TLS", node, 8443, First::Hello, Some("https")),
            ("TLS from a pod", [10, 244, 1, 2], 8443, First::Hello, None),
            ("a request to a TLS port", node, 8443, First::Other, None),
            ("nothing", node, 5432, First::None, Some("nothing")),
            ("something to a port for nothing", node, 5432, First::Other, None),
            ("TLS to a port for nothing", node, 5432, First::Hello, None),
            ("gRPC", node, 9000, First::Other, Some(requests)),
        ] {
            let found = entered(&asked, source, port, first);
            let found = found.map(|entrance| match entrance {
                NodeEntrance::Requests(_) => requests,
                NodeEntrance::Https(_) => "https",
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
            let admitted = requests.admit(version, &method, &uri);
            assert_eq!(admitted.is_some(), expected, "case: {case}");
        }
    }

    #[test]
    fn of_headers_the_usual_ones_pass_and_those_that_the_probe_names() {
        let asked = workload(&[
            (80, ProbeKind::Http(get("/", &["x-one"]))),
            (80, ProbeKind::Http(get("/", &["x-two", "no name"]))),
            (80, ProbeKind::Http(get("/other", &["x-three"]))),
        ]);
        let came = entered(&asked, [10, 98, 0, 11], 80, First::Other);
        let Some(NodeEntrance::Requests(requests)) = came else { panic!("it does not come in") };
        let passing = requests.admit(HttpVersion::Http1, &Method::GET, &Uri::from_static("/"));
        let Some(Passing::Get(headers)) = passing else { panic!("it does not pass: {passing:?}") };
        let names: Vec<&str> = headers.iter().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "user-agent", "accept", "x-one", "x-two"]);
    }
}
