//! Which backend a connection goes to that is carried as bytes.

use std::sync::Arc;

use crate::balance::balancer::Balancer;
use crate::discovery::resolved::Resolved;
use crate::outbound::refusal::Refusal;

/// The backend for a connection that is carried as bytes.
pub(super) fn pick_balancer(resolved: &Resolved) -> Result<Arc<Balancer>, Refusal> {
    match resolved {
        Resolved::Service(service) => {
            let picked = service.connections.pick(&mut rand::rng());
            picked.cloned().ok_or(Refusal::NoBackend)
        }
        Resolved::Endpoint(endpoint) => Ok(Arc::clone(&endpoint.balancer)),
        // It has changed since the connection was accepted.
        Resolved::PassThrough => Err(Refusal::Refused("no longer in the mesh".to_owned())),
        Resolved::Refused { reason } => Err(Refusal::Refused(reason.clone())),
    }
}

/// Whether there are routes for what the application encrypts.
pub(super) fn has_tls_rules(resolved: &Resolved) -> bool {
    match resolved {
        Resolved::Service(service) => !service.tls_rules.is_empty(),
        Resolved::Endpoint(_) | Resolved::PassThrough | Resolved::Refused { .. } => false,
    }
}

/// The backend for a connection that the application encrypts. Where routes for that are gone by
/// now, it goes where all others go.
pub(super) fn pick_by_name(
    resolved: &Resolved,
    name: Option<String>,
) -> Result<Arc<Balancer>, Refusal> {
    let Resolved::Service(service) = resolved else { return pick_balancer(resolved) };
    if service.tls_rules.is_empty() {
        return pick_balancer(resolved);
    }
    let rule = service.tls_rules.iter().find(|rule| rule.matches(name.as_deref()));
    let rule = rule.ok_or(Refusal::NoTlsRoute(name))?;
    rule.connections.pick(&mut rand::rng()).cloned().ok_or(Refusal::NoBackend)
}
