//! Which rule of a service's routes a request belongs to. Compiling refuses what a rule cannot mean,
//! its filters included; matching is a pure function of the request's head. Source: Gateway API v1,
//! HTTPRouteMatch.

mod query;

use std::sync::Arc;

use heddle_model::names::ObjectReference;
use heddle_model::policy::SessionKind;
use heddle_model::route::{
    Hostname, HttpMatch, HttpRule, NamedMatch, PathMatch, REGEX_LIMIT_BYTES, RuleOrigin, ValueMatch,
};
use http::header::{HOST, HeaderMap, HeaderName};
use http::{Method, Request};
use regex::bytes::{Regex, RegexBuilder};

use crate::http::fault::CompiledFault;
use crate::http::filter::headers::compile_name;
use crate::http::filter::{self, Filters, Unservable};
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
    /// Any of them; empty: every host.
    hostnames: Vec<Hostname>,
    /// Any of them; empty: every request.
    matches: Vec<CompiledMatch>,
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
        self.is_for(request)
            && (self.matches.is_empty() || self.matches.iter().any(|found| found.matches(request)))
    }

    /// The prefix that filters may replace, if one of them does.
    pub fn prefix_to_replace<B>(&self, request: &Request<B>) -> Option<&str> {
        let uses_prefix =
            self.filters.uses_prefix() || self.backend_filters.iter().any(Filters::uses_prefix);
        if uses_prefix { self.prefix(request) } else { None }
    }

    /// The longest prefix by which a request matches, without a slash at its end.
    fn prefix<B>(&self, request: &Request<B>) -> Option<&str> {
        if self.matches.is_empty() {
            return Some("");
        }
        let holding = self.matches.iter().filter(|found| found.matches(request));
        holding.filter_map(CompiledMatch::prefix).max_by_key(|prefix| prefix.len())
    }

    fn is_for<B>(&self, request: &Request<B>) -> bool {
        if self.hostnames.is_empty() {
            return true;
        }
        let host = filter::host(request);
        self.hostnames.iter().any(|hostname| hostname.matches(host))
    }
}

#[derive(Clone, Debug)]
struct CompiledMatch {
    path: Option<CompiledPath>,
    headers: Vec<(HeaderName, CompiledValue)>,
    query_parameters: Vec<(String, CompiledValue)>,
    method: Option<Method>,
}

