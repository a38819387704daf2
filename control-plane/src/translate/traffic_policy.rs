//! TrafficPolicy → how the endpoints of services are used. What a policy leaves out has the defaults of
//! `heddle_model::policy`.

use heddle_model::filter::Fault;
use heddle_model::names::{ObjectReference, Port, ServiceName};
use heddle_model::policy::{
    BackendPolicy, Balance, HashKey, Locality, PEAK_EWMA_DECAY, Preference, RateLimit,
    RateLimitScope,
};

use crate::source::Custom;
use crate::source::traffic_policy::{
    self as written, LoadBalancingType, LocalityPreference, TrafficPolicySpec,
};
use crate::translate::{Rejected, Seniority, duration, fault, header_name, number, session};

mod parts;

/// How the endpoints of services are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// The policy.
    pub reference: ObjectReference,
    /// Decides which of two policies of one service counts.
    pub seniority: Seniority,
    /// What it is for; at least one.
    pub targets: Vec<Target>,
    /// What every caller keeps to.
    pub backend: BackendPolicy,
    /// Which endpoints are close; `None`: what the service says.
    pub preference: Option<Preference>,
    /// What the pods behind the services keep to.
    pub rate_limits: Vec<PolicyRateLimit>,
    /// Failures made on purpose; `None`: what the service says.
    pub fault: Option<Fault>,
}

/// A service, or one port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is written: `spec.targetRefs[0]`.
    pub field: String,
    /// The service.
    pub service: ServiceName,
    /// The port of that name only; `None`: every one.
    pub port_name: Option<String>,
}

/// A rate limit of the pods behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRateLimit {
    /// Where it is written: `spec.rateLimit[0]`.
    pub field: String,
    /// Of this port of the service; `None`: of all that the policy is for, together.
    pub port: Option<Port>,
    /// How many; its own port is not set.
    pub limit: RateLimit,
}

/// Reads a policy.
pub fn translate(
    policy: &Custom<TrafficPolicySpec>,
    reference: &ObjectReference,
) -> Result<TrafficPolicy, Rejected> {
    let spec = &policy.spec;
    let (locality, preference) = locality(spec.locality.as_ref())?;
    let session = spec.session_persistence.as_ref();
    let session = session
        .map(|session| session::translate(session, "spec.sessionPersistence"))
        .transpose()?;
    let slow_start = spec.slow_start.as_ref();
    let slow_start = slow_start
        .map(|slow_start| duration::positive(&slow_start.window, "spec.slowStart.window"))
        .transpose()?;
    Ok(TrafficPolicy {
        reference: reference.clone(),
        seniority: Seniority::new(&policy.metadata, reference),
        targets: targets(spec, reference)?,
        backend: BackendPolicy {
            balance: balance(spec.load_balancing.as_ref())?,
            locality,
            session,
            slow_start,
            ejection: part(spec.outlier_detection.as_ref(), parts::ejection)?,
            limits: part(spec.circuit_breaker.as_ref(), parts::limits)?,
            retry_budget: part(spec.retry_budget.as_ref(), parts::retry_budget)?,
            keep_alive: part(spec.keep_alive.as_ref(), parts::keep_alive)?,
        },
        preference,
        rate_limits: rate_limits(&spec.rate_limit)?,
        fault: spec.fault_injection.as_ref().map(fault::of_policy).transpose()?,
    })
}

fn part<W, M: Default>(
    written: Option<&W>,
    read: impl FnOnce(&W) -> Result<M, Rejected>,
) -> Result<M, Rejected> {
    written.map_or_else(|| Ok(M::default()), read)
}

fn targets(spec: &TrafficPolicySpec, reference: &ObjectReference) -> Result<Vec<Target>, Rejected> {
    let count = spec.target_refs.len();
    if count == 0 || count > TARGETS_LIMIT {
        let message = format!("are {count} (want 1 to {TARGETS_LIMIT})");
        return Err(Rejected::invalid("spec.targetRefs", message));
    }
    let mut found: Vec<Target> = Vec::new();
    for (index, target) in spec.target_refs.iter().enumerate() {
        let field = format!("spec.targetRefs[{index}]");
        if target.kind != "Service" || !matches!(target.group.as_str(), "" | "core") {
            let message =
                format!("{:?} is nothing that a policy is for (want Service)", target.kind);
            return Err(Rejected::unsupported(format!("{field}.kind"), message));
        }
        let namespace = reference.namespace.clone();
        let service = ServiceName { namespace, name: target.name.clone() };
        let port_name = target.section_name.clone();
        if found.iter().any(|known| known.service == service && known.port_name == port_name) {
            return Err(Rejected::invalid(field, format!("{:?} is there twice", target.name)));
        }
        found.push(Target { field, service, port_name });
    }
    Ok(found)
}

