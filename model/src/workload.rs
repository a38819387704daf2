//! What a proxy needs to know of its own workload.

use std::net::IpAddr;

use crate::access_log::AccessLogWish;
use crate::identity::PodUid;
use crate::names::{Port, Protocol};
use crate::policy::RateLimit;

/// A pod, or a local process group, with one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod.
    pub pod_uid: PodUid,
    /// Whether plain connections are served.
    pub inbound_mode: InboundMode,
    /// Declared ports; any other one is served with [`Protocol::Detect`].
    pub ports: Vec<InboundPort>,
    /// Each applies by itself: a request needs a place in all that are for it.
    pub rate_limits: Vec<RateLimit>,
    /// The topology zone; empty if unknown.
    pub zone: String,
    /// The node; empty if unknown.
    pub node: String,
    /// What its node asks in plain text, also where all else is refused.
    pub probes: NodeProbes,
    /// What its proxy is to write down, as far as the workload says so.
    pub access_log: AccessLogWish,
}

/// The probes of a workload, and where its node makes them from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeProbes {
    /// The node's addresses, as the workload sees them. None: no probe is known to come from the node.
    pub sources: Vec<IpAddr>,
    /// What is asked.
    pub probes: Vec<Probe>,
}

/// Something that a node asks a workload again and again, to find out whether it is well; or once, as its
/// life cycle has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The port that is asked.
    pub port: Port,
    /// How.
    pub kind: ProbeKind,
}

/// How a node asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// By a GET of HTTP/1.
    Http(ProbeGet),
    /// By the same, inside the application's own TLS.
    Https(ProbeGet),
    /// By a connection, on which nothing is said.
    Tcp,
    /// By the health protocol of gRPC.
    Grpc,
}

/// A GET of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeGet {
    /// The path, with its query; it begins with a slash.
    pub path: String,
    /// The names of the headers that it was told to send, in lower case. What they hold is not told: a caller who does
    /// not know it does not learn it from a proxy.
    pub headers: Vec<String>,
}

/// Whether a workload serves plain connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundMode {
    /// Plain connections are served beside encrypted ones.
    Permissive,
    /// Only connections with a certificate of the mesh are served.
    Strict,
}

/// One declared port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The port the application listens on.
    pub port: Port,
    /// What is known of its protocol.
    pub protocol: Protocol,
}
