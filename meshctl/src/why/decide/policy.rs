//! Policies in words: what is not as by default, and what a workload takes.

use heddle_model::policy::{
    BackendPolicy, Balance, HashKey, Preference, RateLimit, RateLimitScope,
};
use heddle_runtime::duration::Text;

/// What a policy says that the defaults do not; a line in any case where there is a policy.
pub(super) fn of_backend(policy: &BackendPolicy, is_default: bool) -> Vec<String> {
    let default = BackendPolicy::default();
    let mut said = vec![format!("balanced by {}", balance(&policy.balance))];
    match policy.locality.preference {
        Preference::None => {}
        Preference::SameZone => said.push("endpoints of the same zone go first".to_owned()),
        Preference::SameNode => {
            said.push(
                "endpoints of the same node go first, then those of the same zone".to_owned(),
            );
        }
    }
    if let Some(session) = &policy.session {
        said.push(format!("sessions by {:?} {}", session.kind, session.name));
    }
    if let Some(slow_start) = policy.slow_start {
        said.push(format!("new endpoints get their full share after {}", Text(slow_start)));
    }
    if policy.ejection != default.ejection {
        let responses = policy.ejection.consecutive_responses;
        let connections = policy.ejection.consecutive_connections;
        let count = |number: Option<u32>, of: &str| number.map(|number| format!("{number} {of}"));
        let after: Vec<String> = count(responses, "failed responses")
            .into_iter()
            .chain(count(connections, "failed connections"))
            .collect();
        let after = if after.is_empty() { "nothing".to_owned() } else { after.join(" or ") };
        said.push(format!("an endpoint is left out after {after} in a row"));
    }
    if policy.limits != default.limits {
        let limits = &policy.limits;
        said.push(format!(
            "at most {} connections, {} requests under way, {} waiting for {}",
            limits.connections,
            limits.requests,
            limits.pending,
            Text(limits.pending_timeout)
        ));
    }
    match is_default {
        true => vec![format!("by default: {}", said.join("; "))],
        false => vec![said.join("; ")],
    }
}

/// What a workload takes.
pub(super) fn rate_limit(limit: &RateLimit) -> String {
    let port = limit.port.map(|port| format!(" at port {port}")).unwrap_or_default();
    let scope = match limit.scope {
        RateLimitScope::Workload => "of all callers together",
        RateLimitScope::Caller => "of each caller",
    };
    format!(
        "each pod takes {} requests per {} {scope}{port}, {} at once; more are answered with 429",
        limit.requests,
        Text(limit.interval),
        limit.burst
    )
}

fn balance(balance: &Balance) -> String {
    match balance {
        Balance::PeakEwma { .. } => "PeakEWMA".to_owned(),
        Balance::RoundRobin => "RoundRobin".to_owned(),
        Balance::Random => "Random".to_owned(),
        Balance::ConsistentHash(key) => {
            let key = match key {
                HashKey::Header(name) => format!("header {name}"),
                HashKey::Cookie(name) => format!("cookie {name}"),
                HashKey::Source => "the caller's address".to_owned(),
            };
            format!("ConsistentHash of {key}")
        }
    }
}
