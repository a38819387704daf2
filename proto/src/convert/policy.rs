//! How endpoints are used, and how workloads guard themselves. What is zero where the `.proto` file
//! says "above zero" is refused: a limit that cannot be read must not turn into none.

use std::time::Duration;

use heddle_model::policy::{
    BackendPolicy, Balance, CircuitLimits, Ejection, HashKey, KeepAlive, Locality, Preference,
    RateLimit, RateLimitScope, RetryBudget, SessionKind, SessionPersistence,
};

use super::key::port;
use super::{
    InvalidMessage, above_zero, duration, milliseconds, optional, optional_milliseconds, part,
    percent, positive, required,
};
use crate::discovery as wire;

impl From<&BackendPolicy> for wire::BackendPolicy {
    fn from(policy: &BackendPolicy) -> Self {
        Self {
            balance: Some((&policy.balance).into()),
            locality: Some(policy.locality.into()),
            session: policy.session.as_ref().map(Into::into),
            slow_start_ms: optional_milliseconds(policy.slow_start),
            ejection: Some(policy.ejection.into()),
            limits: Some(policy.limits.into()),
            retry_budget: Some(policy.retry_budget.into()),
            keep_alive: Some(policy.keep_alive.into()),
        }
    }
}

impl TryFrom<wire::BackendPolicy> for BackendPolicy {
    type Error = InvalidMessage;

    fn try_from(wire: wire::BackendPolicy) -> Result<Self, InvalidMessage> {
        Ok(Self {
            balance: part(wire.balance, "balance")?,
            locality: part(wire.locality, "locality")?,
            session: optional(wire.session, "session")?,
            slow_start: duration(wire.slow_start_ms),
            ejection: part(wire.ejection, "ejection")?,
            limits: part(wire.limits, "limits")?,
            retry_budget: part(wire.retry_budget, "retry_budget")?,
            keep_alive: part(wire.keep_alive, "keep_alive")?,
        })
    }
}

impl From<&Balance> for wire::Balance {
    fn from(balance: &Balance) -> Self {
        use wire::balance::Balance as Kind;
        use wire::consistent_hash::Key;

        let hash = |key| Kind::ConsistentHash(wire::ConsistentHash { key: Some(key) });
        let kind = match balance {
            Balance::PeakEwma { decay } => {
                Kind::PeakEwma(wire::PeakEwma { decay_ms: milliseconds(*decay) })
            }
            Balance::RoundRobin => Kind::RoundRobin(wire::RoundRobin {}),
            Balance::Random => Kind::Random(wire::Random {}),
            Balance::ConsistentHash(HashKey::Header(name)) => hash(Key::Header(name.clone())),
            Balance::ConsistentHash(HashKey::Cookie(name)) => hash(Key::Cookie(name.clone())),
            Balance::ConsistentHash(HashKey::Source) => hash(Key::Source(wire::Source {})),
        };
        Self { balance: Some(kind) }
    }
}

impl TryFrom<wire::Balance> for Balance {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Balance) -> Result<Self, InvalidMessage> {
        use wire::balance::Balance as Kind;
        use wire::consistent_hash::Key;

        Ok(match required(wire.balance, "balance")? {
            Kind::PeakEwma(wire::PeakEwma { decay_ms }) => {
                Self::PeakEwma { decay: positive(decay_ms, "peak_ewma.decay_ms")? }
            }
            Kind::RoundRobin(wire::RoundRobin {}) => Self::RoundRobin,
            Kind::Random(wire::Random {}) => Self::Random,
            Kind::ConsistentHash(wire::ConsistentHash { key }) => {
                Self::ConsistentHash(match required(key, "consistent_hash.key")? {
                    Key::Header(name) => HashKey::Header(name),
                    Key::Cookie(name) => HashKey::Cookie(name),
                    Key::Source(wire::Source {}) => HashKey::Source,
                })
            }
        })
    }
}

