//! Which TrafficPolicy counts for a service's port, and which rate limits pods get from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, ServicePort};
use heddle_model::policy::{BackendPolicy, RateLimit};

use super::attach::port_names;
use super::splits::Services;
use crate::translate::service::Service;
use crate::translate::traffic_policy::{Target, TrafficPolicy};

/// What was decided about policies.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    /// The one that counts.
    pub(super) by_port: BTreeMap<ServicePort, Applied<'a>>,
    /// Of every policy.
    pub(super) standings: BTreeMap<&'a ObjectReference, Standing>,
}

/// A policy that counts for a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied<'a> {
    pub(super) policy: &'a TrafficPolicy,
    /// Whether it is for that port only, not for the whole service.
    pub(super) of_port: bool,
}

/// How a policy fares.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// At how many ports it counts.
    pub(super) counts: usize,
    /// Services and ports that it names and that do not exist.
    pub(super) missing: Vec<String>,
    /// Ports of which its rate limits are to be, and that do not exist.
    pub(super) missing_ports: Vec<String>,
    /// Where it gives way to an older one.
    pub(super) conflicts: Vec<String>,
    /// Where it gives way to one that is for that port only.
    pub(super) overridden: Vec<String>,
}

/// Finds out for every port which policy counts: one for that port before one for the whole service, and
/// then the older one.
pub(super) fn decide<'a>(
    policies: impl Iterator<Item = &'a TrafficPolicy>,
    services: &Services<'_>,
) -> Policies<'a> {
    let mut found = Policies::default();
    let mut rivals: BTreeMap<ServicePort, Vec<Applied<'a>>> = BTreeMap::new();
    for policy in policies {
        let standing = found.standings.entry(&policy.reference).or_default();
        let mut named: Vec<Port> = Vec::new();
        for target in &policy.targets {
            match ports(target, services) {
                Err(problem) => standing.missing.push(problem),
                Ok(ports) => {
                    for port in ports {
                        named.push(port.port);
                        let of_port = target.port_name.is_some();
                        let list = rivals.entry(port).or_default();
                        if of_port
                            || !list.iter().any(|known| known.policy.reference == policy.reference)
                        {
                            list.push(Applied { policy, of_port });
                        }
                    }
                }
            }
        }
        let missing = policy.rate_limits.iter().filter_map(|limit| {
            let port = limit.port.filter(|port| !named.contains(port))?;
            Some(format!(
                "{}.port: no service that the policy is for has a port {port}",
                limit.field
            ))
        });
        standing.missing_ports.extend(missing);
    }
    for (port, mut list) in rivals {
        list.sort_by_key(|one| (!one.of_port, &one.policy.seniority));
        let Some((first, others)) = list.split_first() else { continue };
        found.standings.entry(&first.policy.reference).or_default().counts += 1;
        for other in others.iter().filter(|other| other.policy.reference != first.policy.reference)
        {
            let standing = found.standings.entry(&other.policy.reference).or_default();
            let message = format!("service {port} follows {}", first.policy.reference);
            match first.of_port && !other.of_port {
                true => standing.overridden.push(message),
                false => standing.conflicts.push(message),
            }
        }
        found.by_port.insert(port, *first);
    }
    found
}

fn ports(target: &Target, services: &Services<'_>) -> Result<Vec<ServicePort>, String> {
    let Target { field, service: name, port_name } = target;
    let Some(service) = services.get(name) else {
        return Err(format!("{field}: service {name} does not exist"));
    };
    let meant = service
        .ports
        .iter()
        .filter(|(_, port)| port_name.as_ref().is_none_or(|port_name| *port_name == port.name));
    let found: Vec<ServicePort> =
        meant.map(|(number, _)| ServicePort { service: name.clone(), port: *number }).collect();
    match port_name {
        Some(port_name) if found.is_empty() => {
            let known = port_names(service);
            Err(format!(
                "{field}.sectionName: service {name} has no port {port_name:?} (it has {known})"
            ))
        }
        None if found.is_empty() => {
            Err(format!("{field}: service {name} has no port that is served over TCP"))
        }
        Some(_) | None => Ok(found),
    }
}

/// How the endpoints of one port of a service are used: as its policy has it, and where that does not
/// say, as the service has it.
pub(super) fn backend_policy(service: &Service, applied: Option<Applied<'_>>) -> BackendPolicy {
    let mut found = applied.map(|applied| applied.policy.backend.clone()).unwrap_or_default();
    if applied.and_then(|applied| applied.policy.preference).is_none() {
        found.locality.preference = service.preference;
    }
    found
}

/// The rate limits of pods. One that is for a whole service is there once, whatever its ports.
#[derive(Debug, Default)]
pub(super) struct PodLimits(HashMap<PodUid, BTreeMap<LimitKey, RateLimit>>);

type LimitKey = (ObjectReference, String, Option<Port>);

impl PodLimits {
    /// Takes note of what a policy says of the pods behind one port of a service, each with its own port.
    pub(super) fn add(
        &mut self,
        port: &ServicePort,
        applied: Applied<'_>,
        pods: &BTreeSet<(PodUid, Port)>,
    ) {
        let Applied { policy, of_port } = applied;
        for limit in &policy.rate_limits {
            if limit.port.is_some_and(|only| only != port.port) {
                continue;
            }
            for (uid, pod_port) in pods {
                let own = (limit.port.is_some() || of_port).then_some(*pod_port);
                let key = (policy.reference.clone(), limit.field.clone(), own);
                let limit = RateLimit { port: own, ..limit.limit };
                self.0.entry(uid.clone()).or_default().insert(key, limit);
            }
        }
    }

    /// Those of one pod, and the policies that they came from.
    pub(super) fn of(&self, uid: &PodUid) -> (Vec<RateLimit>, Vec<ObjectReference>) {
        let Some(limits) = self.0.get(uid) else { return (Vec::new(), Vec::new()) };
        let mut origins: Vec<ObjectReference> =
            limits.keys().map(|(policy, _, _)| policy.clone()).collect();
        origins.dedup();
        (limits.values().copied().collect(), origins)
    }
}
