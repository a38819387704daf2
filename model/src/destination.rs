//! What an address means to a proxy that was asked to connect to it.

use std::collections::HashSet;

use crate::endpoint::Endpoint;
use crate::names::{Protocol, ServicePort};
use crate::route::{ConnectionRule, HttpRule, TlsRule};

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
    /// For connections that the application encrypts, in order of precedence. Empty: they go where
    /// others go; if there are some and none matches, they are reset.
    pub tls_rules: Vec<TlsRule>,
    /// For all other connections that are not HTTP.
    pub connections: ConnectionRule,
}

impl ServiceDestination {
    /// Everything that a rule may send to, each once, in order of first mention.
    pub fn backends(&self) -> Vec<&ServicePort> {
        let tls = self.tls_rules.iter().map(|rule| &rule.connections);
        let connections = tls.chain(std::iter::once(&self.connections));
        let weighted =
            connections.flat_map(|rule| &rule.backends).map(|weighted| &weighted.backend);
        let mut seen = HashSet::new();
        let targets = self.http_rules.iter().flat_map(HttpRule::targets);
        targets.chain(weighted).filter(|backend| seen.insert(*backend)).collect()
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
