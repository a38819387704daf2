//! HTTPRoute → rules for the services it is attached to. What the mesh cannot do yet rejects the route,
//! with the field: a filter that is dropped without a word would change what requests get.
//!
//! Regular expressions are passed on as text; the proxy decides whether it can compile them.

use std::time::Duration;

use gateway_api::httproutes::{
    HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteRulesMatches,
    HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod, HttpRouteRulesMatchesPath,
    HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParamsType, HttpRouteSpec,
};
use heddle_model::names::{ObjectReference, Port, ServiceName, ServicePort};
use heddle_model::route::{HttpMatch, NamedMatch, PathMatch, Timeouts, ValueMatch};

use crate::source::Custom;
use crate::translate::{Rejected, Seniority};

/// Rules for the services that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The route.
    pub reference: ObjectReference,
    /// Decides between rules of several routes that match alike.
    pub seniority: Seniority,
    /// Services it is attached to; empty if it is attached to gateways only.
    pub parents: Vec<Parent>,
    /// In the order they were written.
    pub rules: Vec<Rule>,
}

/// A service that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Where it is written: `spec.parentRefs[0]`.
    pub field: String,
    /// The service.
    pub service: ServiceName,
    /// That port only; `None`: every one.
    pub port: Option<Port>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it is written: `spec.rules[2]`.
    pub field: String,
    /// At least one.
    pub matches: Vec<HttpMatch>,
    /// Where requests go.
    pub backends: Vec<Backend>,
    /// Limits on time.
    pub timeouts: Timeouts,
}

/// A backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is written: `spec.rules[0].backendRefs[1]`.
    pub field: String,
    /// What it refers to.
    pub target: BackendTarget,
    /// Its share.
    pub weight: u32,
}

/// What a backend refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTarget {
    /// A service's port, which may or may not exist.
    Service(ServicePort),
    /// Something that requests cannot be sent to, whatever exists.
    Unusable {
        /// One word in CamelCase, as the Gateway API has it.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
}

/// Reads a route.
pub fn translate(
    route: &Custom<HttpRouteSpec>,
    reference: &ObjectReference,
) -> Result<HttpRoute, Rejected> {
    let spec = &route.spec;
    if spec.hostnames.as_ref().is_some_and(|hostnames| !hostnames.is_empty()) {
        let message =
            "does not apply to routes of services, which are told apart by address; remove it";
        return Err(Rejected::unsupported("spec.hostnames", message));
    }
    let parents = spec.parent_refs.iter().flatten().enumerate();
    let parents = parents
        .filter_map(|(index, parent)| self::parent(parent, reference, index).transpose())
        .collect::<Result<_, _>>()?;
    let rules = spec.rules.iter().flatten().enumerate();
    let rules: Vec<Rule> = rules
        .map(|(index, rule)| self::rule(rule, reference, format!("spec.rules[{index}]")))
        .collect::<Result<_, _>>()?;
    if rules.iter().map(|rule| rule.matches.len()).sum::<usize>() > MATCHES_LIMIT {
        let message = format!("has more than {MATCHES_LIMIT} matches: split the route");
        return Err(Rejected::invalid("spec.rules", message));
    }
    Ok(HttpRoute {
        reference: reference.clone(),
        seniority: Seniority::new(&route.metadata, reference),
        parents,
        rules,
    })
}

/// `None`: attached to something that is not of the mesh, such as a Gateway.
fn parent(
    parent: &HttpRouteParentRefs,
    route: &ObjectReference,
    index: usize,
) -> Result<Option<Parent>, Rejected> {
    let field = format!("spec.parentRefs[{index}]");
    if parent.kind.as_deref() != Some("Service") || !is_core(parent.group.as_deref()) {
        return Ok(None);
    }
    let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
    if namespace != route.namespace {
        let message = format!(
            "a route for a service of another namespace cannot be served yet (want {:?})",
            route.namespace
        );
        return Err(Rejected::unsupported(format!("{field}.namespace"), message));
    }
    if parent.section_name.is_some() {
        let message = "ports of services are told apart by number: use port";
        return Err(Rejected::unsupported(format!("{field}.sectionName"), message));
    }
    let port = parent.port.map(|port| checked_port(port, &field)).transpose()?;
    let service = ServiceName { namespace: namespace.to_owned(), name: parent.name.clone() };
    Ok(Some(Parent { field, service, port }))
}