impl From<Locality> for wire::Locality {
    fn from(locality: Locality) -> Self {
        let preference = match locality.preference {
            Preference::None => wire::Preference::None,
            Preference::SameZone => wire::Preference::SameZone,
            Preference::SameNode => wire::Preference::SameNode,
        };
        Self {
            preference: preference.into(),
            minimum_healthy_percent: u32::from(locality.minimum_healthy_percent),
        }
    }
}

impl TryFrom<wire::Locality> for Locality {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Locality) -> Result<Self, InvalidMessage> {
        let preference = match wire::Preference::try_from(wire.preference) {
            Ok(wire::Preference::None) => Preference::None,
            Ok(wire::Preference::SameZone) => Preference::SameZone,
            Ok(wire::Preference::SameNode) => Preference::SameNode,
            Ok(wire::Preference::Unspecified) | Err(_) => {
                return Err(unknown("preference", wire.preference));
            }
        };
        let minimum_healthy_percent =
            percent(wire.minimum_healthy_percent, "minimum_healthy_percent")?;
        Ok(Self { preference, minimum_healthy_percent })
    }
}

impl From<&SessionPersistence> for wire::SessionPersistence {
    fn from(session: &SessionPersistence) -> Self {
        let kind = match session.kind {
            SessionKind::SessionCookie => wire::SessionKind::SessionCookie,
            SessionKind::PermanentCookie => wire::SessionKind::PermanentCookie,
            SessionKind::Header => wire::SessionKind::Header,
        };
        Self {
            name: session.name.clone(),
            kind: kind.into(),
            absolute_timeout_ms: optional_milliseconds(session.absolute_timeout),
            idle_timeout_ms: optional_milliseconds(session.idle_timeout),
        }
    }
}

impl TryFrom<wire::SessionPersistence> for SessionPersistence {
    type Error = InvalidMessage;

    fn try_from(wire: wire::SessionPersistence) -> Result<Self, InvalidMessage> {
        let kind = match wire::SessionKind::try_from(wire.kind) {
            Ok(wire::SessionKind::SessionCookie) => SessionKind::SessionCookie,
            Ok(wire::SessionKind::PermanentCookie) => SessionKind::PermanentCookie,
            Ok(wire::SessionKind::Header) => SessionKind::Header,
            Ok(wire::SessionKind::Unspecified) | Err(_) => return Err(unknown("kind", wire.kind)),
        };
        if wire.name.is_empty() {
            return Err(InvalidMessage::missing("name"));
        }
        Ok(Self {
            name: wire.name,
            kind,
            absolute_timeout: duration(wire.absolute_timeout_ms),
            idle_timeout: duration(wire.idle_timeout_ms),
        })
    }
}

impl From<Ejection> for wire::Ejection {
    fn from(ejection: Ejection) -> Self {
        Self {
            consecutive_responses: ejection.consecutive_responses.unwrap_or(0),
            consecutive_connections: ejection.consecutive_connections.unwrap_or(0),
            base_duration_ms: milliseconds(ejection.base_duration),
            maximum_duration_ms: milliseconds(ejection.maximum_duration),
            maximum_percent: u32::from(ejection.maximum_percent),
        }
    }
}

impl TryFrom<wire::Ejection> for Ejection {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Ejection) -> Result<Self, InvalidMessage> {
        let counted = |number: u32| (number > 0).then_some(number);
        Ok(Self {
            consecutive_responses: counted(wire.consecutive_responses),
            consecutive_connections: counted(wire.consecutive_connections),
            base_duration: positive(wire.base_duration_ms, "base_duration_ms")?,
            maximum_duration: positive(wire.maximum_duration_ms, "maximum_duration_ms")?,
            maximum_percent: percent(wire.maximum_percent, "maximum_percent")?,
        })
    }
}

