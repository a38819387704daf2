//! Destinations. Their routes are in route.rs.

use heddle_model::destination::{Destination, EndpointDestination, ServiceDestination};
use heddle_model::endpoint::Endpoint;

use super::key::{protocol, service_port};
use super::{InvalidMessage, all, part, required};
use crate::discovery as wire;
use crate::discovery::destination::Destination as Kind;

impl From<&Destination> for wire::Destination {
    fn from(destination: &Destination) -> Self {
        let kind = match destination {
            Destination::PassThrough => Kind::PassThrough(wire::PassThrough {}),
            Destination::Refused { reason } => {
                Kind::Refused(wire::Refused { reason: reason.clone() })
            }
            Destination::Service(service) => Kind::Service(service.into()),
            Destination::Endpoint(endpoint) => Kind::Endpoint(endpoint.into()),
        };
        Self { destination: Some(kind) }
    }
}

impl TryFrom<wire::Destination> for Destination {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Destination) -> Result<Self, InvalidMessage> {
        match required(wire.destination, "destination")? {
            Kind::PassThrough(wire::PassThrough {}) => Ok(Self::PassThrough),
            Kind::Refused(wire::Refused { reason }) => Ok(Self::Refused { reason }),
            Kind::Service(service) => ServiceDestination::try_from(service)
                .map(Self::Service)
                .map_err(|error| error.within("service")),
            Kind::Endpoint(endpoint) => EndpointDestination::try_from(endpoint)
                .map(Self::Endpoint)
                .map_err(|error| error.within("endpoint")),
        }
    }
}

impl From<&ServiceDestination> for wire::ServiceDestination {
    fn from(destination: &ServiceDestination) -> Self {
        Self {
            service: Some((&destination.service).into()),
            protocol: wire::Protocol::from(destination.protocol).into(),
            http_rules: destination.http_rules.iter().map(Into::into).collect(),
            tls_rules: destination.tls_rules.iter().map(Into::into).collect(),
            connections: Some((&destination.connections).into()),
        }
    }
}

impl TryFrom<wire::ServiceDestination> for ServiceDestination {
    type Error = InvalidMessage;

    fn try_from(wire: wire::ServiceDestination) -> Result<Self, InvalidMessage> {
        Ok(Self {
            service: service_port(wire.service, "service")?,
            protocol: protocol(wire.protocol)?,
            http_rules: all(wire.http_rules, "http_rules")?,
            tls_rules: all(wire.tls_rules, "tls_rules")?,
            connections: part(wire.connections, "connections")?,
        })
    }
}

impl From<&EndpointDestination> for wire::EndpointDestination {
    fn from(destination: &EndpointDestination) -> Self {
        Self {
            endpoint: Some((&destination.endpoint).into()),
            protocol: wire::Protocol::from(destination.protocol).into(),
            service: destination.service.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::EndpointDestination> for EndpointDestination {
    type Error = InvalidMessage;

    fn try_from(wire: wire::EndpointDestination) -> Result<Self, InvalidMessage> {
        let endpoint = required(wire.endpoint, "endpoint")?;
        let endpoint = Endpoint::try_from(endpoint).map_err(|error| error.within("endpoint"))?;
        let service = match wire.service {
            None => None,
            some => Some(service_port(some, "service")?),
        };
        Ok(Self { endpoint, protocol: protocol(wire.protocol)?, service })
    }
}
