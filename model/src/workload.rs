//! What a proxy needs to know of its own workload.

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
