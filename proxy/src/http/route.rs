//! Which rule of a service's routes a request belongs to, and all that the rule does. Compiling refuses what a
//! rule cannot mean, its filters included. Its conditions are matched by `heddle-matcher`.

use std::sync::Arc;

use heddle_matcher::condition::{Condition, Unmatchable};
use heddle_model::names::ObjectReference;
use heddle_model::policy::SessionKind;
use heddle_model::route::{HttpRule, RuleOrigin};
use http::Request;
use http::header::HOST;

use crate::http::fault::CompiledFault;
use crate::http::filter::headers::compile_name;
use crate::http::filter::{Filters, Unservable};
use crate::http::retry::RetryPolicy;

/// A rule's conditions and all that it does, ready to be used.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// What is done whichever backend is picked.
    pub filters: Filters,
    /// What is done for each backend only, in their order.
    pub backend_filters: Vec<Filters>,
    /// When a request is sent again.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Failures made on purpose.
    pub fault: CompiledFault,
    /// Which requests it is for.
    condition: Condition,
}

/// A rule that cannot be used, and with it the whole update it came in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct RouteRefused {
    /// The object it came from; absent if the proxy was not told.
    pub origin: Option<ObjectReference>,
    /// Where in it, such as `spec.rules[2].matches[0].path.value`.
    pub field: String,
    /// Why, and what would do.
    pub reason: String,
}

/// All rules, in their order, or the first that cannot be used.
pub fn compile(rules: &[HttpRule]) -> Result<Vec<CompiledRule>, RouteRefused> {
    rules.iter().enumerate().map(|(index, rule)| compile_rule(index, rule)).collect()
}

impl CompiledRule {
    /// Whether a request is of this rule: it is for one of its hosts, and any of its conditions holds.
    pub fn matches<B>(&self, request: &Request<B>) -> bool {
        self.condition.holds(request)
    }

    /// Whether every request with a path is of this rule, and nothing is done to it but sending it once.
    pub fn is_plain(&self) -> bool {
        self.condition.is_always()
            && self.filters.is_empty()
            && self.backend_filters.iter().all(Filters::is_empty)
            && self.retry.is_none()
            && self.fault.is_empty()
    }

    /// The prefix that filters may replace, if one of them does.
    pub fn prefix_to_replace<B>(&self, request: &Request<B>) -> Option<&str> {
        let uses_prefix =
            self.filters.uses_prefix() || self.backend_filters.iter().any(Filters::uses_prefix);
        if uses_prefix { self.condition.prefix(request) } else { None }
    }
}

/// Names the place of a fault; turns a reason into a refusal.
struct Place {
    origin: Option<ObjectReference>,
    field: String,
}

impl Place {
    fn of(index: usize, rule: &HttpRule) -> Self {
        match &rule.origin {
            RuleOrigin::ServiceDefault => Self { origin: None, field: format!("rules[{index}]") },
            RuleOrigin::Object { object, field } => {
                Self { origin: Some(object.clone()), field: field.clone() }
            }
        }
    }

    fn refuse(&self, part: &str, reason: String) -> RouteRefused {
        let Self { origin, field } = self;
        RouteRefused { origin: origin.clone(), field: format!("{field}.{part}"), reason }
    }

    fn unservable(&self, Unservable { part, reason }: Unservable) -> RouteRefused {
        self.refuse(&part, reason)
    }
}

fn compile_rule(index: usize, rule: &HttpRule) -> Result<CompiledRule, RouteRefused> {
    let place = Place::of(index, rule);
    let condition = Condition::compile(&rule.hostnames, &rule.matches)
        .map_err(|Unmatchable { part, reason }| place.refuse(&part, reason))?;
    let has_prefixes = condition.is_by_prefix();
    let filters = Filters::compile(&rule.filters, has_prefixes)
        .map_err(|unservable| place.unservable(unservable))?;
    let mut backend_filters = Vec::with_capacity(rule.backends.len());
    for (index, backend) in rule.backends.iter().enumerate() {
        let compiled = Filters::compile(&backend.filters, has_prefixes);
        backend_filters.push(compiled.map_err(|Unservable { part, reason }| {
            place.refuse(&format!("backendRefs[{index}].{part}"), reason)
        })?);
    }
    let retry = rule.retry.as_ref().map(RetryPolicy::compile).transpose();
    let retry = retry.map_err(|unservable| place.unservable(unservable))?.map(Arc::new);
    check_session(&place, rule)?;
    let fault =
        CompiledFault::compile(&rule.fault).map_err(|unservable| place.unservable(unservable))?;
    Ok(CompiledRule { filters, backend_filters, retry, fault, condition })
}

/// A session's header is read from requests and written to responses, as a filter could.
fn check_session(place: &Place, rule: &HttpRule) -> Result<(), RouteRefused> {
    const PART: &str = "sessionPersistence.sessionName";
    let Some(session) = &rule.session else { return Ok(()) };
    match session.kind {
        SessionKind::SessionCookie | SessionKind::PermanentCookie => Ok(()),
        SessionKind::Header => match compile_name(&session.name, PART) {
            Ok(name) if name == HOST => {
                Err(place.refuse(PART, format!("{name} is whom a request is for")))
            }
            Ok(_name) => Ok(()),
            Err(unservable) => Err(place.unservable(unservable)),
        },
    }
}

#[cfg(test)]
mod tests;