impl From<CircuitLimits> for wire::CircuitLimits {
    fn from(limits: CircuitLimits) -> Self {
        Self {
            connections: limits.connections,
            requests: limits.requests,
            pending: limits.pending,
            pending_timeout_ms: milliseconds(limits.pending_timeout),
        }
    }
}

impl TryFrom<wire::CircuitLimits> for CircuitLimits {
    type Error = InvalidMessage;

    fn try_from(wire: wire::CircuitLimits) -> Result<Self, InvalidMessage> {
        Ok(Self {
            connections: above_zero(wire.connections, "connections")?,
            requests: above_zero(wire.requests, "requests")?,
            pending: wire.pending,
            pending_timeout: Duration::from_millis(wire.pending_timeout_ms),
        })
    }
}

impl From<RetryBudget> for wire::RetryBudget {
    fn from(budget: RetryBudget) -> Self {
        Self {
            percent: budget.percent,
            minimum_per_second: budget.minimum_per_second,
            interval_ms: milliseconds(budget.interval),
        }
    }
}

impl TryFrom<wire::RetryBudget> for RetryBudget {
    type Error = InvalidMessage;

    fn try_from(wire: wire::RetryBudget) -> Result<Self, InvalidMessage> {
        Ok(Self {
            percent: wire.percent,
            minimum_per_second: wire.minimum_per_second,
            interval: positive(wire.interval_ms, "interval_ms")?,
        })
    }
}

impl From<KeepAlive> for wire::KeepAlive {
    fn from(keep_alive: KeepAlive) -> Self {
        Self {
            idle_timeout_ms: milliseconds(keep_alive.idle_timeout),
            tcp_time_ms: milliseconds(keep_alive.tcp_time),
            tcp_interval_ms: milliseconds(keep_alive.tcp_interval),
            tcp_probes: keep_alive.tcp_probes,
        }
    }
}

impl TryFrom<wire::KeepAlive> for KeepAlive {
    type Error = InvalidMessage;

    fn try_from(wire: wire::KeepAlive) -> Result<Self, InvalidMessage> {
        Ok(Self {
            idle_timeout: positive(wire.idle_timeout_ms, "idle_timeout_ms")?,
            tcp_time: positive(wire.tcp_time_ms, "tcp_time_ms")?,
            tcp_interval: positive(wire.tcp_interval_ms, "tcp_interval_ms")?,
            tcp_probes: above_zero(wire.tcp_probes, "tcp_probes")?,
        })
    }
}

impl From<&RateLimit> for wire::RateLimit {
    fn from(limit: &RateLimit) -> Self {
        let scope = match limit.scope {
            RateLimitScope::Workload => wire::RateLimitScope::Workload,
            RateLimitScope::Caller => wire::RateLimitScope::Caller,
        };
        Self {
            port: limit.port.map_or(0, |port| u32::from(port.number())),
            requests: limit.requests,
            interval_ms: milliseconds(limit.interval),
            burst: limit.burst,
            scope: scope.into(),
        }
    }
}

impl TryFrom<wire::RateLimit> for RateLimit {
    type Error = InvalidMessage;

    fn try_from(wire: wire::RateLimit) -> Result<Self, InvalidMessage> {
        let scope = match wire::RateLimitScope::try_from(wire.scope) {
            Ok(wire::RateLimitScope::Workload) => RateLimitScope::Workload,
            Ok(wire::RateLimitScope::Caller) => RateLimitScope::Caller,
            Ok(wire::RateLimitScope::Unspecified) | Err(_) => {
                return Err(unknown("scope", wire.scope));
            }
        };
        Ok(Self {
            port: (wire.port != 0).then(|| port(wire.port, "port")).transpose()?,
            requests: above_zero(wire.requests, "requests")?,
            interval: positive(wire.interval_ms, "interval_ms")?,
            burst: above_zero(wire.burst, "burst")?,
            scope,
        })
    }
}

fn unknown(field: &str, number: i32) -> InvalidMessage {
    InvalidMessage::new(field, format!("{number} is not known"))
}
