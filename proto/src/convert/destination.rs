//! Destinations and their routes.

use std::time::Duration;

use heddle_model::destination::{Destination, EndpointDestination, ServiceDestination};
use heddle_model::endpoint::Endpoint;
use heddle_model::names::ServicePort;
use heddle_model::route::{
    HttpMatch, HttpRule, NamedMatch, PathMatch, RuleOrigin, Timeouts, ValueMatch, WeightedBackend,
};

use super::key::protocol;
use super::{InvalidMessage, all, required};
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
            tcp_backends: destination.tcp_backends.iter().map(Into::into).collect(),
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
            tcp_backends: all(wire.tcp_backends, "tcp_backends")?,
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

impl From<&HttpRule> for wire::HttpRule {
    fn from(rule: &HttpRule) -> Self {
        let (origin, field) = match &rule.origin {
            RuleOrigin::ServiceDefault => (None, String::new()),
            RuleOrigin::Object { object, field } => (Some(object.into()), field.clone()),
        };
        Self {
            matches: rule.matches.iter().map(Into::into).collect(),
            backends: rule.backends.iter().map(Into::into).collect(),
            missing_weight: rule.missing_weight,
            request_timeout_ms: milliseconds(rule.timeouts.request),
            backend_request_timeout_ms: milliseconds(rule.timeouts.backend_request),
            origin,
            field,
        }
    }
}

impl TryFrom<wire::HttpRule> for HttpRule {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HttpRule) -> Result<Self, InvalidMessage> {
        let origin = match wire.origin {
            None => RuleOrigin::ServiceDefault,
            Some(object) => RuleOrigin::Object { object: object.into(), field: wire.field },
        };
        let timeouts = Timeouts {
            request: duration(wire.request_timeout_ms),
            backend_request: duration(wire.backend_request_timeout_ms),
        };
        Ok(Self {
            matches: all(wire.matches, "matches")?,
            backends: all(wire.backends, "backends")?,
            missing_weight: wire.missing_weight,
            timeouts,
            origin,
        })
    }
}

/// Rounds up to a whole millisecond: zero would mean "none".
fn milliseconds(duration: Option<Duration>) -> u64 {
    let Some(duration) = duration else { return 0 };
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

impl From<&HttpMatch> for wire::HttpMatch {
    fn from(condition: &HttpMatch) -> Self {
        use wire::path_match::Path;

        let path = condition.path.as_ref().map(|path| match path {
            PathMatch::Exact(text) => Path::Exact(text.clone()),
            PathMatch::Prefix(text) => Path::Prefix(text.clone()),
            PathMatch::Regex(text) => Path::Regex(text.clone()),
        });
        Self {
            path: path.map(|path| wire::PathMatch { path: Some(path) }),
            headers: condition.headers.iter().map(Into::into).collect(),
            query_parameters: condition.query_parameters.iter().map(Into::into).collect(),
            method: condition.method.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::HttpMatch> for HttpMatch {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HttpMatch) -> Result<Self, InvalidMessage> {
        use wire::path_match::Path;

        // A condition that cannot be read must not turn into no condition.
        let path = match wire.path {
            None => None,
            Some(path) => Some(match required(path.path, "path")? {
                Path::Exact(text) => PathMatch::Exact(text),
                Path::Prefix(text) => PathMatch::Prefix(text),
                Path::Regex(text) => PathMatch::Regex(text),
            }),
        };
        Ok(Self {
            path,
            headers: all(wire.headers, "headers")?,
            query_parameters: all(wire.query_parameters, "query_parameters")?,
            method: (!wire.method.is_empty()).then_some(wire.method),
        })
    }
}

impl From<&NamedMatch> for wire::ValueMatch {
    fn from(condition: &NamedMatch) -> Self {
        use wire::value_match::Value;

        let value = match &condition.value {
            ValueMatch::Exact(text) => Value::Exact(text.clone()),
            ValueMatch::Regex(text) => Value::Regex(text.clone()),
        };
        Self { name: condition.name.clone(), value: Some(value) }
    }
}

impl TryFrom<wire::ValueMatch> for NamedMatch {
    type Error = InvalidMessage;

    fn try_from(wire: wire::ValueMatch) -> Result<Self, InvalidMessage> {
        use wire::value_match::Value;

        if wire.name.is_empty() {
            return Err(InvalidMessage::missing("name"));
        }
        let value = match required(wire.value, "value")? {
            Value::Exact(text) => ValueMatch::Exact(text),
            Value::Regex(text) => ValueMatch::Regex(text),
        };
        Ok(Self { name: wire.name, value })
    }
}

impl From<&WeightedBackend> for wire::WeightedBackend {
    fn from(weighted: &WeightedBackend) -> Self {
        Self { backend: Some((&weighted.backend).into()), weight: weighted.weight }
    }
}

impl TryFrom<wire::WeightedBackend> for WeightedBackend {
    type Error = InvalidMessage;

    fn try_from(wire: wire::WeightedBackend) -> Result<Self, InvalidMessage> {
        Ok(Self { backend: service_port(wire.backend, "backend")?, weight: wire.weight })
    }
}

fn service_port(
    wire: Option<wire::ServicePort>,
    field: &str,
) -> Result<ServicePort, InvalidMessage> {
    ServicePort::try_from(required(wire, field)?).map_err(|error| error.within(field))
}