#[derive(Clone, Debug)]
enum CompiledPath {
    Exact(String),
    /// Without a slash at its end.
    Prefix(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
enum CompiledValue {
    Exact(Vec<u8>),
    Regex(Regex),
}

impl CompiledMatch {
    /// A match without a path is one by the prefix that all paths have.
    fn prefix(&self) -> Option<&str> {
        match &self.path {
            None => Some(""),
            Some(CompiledPath::Prefix(prefix)) => Some(prefix),
            Some(CompiledPath::Exact(_) | CompiledPath::Regex(_)) => None,
        }
    }

    fn matches<B>(&self, request: &Request<B>) -> bool {
        self.method.as_ref().is_none_or(|method| method == request.method())
            && self.path.as_ref().is_none_or(|path| path.matches(request.uri().path()))
            && self
                .headers
                .iter()
                .all(|(name, value)| header_matches(request.headers(), name, value))
            && self.query_parameters.iter().all(|(name, value)| {
                query::first(request.uri().query().unwrap_or_default(), name)
                    .is_some_and(|found| value.matches(&found))
            })
    }
}

impl CompiledPath {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }
}

impl CompiledValue {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => value == exact.as_slice(),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A header that comes several times is one with all values, joined by commas (RFC 9110, 5.3).
fn header_matches(headers: &HeaderMap, name: &HeaderName, expected: &CompiledValue) -> bool {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return false };
    match values.next() {
        None => expected.matches(first.as_bytes()),
        Some(_) => {
            let all: Vec<&[u8]> =
                headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
            expected.matches(&all.join(&b","[..]))
        }
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
    let matches: Vec<CompiledMatch> = rule
        .matches
        .iter()
        .enumerate()
        .map(|(index, found)| compile_match(&place, &format!("matches[{index}]"), found))
        .collect::<Result<_, _>>()?;
    let has_prefixes = matches.iter().all(|found| found.prefix().is_some());
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
    let hostnames = rule.hostnames.clone();
    Ok(CompiledRule { filters, backend_filters, retry, fault, hostnames, matches })
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

fn compile_match(
    place: &Place,
    part: &str,
    found: &HttpMatch,
) -> Result<CompiledMatch, RouteRefused> {
    let path = match &found.path {
        None => None,
        Some(path) => Some(
            compile_path(path)
                .map_err(|reason| place.refuse(&format!("{part}.path.value"), reason))?,
        ),
    };
    let method = match &found.method {
        None => None,
        Some(method) => Some(Method::from_bytes(method.as_bytes()).map_err(|_invalid| {
            place.refuse(
                &format!("{part}.method"),
                format!("{method:?} is not a method; want one such as GET"),
            )
        })?),
    };
    let mut headers: Vec<(HeaderName, CompiledValue)> = Vec::new();
    for (index, NamedMatch { name, value }) in found.headers.iter().enumerate() {
        let part = format!("{part}.headers[{index}]");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_invalid| {
            place.refuse(&format!("{part}.name"), format!("{name:?} is not a header's name"))
        })?;
        let value = compile_value(value)
            .map_err(|reason| place.refuse(&format!("{part}.value"), reason))?;
        // Of several that name one header in any case, the first counts.
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, value));
        }
    }
    let mut query_parameters: Vec<(String, CompiledValue)> = Vec::new();
    for (index, NamedMatch { name, value }) in found.query_parameters.iter().enumerate() {
        let value = compile_value(value).map_err(|reason| {
            place.refuse(&format!("{part}.queryParams[{index}].value"), reason)
        })?;
        if !query_parameters.iter().any(|(known, _)| known == name) {
            query_parameters.push((name.clone(), value));
        }
    }
    Ok(CompiledMatch { path, headers, query_parameters, method })
}

fn compile_path(path: &PathMatch) -> Result<CompiledPath, String> {
    let absolute = |text: &str| match text.starts_with('/') {
        true => Ok(()),
        false => Err(format!("{text:?} does not begin with a slash; want one such as /a")),
    };
    match path {
        PathMatch::Exact(exact) => {
            absolute(exact)?;
            Ok(CompiledPath::Exact(exact.clone()))
        }
        PathMatch::Prefix(prefix) => {
            absolute(prefix)?;
            // "/a/" means the same as "/a", and "/" has nothing in front of its slash.
            Ok(CompiledPath::Prefix(prefix.strip_suffix('/').unwrap_or(prefix).to_owned()))
        }
        PathMatch::Regex(regex) => compile_regex(regex).map(CompiledPath::Regex),
    }
}

fn compile_value(value: &ValueMatch) -> Result<CompiledValue, String> {
    match value {
        ValueMatch::Exact(exact) => Ok(CompiledValue::Exact(exact.clone().into_bytes())),
        ValueMatch::Regex(regex) => compile_regex(regex).map(CompiledValue::Regex),
    }
}

/// Matches the whole text. The expression is compiled as it is, too, since putting it between
/// anchors could make a valid one of an invalid one, such as `a)|(b`.
fn compile_regex(text: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_LIMIT_BYTES)
            .dfa_size_limit(REGEX_LIMIT_BYTES)
            .build()
            .map_err(|error| {
                if let regex::Error::CompiledTooBig(limit) = error {
                    return format!("{text:?} takes more than {limit} bytes; simplify it");
                }
                // The last line names the fault; those before it draw where it is.
                let error = error.to_string();
                let fault = error.lines().last().unwrap_or_default();
                let fault = fault.strip_prefix("error: ").unwrap_or(fault);
                format!("{text:?} is not a regular expression (syntax of RE2): {fault}")
            })
    };
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

#[cfg(test)]
mod tests;
