//! Whether what routes send to exists, and may be sent to.

use heddle_model::filter::{HttpFilter, Mirror};
use heddle_model::names::{ObjectReference, Port, ServiceName};
use heddle_model::route::{HttpBackend, WeightedBackend};

use super::splits::Services;
use crate::snapshot::no_port;
use crate::translate::reference_grant::ReferenceGrant;
use crate::translate::route::filters::Filter;
use crate::translate::route::{Backend, BackendTarget, Parent};

/// What backends are looked up in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver<'a> {
    pub(super) services: &'a Services<'a>,
    pub(super) grants: &'a [&'a ReferenceGrant],
}

/// Who refers to backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    pub(super) route: &'a ObjectReference,
    /// The namespaces of the services whose callers it sends there.
    pub(super) called: &'a [&'a str],
}

/// The namespaces of a route's parents.
pub(super) fn namespaces(parents: &[Parent]) -> Vec<&str> {
    parents.iter().map(|parent| parent.service.namespace.as_str()).collect()
}

impl Resolver<'_> {
    /// Those that exist, and the share of those that do not: its requests are answered with 500, as the
    /// Gateway API has it.
    pub(super) fn of_requests(
        &self,
        backends: &[Backend],
        referrer: Referrer<'_>,
    ) -> (Vec<HttpBackend>, u32) {
        let mut existing = Vec::new();
        let mut missing_weight: u32 = 0;
        for backend in backends {
            match &backend.target {
                BackendTarget::Service(port)
                    if self.unresolved(&backend.target, referrer).is_none() =>
                {
                    existing.push(HttpBackend {
                        backend: port.clone(),
                        weight: backend.weight,
                        filters: self.filters(&backend.filters, referrer),
                    });
                }
                BackendTarget::Service(_) | BackendTarget::Unusable { .. } => {
                    missing_weight = missing_weight.saturating_add(backend.weight);
                }
            }
        }
        (existing, missing_weight)
    }

    /// The same for connections.
    pub(super) fn of_connections(
        &self,
        backends: &[Backend],
        referrer: Referrer<'_>,
    ) -> (Vec<WeightedBackend>, u32) {
        let (existing, missing_weight) = self.of_requests(backends, referrer);
        let weighted = existing
            .into_iter()
            .map(|HttpBackend { backend, weight, .. }| WeightedBackend { backend, weight });
        (weighted.collect(), missing_weight)
    }

    /// What is done to requests. Copies for something that does not exist are not made, as the Gateway
    /// API has it; [`Resolver::problem`] tells of them.
    pub(super) fn filters(&self, filters: &[Filter], referrer: Referrer<'_>) -> Vec<HttpFilter> {
        let settled = |filter: &Filter| match filter {
            Filter::Settled(filter) => Some(filter.clone()),
            Filter::Mirror { target, fraction, .. } => match target {
                BackendTarget::Service(port) if self.unresolved(target, referrer).is_none() => {
                    let mirror = Mirror { backend: port.clone(), fraction: *fraction };
                    Some(HttpFilter::Mirror(mirror))
                }
                BackendTarget::Service(_) | BackendTarget::Unusable { .. } => None,
            },
        };
        filters.iter().filter_map(settled).collect()
    }

    /// The first thing that is wrong with what a route sends to, and how many more there are.
    pub(super) fn problem<'b>(
        &self,
        backends: impl Iterator<Item = &'b Backend>,
        rule_filters: impl Iterator<Item = &'b Filter>,
        referrer: Referrer<'_>,
    ) -> Option<(&'static str, String)> {
        let mut found = Vec::new();
        let mut mirrors: Vec<&Filter> = rule_filters.collect();
        for backend in backends {
            mirrors.extend(&backend.filters);
            let problem = self.unresolved(&backend.target, referrer);
            found.extend(problem.map(|(reason, message)| {
                (reason, format!("{}: {message}", backend.field), "its share of requests fails")
            }));
        }
        for filter in mirrors {
            if let Filter::Mirror { field, target, .. } = filter {
                let problem = self.unresolved(target, referrer);
                found.extend(problem.map(|(reason, message)| {
                    (reason, format!("{field}: {message}"), "no copies are sent")
                }));
            }
        }
        let mut found = found.into_iter();
        let (reason, message, effect) = found.next()?;
        let more = match found.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some((reason, format!("{message}{more}; {effect}")))
    }

    /// Why nothing can be sent to a backend: a word and a sentence.
    fn unresolved(
        &self,
        target: &BackendTarget,
        referrer: Referrer<'_>,
    ) -> Option<(&'static str, String)> {
        match target {
            BackendTarget::Unusable { reason, message } => Some((*reason, message.clone())),
            BackendTarget::Service(port) => {
                if !self.permits(&port.service, referrer) {
                    let message = format!(
                        "service {} is of another namespace, and no ReferenceGrant there allows it",
                        port.service
                    );
                    return Some(("RefNotPermitted", message));
                }
                let missing = "BackendNotFound";
                let Some(service) = self.services.get(&port.service) else {
                    return Some((missing, format!("service {} does not exist", port.service)));
                };
                if service.ports.contains_key(&port.port) {
                    return None;
                }
                let known: Vec<Port> = service.ports.keys().copied().collect();
                Some((missing, no_port(&port.service, port.port.number(), &known)))
            }
        }
    }

    /// Services of the route's own namespace, of that of the service that is called, and those that are
    /// granted. Any parent's would not do: to name a service as a second parent would be a grant to all
    /// callers of the first.
    fn permits(&self, service: &ServiceName, referrer: Referrer<'_>) -> bool {
        let Referrer { route, called } = referrer;
        service.namespace == route.namespace
            || called.iter().all(|namespace| *namespace == service.namespace)
            || self.grants.iter().any(|grant| grant.allows(route, service))
    }
}