fn rule(rule: &HttpRouteRules, route: &ObjectReference, field: String) -> Result<Rule, Rejected> {
    if let Some(filter) = rule.filters.iter().flatten().next() {
        let message = format!("{:?} cannot be served yet; remove it", filter.r#type);
        return Err(Rejected::unsupported(format!("{field}.filters[0].type"), message));
    }
    let backends = rule.backend_refs.iter().flatten().enumerate();
    let backends = backends
        .map(|(index, backend)| {
            self::backend(backend, route, format!("{field}.backendRefs[{index}]"))
        })
        .collect::<Result<_, _>>()?;
    let matches = rule.matches.iter().flatten().enumerate();
    let mut matches: Vec<HttpMatch> = matches
        .map(|(index, one)| self::one_match(one, &format!("{field}.matches[{index}]")))
        .collect::<Result<_, _>>()?;
    if matches.is_empty() {
        matches.push(HttpMatch { path: Some(every_path()), ..HttpMatch::default() });
    }
    Ok(Rule { matches, backends, timeouts: timeouts(rule, &field)?, field })
}

fn backend(
    backend: &HttpRouteRulesBackendRefs,
    route: &ObjectReference,
    field: String,
) -> Result<Backend, Rejected> {
    if let Some(filter) = backend.filters.iter().flatten().next() {
        let message = format!("{:?} cannot be served yet; remove it", filter.r#type);
        return Err(Rejected::unsupported(format!("{field}.filters[0].type"), message));
    }
    let weight = backend.weight.unwrap_or(1);
    let weight = u32::try_from(weight).ok().filter(|weight| *weight <= WEIGHT_LIMIT);
    let weight = weight.ok_or_else(|| {
        let message = format!(
            "{} will not do (want 0 to {WEIGHT_LIMIT})",
            backend.weight.unwrap_or_default()
        );
        Rejected::invalid(format!("{field}.weight"), message)
    })?;
    let kind = backend.kind.as_deref().unwrap_or("Service");
    let namespace = backend.namespace.as_deref().unwrap_or(&route.namespace);
    let target = if kind != "Service" || !is_core(backend.group.as_deref()) {
        BackendTarget::Unusable {
            reason: "InvalidKind",
            message: format!("{kind} is no backend of the mesh (want Service)"),
        }
    } else if namespace != route.namespace {
        BackendTarget::Unusable {
            reason: "RefNotPermitted",
            message: format!(
                "a service of another namespace needs a ReferenceGrant, which is not read yet (want {:?})",
                route.namespace
            ),
        }
    } else {
        let port = backend.port.ok_or_else(|| {
            Rejected::invalid(
                format!("{field}.port"),
                "is missing; a service is called by its port",
            )
        })?;
        BackendTarget::Service(ServicePort {
            service: ServiceName { namespace: namespace.to_owned(), name: backend.name.clone() },
            port: checked_port(port, &field)?,
        })
    };
    Ok(Backend { field, target, weight })
}

fn one_match(one: &HttpRouteRulesMatches, field: &str) -> Result<HttpMatch, Rejected> {
    let mut headers: Vec<NamedMatch> = Vec::new();
    for header in one.headers.iter().flatten() {
        let value = header.value.clone();
        let value = match header.r#type {
            None | Some(HttpRouteRulesMatchesHeadersType::Exact) => ValueMatch::Exact(value),
            Some(HttpRouteRulesMatchesHeadersType::RegularExpression) => ValueMatch::Regex(value),
        };
        // Of several conditions on one name only the first counts, says the Gateway API.
        if headers.iter().all(|known| !known.name.eq_ignore_ascii_case(&header.name)) {
            headers.push(NamedMatch { name: header.name.clone(), value });
        }
    }
    let mut query_parameters: Vec<NamedMatch> = Vec::new();
    for parameter in one.query_params.iter().flatten() {
        let value = parameter.value.clone();
        let value = match parameter.r#type {
            None | Some(HttpRouteRulesMatchesQueryParamsType::Exact) => ValueMatch::Exact(value),
            Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
                ValueMatch::Regex(value)
            }
        };
        if query_parameters.iter().all(|known| known.name != parameter.name) {
            query_parameters.push(NamedMatch { name: parameter.name.clone(), value });
        }
    }
    let path = one.path.as_ref().map(|path| self::path(path, field)).transpose()?;
    Ok(HttpMatch {
        path: Some(path.unwrap_or_else(every_path)),
        headers,
        query_parameters,
        method: one.method.as_ref().map(|method| method_name(method).to_owned()),
    })
}

