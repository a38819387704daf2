//! Rules of routes. What is done to their requests is in filter.rs.

use heddle_model::filter::Fault;
use heddle_model::names::ObjectReference;
use heddle_model::route::{
    ConnectionRule, Hostname, HttpBackend, HttpMatch, HttpRule, NamedMatch, PathMatch, Retry,
    RuleOrigin, Timeouts, TlsRule, ValueMatch, WeightedBackend,
};

use super::key::service_port;
use super::{
    InvalidMessage, all, duration, milliseconds, optional, optional_milliseconds, part, required,
};
use crate::discovery as wire;

impl From<&HttpRule> for wire::HttpRule {
    fn from(rule: &HttpRule) -> Self {
        let (origin, field) = origin_to_wire(&rule.origin);
        Self {
            hostnames: rule.hostnames.iter().map(Into::into).collect(),
            matches: rule.matches.iter().map(Into::into).collect(),
            filters: rule.filters.iter().map(Into::into).collect(),
            backends: rule.backends.iter().map(Into::into).collect(),
            missing_weight: rule.missing_weight,
            request_timeout_ms: optional_milliseconds(rule.timeouts.request),
            backend_request_timeout_ms: optional_milliseconds(rule.timeouts.backend_request),
            retry: rule.retry.as_ref().map(Into::into),
            session: rule.session.as_ref().map(Into::into),
            fault: (rule.fault != Fault::default()).then(|| (&rule.fault).into()),
            origin,
            field,
        }
    }
}

impl TryFrom<wire::HttpRule> for HttpRule {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HttpRule) -> Result<Self, InvalidMessage> {
        let timeouts = Timeouts {
            request: duration(wire.request_timeout_ms),
            backend_request: duration(wire.backend_request_timeout_ms),
        };
        Ok(Self {
            hostnames: all(wire.hostnames, "hostnames")?,
            matches: all(wire.matches, "matches")?,
            filters: all(wire.filters, "filters")?,
            backends: all(wire.backends, "backends")?,
            missing_weight: wire.missing_weight,
            timeouts,
            retry: optional(wire.retry, "retry")?,
            session: optional(wire.session, "session")?,
            fault: optional(wire.fault, "fault")?.unwrap_or_default(),
            origin: origin_to_model(wire.origin, wire.field),
        })
    }
}

fn origin_to_wire(origin: &RuleOrigin) -> (Option<wire::ObjectReference>, String) {
    match origin {
        RuleOrigin::ServiceDefault => (None, String::new()),
        RuleOrigin::Object { object, field } => (Some(object.into()), field.clone()),
    }
}

fn origin_to_model(object: Option<wire::ObjectReference>, field: String) -> RuleOrigin {
    match object.map(ObjectReference::from) {
        None => RuleOrigin::ServiceDefault,
        Some(object) => RuleOrigin::Object { object, field },
    }
}

impl From<&ConnectionRule> for wire::ConnectionRule {
    fn from(rule: &ConnectionRule) -> Self {
        let (origin, field) = origin_to_wire(&rule.origin);
        Self {
            backends: rule.backends.iter().map(Into::into).collect(),
            missing_weight: rule.missing_weight,
            origin,
            field,
        }
    }
}

impl TryFrom<wire::ConnectionRule> for ConnectionRule {
    type Error = InvalidMessage;

    fn try_from(wire: wire::ConnectionRule) -> Result<Self, InvalidMessage> {
        Ok(Self {
            backends: all(wire.backends, "backends")?,
            missing_weight: wire.missing_weight,
            origin: origin_to_model(wire.origin, wire.field),
        })
    }
}

impl From<&TlsRule> for wire::TlsRule {
    fn from(rule: &TlsRule) -> Self {
        Self {
            hostnames: rule.hostnames.iter().map(Into::into).collect(),
            connections: Some((&rule.connections).into()),
        }
    }
}

impl TryFrom<wire::TlsRule> for TlsRule {
    type Error = InvalidMessage;

    fn try_from(wire: wire::TlsRule) -> Result<Self, InvalidMessage> {
        Ok(Self {
            hostnames: all(wire.hostnames, "hostnames")?,
            connections: part(wire.connections, "connections")?,
        })
    }
}

impl From<&Hostname> for wire::Hostname {
    fn from(hostname: &Hostname) -> Self {
        use wire::hostname::Hostname as Kind;

        let hostname = match hostname {
            Hostname::Exact(name) => Kind::Exact(name.clone()),
            Hostname::Below(parent) => Kind::Below(parent.clone()),
        };
        Self { hostname: Some(hostname) }
    }
}

impl TryFrom<wire::Hostname> for Hostname {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Hostname) -> Result<Self, InvalidMessage> {
        use wire::hostname::Hostname as Kind;

        // A condition that cannot be read must not turn into no condition.
        Ok(match required(wire.hostname, "hostname")? {
            Kind::Exact(name) => Self::Exact(name),
            Kind::Below(parent) => Self::Below(parent),
        })
    }
}

impl From<&HttpBackend> for wire::HttpBackend {
    fn from(backend: &HttpBackend) -> Self {
        Self {
            backend: Some((&backend.backend).into()),
            weight: backend.weight,
            filters: backend.filters.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::HttpBackend> for HttpBackend {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HttpBackend) -> Result<Self, InvalidMessage> {
        Ok(Self {
            backend: service_port(wire.backend, "backend")?,
            weight: wire.weight,
            filters: all(wire.filters, "filters")?,
        })
    }
}

impl From<&Retry> for wire::Retry {
    fn from(retry: &Retry) -> Self {
        Self {
            codes: retry.codes.iter().copied().map(u32::from).collect(),
            attempts: retry.attempts,
            backoff_ms: milliseconds(retry.backoff),
        }
    }
}

impl TryFrom<wire::Retry> for Retry {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Retry) -> Result<Self, InvalidMessage> {
        let code = |code: u32| {
            u16::try_from(code).ok().filter(|code| (400..600).contains(code)).ok_or_else(|| {
                InvalidMessage::new(
                    "codes",
                    format!("{code} is no status of an error (want 400-599)"),
                )
            })
        };
        Ok(Self {
            codes: wire.codes.into_iter().map(code).collect::<Result<_, _>>()?,
            attempts: wire.attempts,
            backoff: std::time::Duration::from_millis(wire.backoff_ms),
        })
    }
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
