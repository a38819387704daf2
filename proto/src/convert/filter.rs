//! What is done to requests.

use std::time::Duration;

use heddle_model::filter::{
    Cors, Fault, FaultAbort, FaultDelay, Fraction, HeaderChange, HttpFilter, Mirror, NamedValue,
    PathChange, Redirect, Rewrite,
};
use heddle_model::names::Port;

use super::key::{port, service_port};
use super::{InvalidMessage, all, optional, positive, required};
use crate::discovery as wire;

impl From<&HttpFilter> for wire::HttpFilter {
    fn from(filter: &HttpFilter) -> Self {
        use wire::http_filter::Filter;

        Self {
            filter: Some(match filter {
                HttpFilter::RequestHeaders(change) => Filter::RequestHeaders(change.into()),
                HttpFilter::ResponseHeaders(change) => Filter::ResponseHeaders(change.into()),
                HttpFilter::Redirect(redirect) => Filter::Redirect(redirect.into()),
                HttpFilter::Rewrite(rewrite) => Filter::Rewrite(rewrite.into()),
                HttpFilter::Mirror(mirror) => Filter::Mirror(mirror.into()),
                HttpFilter::Cors(cors) => Filter::Cors(cors.into()),
            }),
        }
    }
}

impl TryFrom<wire::HttpFilter> for HttpFilter {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HttpFilter) -> Result<Self, InvalidMessage> {
        use wire::http_filter::Filter;

        Ok(match required(wire.filter, "filter")? {
            Filter::RequestHeaders(change) => Self::RequestHeaders(
                change
                    .try_into()
                    .map_err(|error: InvalidMessage| error.within("request_headers"))?,
            ),
            Filter::ResponseHeaders(change) => Self::ResponseHeaders(
                change
                    .try_into()
                    .map_err(|error: InvalidMessage| error.within("response_headers"))?,
            ),
            Filter::Redirect(redirect) => Self::Redirect(
                redirect.try_into().map_err(|error: InvalidMessage| error.within("redirect"))?,
            ),
            Filter::Rewrite(rewrite) => Self::Rewrite(
                rewrite.try_into().map_err(|error: InvalidMessage| error.within("rewrite"))?,
            ),
            Filter::Mirror(mirror) => Self::Mirror(
                mirror.try_into().map_err(|error: InvalidMessage| error.within("mirror"))?,
            ),
            Filter::Cors(cors) => Self::Cors(cors.into()),
        })
    }
}

impl From<&HeaderChange> for wire::HeaderChange {
    fn from(change: &HeaderChange) -> Self {
        Self {
            set: change.set.iter().map(Into::into).collect(),
            add: change.add.iter().map(Into::into).collect(),
            remove: change.remove.clone(),
        }
    }
}

impl TryFrom<wire::HeaderChange> for HeaderChange {
    type Error = InvalidMessage;

    fn try_from(wire: wire::HeaderChange) -> Result<Self, InvalidMessage> {
        Ok(Self { set: all(wire.set, "set")?, add: all(wire.add, "add")?, remove: wire.remove })
    }
}

impl From<&NamedValue> for wire::NamedValue {
    fn from(named: &NamedValue) -> Self {
        Self { name: named.name.clone(), value: named.value.clone() }
    }
}

impl TryFrom<wire::NamedValue> for NamedValue {
    type Error = InvalidMessage;

    fn try_from(wire: wire::NamedValue) -> Result<Self, InvalidMessage> {
        if wire.name.is_empty() {
            return Err(InvalidMessage::missing("name"));
        }
        Ok(Self { name: wire.name, value: wire.value })
    }
}

impl From<&Redirect> for wire::Redirect {
    fn from(redirect: &Redirect) -> Self {
        Self {
            scheme: redirect.scheme.clone().unwrap_or_default(),
            hostname: redirect.hostname.clone().unwrap_or_default(),
            path: redirect.path.as_ref().map(Into::into),
            port: redirect.port.map(Port::number).map_or(0, u32::from),
            status: u32::from(redirect.status),
        }
    }
}

impl TryFrom<wire::Redirect> for Redirect {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Redirect) -> Result<Self, InvalidMessage> {
        let status = u16::try_from(wire.status).ok().filter(|status| STATUSES.contains(status));
        Ok(Self {
            scheme: set(wire.scheme),
            hostname: set(wire.hostname),
            path: optional(wire.path, "path")?,
            port: (wire.port != 0).then(|| port(wire.port, "port")).transpose()?,
            status: status.ok_or_else(|| {
                InvalidMessage::new("status", format!("{} is no redirect's", wire.status))
            })?,
        })
    }
}