fn path(path: &HttpRouteRulesMatchesPath, field: &str) -> Result<PathMatch, Rejected> {
    let value = path.value.as_deref().unwrap_or("/");
    let absolute = |value: &str| {
        if value.starts_with('/') {
            return Ok(value.to_owned());
        }
        let message = format!("{value:?} is not a path (want one that begins with /)");
        Err(Rejected::invalid(format!("{field}.path.value"), message))
    };
    match path.r#type {
        Some(HttpRouteRulesMatchesPathType::Exact) => Ok(PathMatch::Exact(absolute(value)?)),
        None | Some(HttpRouteRulesMatchesPathType::PathPrefix) => {
            // `/a/` and `/a` are one prefix, since prefixes are of whole path elements.
            let prefix = absolute(value)?;
            let trimmed = prefix.trim_end_matches('/');
            Ok(PathMatch::Prefix(if trimmed.is_empty() {
                "/".to_owned()
            } else {
                trimmed.to_owned()
            }))
        }
        Some(HttpRouteRulesMatchesPathType::RegularExpression) => {
            Ok(PathMatch::Regex(value.to_owned()))
        }
    }
}

fn timeouts(rule: &HttpRouteRules, field: &str) -> Result<Timeouts, Rejected> {
    let Some(timeouts) = &rule.timeouts else { return Ok(Timeouts::default()) };
    let read = |text: &Option<String>, name: &str| {
        let Some(text) = text else { return Ok(None) };
        let duration = heddle_runtime::duration::parse(text).map_err(|error| {
            Rejected::invalid(format!("{field}.timeouts.{name}"), error.to_string())
        })?;
        Ok((duration != Duration::ZERO).then_some(duration))
    };
    let request = read(&timeouts.request, "request")?;
    let backend_request = read(&timeouts.backend_request, "backendRequest")?;
    if request.zip(backend_request).is_some_and(|(request, backend)| backend > request) {
        let message = "is longer than timeouts.request, of which it is a part";
        return Err(Rejected::invalid(format!("{field}.timeouts.backendRequest"), message));
    }
    Ok(Timeouts { request, backend_request })
}

fn method_name(method: &HttpRouteRulesMatchesMethod) -> &'static str {
    match method {
        HttpRouteRulesMatchesMethod::Get => "GET",
        HttpRouteRulesMatchesMethod::Head => "HEAD",
        HttpRouteRulesMatchesMethod::Post => "POST",
        HttpRouteRulesMatchesMethod::Put => "PUT",
        HttpRouteRulesMatchesMethod::Delete => "DELETE",
        HttpRouteRulesMatchesMethod::Connect => "CONNECT",
        HttpRouteRulesMatchesMethod::Options => "OPTIONS",
        HttpRouteRulesMatchesMethod::Trace => "TRACE",
        HttpRouteRulesMatchesMethod::Patch => "PATCH",
    }
}

fn every_path() -> PathMatch {
    PathMatch::Prefix("/".to_owned())
}

fn is_core(group: Option<&str>) -> bool {
    matches!(group, None | Some("" | "core"))
}

fn checked_port(number: i32, field: &str) -> Result<Port, Rejected> {
    u16::try_from(number).ok().and_then(Port::new).ok_or_else(|| {
        let message = format!("{number} is not a port (want 1-65535)");
        Rejected::invalid(format!("{field}.port"), message)
    })
}

/// As the Gateway API has it.
const WEIGHT_LIMIT: u32 = 1_000_000;
/// The Gateway API allows 16 rules of 64 matches.
const MATCHES_LIMIT: usize = 1024;

#[cfg(test)]
mod tests;