fn balance(balancing: Option<&written::LoadBalancing>) -> Result<Balance, Rejected> {
    let Some(balancing) = balancing else { return Ok(Balance::default()) };
    let field = "spec.loadBalancing";
    let is_for = |part: &str, kind: &str| {
        Rejected::invalid(format!("{field}.{part}"), format!("is for type {kind} only"))
    };
    if balancing.decay.is_some() && balancing.kind != LoadBalancingType::PeakEwma {
        return Err(is_for("decay", "PeakEWMA"));
    }
    if balancing.consistent_hash.is_some() && balancing.kind != LoadBalancingType::ConsistentHash {
        return Err(is_for("consistentHash", "ConsistentHash"));
    }
    Ok(match balancing.kind {
        LoadBalancingType::PeakEwma => {
            let decay = balancing.decay.as_ref();
            let decay = decay.map(|decay| duration::positive(decay, &format!("{field}.decay")));
            Balance::PeakEwma { decay: decay.transpose()?.unwrap_or(PEAK_EWMA_DECAY) }
        }
        LoadBalancingType::RoundRobin => Balance::RoundRobin,
        LoadBalancingType::Random => Balance::Random,
        LoadBalancingType::ConsistentHash => {
            let field = format!("{field}.consistentHash");
            let hash = balancing.consistent_hash.as_ref().ok_or_else(|| {
                Rejected::invalid(&field, "is missing (want one of header, cookie, source)")
            })?;
            Balance::ConsistentHash(hash_key(hash, &field)?)
        }
    })
}

fn hash_key(hash: &written::ConsistentHash, field: &str) -> Result<HashKey, Rejected> {
    match (&hash.header, &hash.cookie, hash.source) {
        (Some(name), None, None) => {
            let name = header_name::checked(name, || format!("{field}.header"))?;
            Ok(HashKey::Header(name))
        }
        (None, Some(name), None) if header_name::is_token(name) => {
            Ok(HashKey::Cookie(name.clone()))
        }
        (None, Some(name), None) => {
            let message = format!("{name:?} is no name of a cookie");
            Err(Rejected::invalid(format!("{field}.cookie"), message))
        }
        (None, None, Some(true)) => Ok(HashKey::Source),
        (_, _, Some(_)) | (None, None, None) | (Some(_), Some(_), None) => {
            let message = "wants one of header: NAME, cookie: NAME and source: true";
            Err(Rejected::invalid(field, message))
        }
    }
}

fn locality(
    locality: Option<&written::Locality>,
) -> Result<(Locality, Option<Preference>), Rejected> {
    let Some(locality) = locality else { return Ok((Locality::default(), None)) };
    let preference = locality.preference.map(|preference| match preference {
        LocalityPreference::None => Preference::None,
        LocalityPreference::SameZone => Preference::SameZone,
        LocalityPreference::SameNode => Preference::SameNode,
    });
    let mut found = Locality::default();
    if let Some(percent) = locality.minimum_healthy_percent {
        let field = "spec.locality.minimumHealthyPercent";
        found.minimum_healthy_percent = number::between(percent, 0..=100, field)?;
    }
    found.preference = preference.unwrap_or_default();
    Ok((found, preference))
}

fn rate_limits(limits: &[written::RateLimit]) -> Result<Vec<PolicyRateLimit>, Rejected> {
    if limits.len() > RATE_LIMITS_LIMIT {
        let message = format!("are more than {RATE_LIMITS_LIMIT}");
        return Err(Rejected::invalid("spec.rateLimit", message));
    }
    let limits = limits.iter().enumerate();
    limits.map(|(index, limit)| rate_limit(limit, format!("spec.rateLimit[{index}]"))).collect()
}

fn rate_limit(limit: &written::RateLimit, field: String) -> Result<PolicyRateLimit, Rejected> {
    let count = |number: i64, name: &str| {
        number::between(number, 1..=parts::COUNT_LIMIT, &format!("{field}.{name}"))
    };
    let requests: u32 = count(limit.requests, "requests")?;
    let burst = limit.burst.map(|burst| count(burst, "burst")).transpose()?;
    let interval = limit.interval.as_ref();
    let interval =
        interval.map(|text| duration::positive(text, &format!("{field}.interval"))).transpose()?;
    let port = limit.port.map(|port| {
        let number: u16 = number::between(port, 1..=65_535, &format!("{field}.port"))?;
        Port::new(number).ok_or_else(|| Rejected::invalid(format!("{field}.port"), "is no port"))
    });
    Ok(PolicyRateLimit {
        port: port.transpose()?,
        limit: RateLimit {
            port: None,
            requests,
            interval: interval.unwrap_or(RATE_LIMIT_INTERVAL),
            burst: burst.unwrap_or(requests),
            scope: match limit.scope {
                written::RateLimitScope::Workload => RateLimitScope::Workload,
                written::RateLimitScope::Caller => RateLimitScope::Caller,
            },
        },
        field,
    })
}

/// The Gateway API's policies allow 16.
const TARGETS_LIMIT: usize = 16;
/// Each is looked at for every request.
const RATE_LIMITS_LIMIT: usize = 16;
/// Requests per second, if nothing else is said.
const RATE_LIMIT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests;
