//! Endpoints: one workload's address behind a service, and who must answer there.

use std::net::SocketAddr;

use crate::identity::{PodUid, SpiffeId};
use crate::policy::BackendPolicy;

/// What stands behind one port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// The ready ones, by address, each address once.
    pub endpoints: Vec<Endpoint>,
    /// How they are used.
    pub policy: BackendPolicy,
}

/// A ready endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The pod's own address and port.
    pub address: SocketAddr,
    /// Who answers there.
    pub peer: ExpectedPeer,
    /// The topology zone; empty if unknown.
    pub zone: String,
    /// The node that it runs on; empty if unknown.
    pub node: String,
    /// The pod's name, for people; empty if there is no pod.
    pub pod: String,
}

/// Who must answer at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedPeer {
    /// No proxy is there: plain text.
    Plaintext,
    /// Exactly this identity in exactly this pod, or the connection fails.
    Mesh {
        /// What the certificate's URI name must be.
        identity: SpiffeId,
        /// What the certificate's DNS name must bind it to.
        pod_uid: PodUid,
    },
}