impl From<&Rewrite> for wire::Rewrite {
    fn from(rewrite: &Rewrite) -> Self {
        Self {
            hostname: rewrite.hostname.clone().unwrap_or_default(),
            path: rewrite.path.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Rewrite> for Rewrite {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Rewrite) -> Result<Self, InvalidMessage> {
        Ok(Self { hostname: set(wire.hostname), path: optional(wire.path, "path")? })
    }
}

fn set(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<&PathChange> for wire::PathChange {
    fn from(change: &PathChange) -> Self {
        use wire::path_change::Change;

        let change = match change {
            PathChange::Full(path) => Change::Full(path.clone()),
            PathChange::Prefix(path) => Change::Prefix(path.clone()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<wire::PathChange> for PathChange {
    type Error = InvalidMessage;

    fn try_from(wire: wire::PathChange) -> Result<Self, InvalidMessage> {
        use wire::path_change::Change;

        Ok(match required(wire.change, "change")? {
            Change::Full(path) => Self::Full(path),
            Change::Prefix(path) => Self::Prefix(path),
        })
    }
}

impl From<&Mirror> for wire::Mirror {
    fn from(mirror: &Mirror) -> Self {
        Self { backend: Some((&mirror.backend).into()), fraction: Some(mirror.fraction.into()) }
    }
}

impl TryFrom<wire::Mirror> for Mirror {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Mirror) -> Result<Self, InvalidMessage> {
        Ok(Self {
            backend: service_port(wire.backend, "backend")?,
            fraction: fraction(wire.fraction)?,
        })
    }
}

impl From<Fraction> for wire::Fraction {
    fn from(fraction: Fraction) -> Self {
        Self { numerator: fraction.numerator(), denominator: fraction.denominator() }
    }
}

fn fraction(wire: Option<wire::Fraction>) -> Result<Fraction, InvalidMessage> {
    let wire::Fraction { numerator, denominator } = required(wire, "fraction")?;
    Fraction::new(numerator, denominator).ok_or_else(|| {
        InvalidMessage::new("fraction", format!("{numerator} of {denominator} is no part of it"))
    })
}

impl From<&Cors> for wire::Cors {
    fn from(cors: &Cors) -> Self {
        Self {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            allow_credentials: cors.allow_credentials,
            max_age_seconds: u32::try_from(cors.max_age.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl From<wire::Cors> for Cors {
    fn from(wire: wire::Cors) -> Self {
        Self {
            allow_origins: wire.allow_origins,
            allow_methods: wire.allow_methods,
            allow_headers: wire.allow_headers,
            expose_headers: wire.expose_headers,
            allow_credentials: wire.allow_credentials,
            max_age: Duration::from_secs(u64::from(wire.max_age_seconds)),
        }
    }
}

impl From<&Fault> for wire::Fault {
    fn from(fault: &Fault) -> Self {
        let delay = fault.delay.as_ref().map(|delay| wire::FaultDelay {
            duration_ms: super::milliseconds(delay.duration),
            fraction: Some(delay.fraction.into()),
        });
        let abort = fault.abort.as_ref().map(|abort| wire::FaultAbort {
            status: u32::from(abort.status),
            grpc_status: u32::from(abort.grpc_status),
            fraction: Some(abort.fraction.into()),
        });
        Self { delay, abort }
    }
}

impl TryFrom<wire::Fault> for Fault {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Fault) -> Result<Self, InvalidMessage> {
        Ok(Self { delay: optional(wire.delay, "delay")?, abort: optional(wire.abort, "abort")? })
    }
}

impl TryFrom<wire::FaultDelay> for FaultDelay {
    type Error = InvalidMessage;

    fn try_from(wire: wire::FaultDelay) -> Result<Self, InvalidMessage> {
        Ok(Self {
            duration: positive(wire.duration_ms, "duration_ms")?,
            fraction: fraction(wire.fraction)?,
        })
    }
}

impl TryFrom<wire::FaultAbort> for FaultAbort {
    type Error = InvalidMessage;

    fn try_from(wire: wire::FaultAbort) -> Result<Self, InvalidMessage> {
        let status = u16::try_from(wire.status).ok().filter(|status| (400..600).contains(status));
        let grpc_status =
            u8::try_from(wire.grpc_status).ok().filter(|status| (1..=16).contains(status));
        Ok(Self {
            status: status.ok_or_else(|| InvalidMessage::new("status", "want 400-599"))?,
            grpc_status: grpc_status
                .ok_or_else(|| InvalidMessage::new("grpc_status", "want 1-16"))?,
            fraction: fraction(wire.fraction)?,
        })
    }
}

/// Those of redirects that the Gateway API knows.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
