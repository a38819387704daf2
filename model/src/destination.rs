//! What an address means to a proxy that was asked to connect to it.

use crate::endpoint::Endpoint;
use crate::names::{Protocol, ServicePort};
use crate::route::{HttpRule, WeightedBackend};

/// The meaning of one `ip:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Not the mesh's: the connection goes on to the address itself, unchanged.
    PassThrough,
    /// Known, and not to be connected to.
    Refused {
        /// A sentence for people: `service default/api has no port 81`.
        reason: String,
    },
    /// A service's virtual address.
    Service(ServiceDestination),
    /// A pod's own address.
    Endpoint(EndpointDestination),
}

/// A service's port, with its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDestination {
    /// The port of the service that was called.
    pub service: ServicePort,
    /// What is known of the protocol.
    pub protocol: Protocol,
    /// In order of precedence: the first that matches serves the request; none: 404.
    pub http_rules: Vec<HttpRule>,
    /// Where connections go that are not HTTP.
    pub tcp_backends: Vec<WeightedBackend>,
}

impl ServiceDestination {
    /// Every backend that a rule or the TCP list names, each once, in order of first mention.
    pub fn backends(&self) -> Vec<&ServicePort> {
        let mut found: Vec<&ServicePort> = Vec::new();
        let all = self.http_rules.iter().flat_map(|rule| &rule.backends).chain(&self.tcp_backends);
        for weighted in all {
            if !found.contains(&&weighted.backend) {
                found.push(&weighted.backend);
            }
        }
        found
    }
}

/// A pod called by its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointDestination {
    /// The pod's address and peer.
    pub endpoint: Endpoint,
    /// What is known of the protocol.
    pub protocol: Protocol,
    /// The service it stands behind, if exactly one does; for metrics.
    pub service: Option<ServicePort>,
}
