//! HTTPRoute → rules for the services it is attached to. What the mesh cannot do rejects the route, with
//! the field. What GRPCRoutes are read as is the same; see grpc_route.rs.
//!
//! Regular expressions are passed on as text. They are checked here, so that a bad one is the fault of its
//! route only; the proxy compiles them, and has the last word.

use gateway_api::experimental::httproutes::{HttpRouteRules, HttpRouteSpec};
use heddle_model::filter::{Fault, HttpFilter};
use heddle_model::names::ObjectReference;
use heddle_model::policy::SessionPersistence;
use heddle_model::route::{Hostname, HttpMatch, PathMatch, Retry, Timeouts};

use crate::source::Custom;
use crate::translate::precedence::Specificity;
use crate::translate::route::filters::{self, Filter};
use crate::translate::route::hostnames;
use crate::translate::route::{self, Backend, Parent, RuleContext};
use crate::translate::{Rejected, Seniority, fault, session};

mod attempts;
pub(super) mod matches;

/// Rules for the services that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The route.
    pub reference: ObjectReference,
    /// Decides between rules of several routes that match alike.
    pub seniority: Seniority,
    /// Any of these is the host of its requests; empty: every one.
    pub hostnames: Vec<Hostname>,
    /// Services it is attached to; empty if it is attached to gateways only.
    pub parents: Vec<Parent>,
    /// Failures made on purpose, in every rule; `None`: what the service says.
    pub fault: Option<Fault>,
    /// In the order they were written.
    pub rules: Vec<Rule>,
    /// What does not count, and does no harm.
    pub notes: Vec<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it is written: `spec.rules[2]`.
    pub field: String,
    /// At least one.
    pub matches: Vec<Match>,
    /// What is done to requests and responses.
    pub filters: Vec<Filter>,
    /// Where requests go.
    pub backends: Vec<Backend>,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// When a request is sent again.
    pub retry: Option<Retry>,
    /// How requests of one client stay with one endpoint.
    pub session: Option<SessionPersistence>,
}

/// One match of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The condition.
    pub condition: HttpMatch,
    /// Decides between several that fit one request.
    pub specificity: Specificity,
}

/// Reads a route.
pub fn translate(
    route: &Custom<HttpRouteSpec>,
    reference: &ObjectReference,
) -> Result<HttpRoute, Rejected> {
    let spec = &route.spec;
    let rules = spec.rules.iter().flatten().enumerate();
    let rules: Vec<Rule> = rules
        .map(|(index, rule)| self::rule(rule, reference, format!("spec.rules[{index}]")))
        .collect::<Result<_, _>>()?;
    check_count(&rules)?;
    let parents = route::parents(spec.parent_refs.as_ref(), reference)?;
    let all_services = spec.parent_refs.iter().flatten().count() == parents.len();
    let names = spec.hostnames.as_deref().unwrap_or_default();
    let (hostnames, note) = hostnames::of_requests(names, all_services)?;
    let (fault, fault_note) = fault::of_annotations(&route.metadata.annotations);
    Ok(HttpRoute {
        reference: reference.clone(),
        seniority: Seniority::new(&route.metadata, reference),
        hostnames,
        parents,
        fault,
        rules,
        notes: note.into_iter().chain(fault_note).collect(),
    })
}

fn rule(rule: &HttpRouteRules, route: &ObjectReference, field: String) -> Result<Rule, Rejected> {
    let matches = rule.matches.iter().flatten().enumerate();
    let mut matches: Vec<Match> = matches
        .map(|(index, one)| matches::translate(one, &format!("{field}.matches[{index}]")))
        .collect::<Result<_, _>>()?;
    if matches.is_empty() {
        matches.push(matches::every());
    }
    let matches_prefixes =
        matches.iter().all(|one| matches!(one.condition.path, Some(PathMatch::Prefix(_))));
    let context = RuleContext { route, field: &field, matches_prefixes };
    let filters = filters::of_rule(rule.filters.as_deref().unwrap_or_default(), &context)?;
    let backends = route::backends(rule.backend_refs.as_deref().unwrap_or_default(), &context)?;
    let redirects =
        filters.iter().any(|filter| matches!(filter, Filter::Settled(HttpFilter::Redirect(_))));
    if redirects && !backends.is_empty() {
        let message = "cannot be there beside a RequestRedirect, which answers every request";
        return Err(Rejected::incompatible(format!("{field}.backendRefs"), message));
    }
    let timeouts = rule.timeouts.as_ref();
    let timeouts = timeouts.map(|timeouts| attempts::timeouts(timeouts, &field)).transpose()?;
    let retry = rule.retry.as_ref();
    let retry = retry.map(|retry| attempts::retry(retry, &format!("{field}.retry"))).transpose()?;
    let session = rule.session_persistence.as_ref();
    let session = session
        .map(|session| session::translate(session, &format!("{field}.sessionPersistence")))
        .transpose()?;
    let timeouts = timeouts.unwrap_or_default();
    Ok(Rule { matches, filters, backends, timeouts, retry, session, field })
}

/// Refuses what would make more rules than a proxy should look through.
pub(super) fn check_count(rules: &[Rule]) -> Result<(), Rejected> {
    if rules.iter().map(|rule| rule.matches.len()).sum::<usize>() > MATCHES_LIMIT {
        let message = format!("has more than {MATCHES_LIMIT} matches: split the route");
        return Err(Rejected::invalid("spec.rules", message));
    }
    Ok(())
}

/// The Gateway API allows 16 rules of 64 matches.
const MATCHES_LIMIT: usize = 1024;

#[cfg(test)]
mod tests;
