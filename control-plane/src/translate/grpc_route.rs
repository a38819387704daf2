//! GRPCRoute → rules for the services it is attached to. gRPC is HTTP: `/service/method`, called with POST.

use gateway_api::experimental::grpcroutes::{
    GrpcRouteRules, GrpcRouteRulesMatches, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType, GrpcRouteSpec,
};
use heddle_model::names::ObjectReference;
use heddle_model::route::{HttpMatch, PathMatch, Timeouts};

use crate::source::Custom;
use crate::translate::http_route::{self, HttpRoute, Match, Rule};
use crate::translate::precedence::Specificity;
use crate::translate::route::filters;
use crate::translate::route::hostnames;
use crate::translate::route::{self, RuleContext, alike};
use crate::translate::{Rejected, Seniority, expression, fault, session};

/// Reads a route.
pub fn translate(
    route: &Custom<GrpcRouteSpec>,
    reference: &ObjectReference,
) -> Result<HttpRoute, Rejected> {
    let spec = &route.spec;
    let rules = spec.rules.iter().flatten().enumerate();
    let rules: Vec<Rule> = rules
        .map(|(index, rule)| self::rule(rule, reference, format!("spec.rules[{index}]")))
        .collect::<Result<_, _>>()?;
    http_route::check_count(&rules)?;
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

fn rule(rule: &GrpcRouteRules, route: &ObjectReference, field: String) -> Result<Rule, Rejected> {
    let context = RuleContext { route, field: &field, matches_prefixes: false };
    let mut matches = Vec::new();
    for (index, one) in rule.matches.iter().flatten().enumerate() {
        matches.push(one_match(one, &format!("{field}.matches[{index}]"))?);
    }
    if matches.is_empty() {
        matches.push(one_match(&GrpcRouteRulesMatches::default(), &field)?);
    }
    let mut filters = Vec::new();
    for (index, filter) in rule.filters.iter().flatten().enumerate() {
        filters.push(alike(filter, &format!("{field}.filters[{index}]"))?);
    }
    let filters = filters::of_rule(&filters, &context)?;
    let backends = route::backends(rule.backend_refs.as_deref().unwrap_or_default(), &context)?;
    let session = rule.session_persistence.as_ref();
    let session = session
        .map(|session| {
            let field = format!("{field}.sessionPersistence");
            session::translate(&alike(session, &field)?, &field)
        })
        .transpose()?;
    let timeouts = Timeouts::default();
    Ok(Rule { matches, filters, backends, timeouts, retry: None, session, field })
}

fn one_match(one: &GrpcRouteRulesMatches, field: &str) -> Result<Match, Rejected> {
    let mut headers = Vec::new();
    for (index, header) in one.headers.iter().flatten().enumerate() {
        headers.push(alike(header, &format!("{field}.headers[{index}]"))?);
    }
    let headers = http_route::matches::headers(&headers, field)?;
    let none = GrpcRouteRulesMatchesMethod::default();
    let method = one.method.as_ref().unwrap_or(&none);
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let specificity =
        Specificity::of_grpc(length(&method.service), length(&method.method), headers.len());
    let path = one.method.as_ref().map(|method| path(method, &format!("{field}.method")));
    let condition = HttpMatch {
        path: Some(path.transpose()?.unwrap_or_else(|| PathMatch::Prefix("/".to_owned()))),
        headers,
        query_parameters: Vec::new(),
        method: Some("POST".to_owned()),
    };
    Ok(Match { condition, specificity })
}

fn path(method: &GrpcRouteRulesMatchesMethod, field: &str) -> Result<PathMatch, Rejected> {
    use GrpcRouteRulesMatchesMethodType as Type;

    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, name) = (set(&method.service), set(&method.method));
    match method.r#type {
        None | Some(Type::Exact) => {
            for (part, text) in [("service", &service), ("method", &name)] {
                if text.as_ref().is_some_and(|text| !is_name(text, part)) {
                    let message = format!("is no name of a {part}, such as proto has it");
                    return Err(Rejected::invalid(format!("{field}.{part}"), message));
                }
            }
            match (service, name) {
                (Some(service), Some(name)) => Ok(PathMatch::Exact(format!("/{service}/{name}"))),
                (Some(service), None) => Ok(PathMatch::Prefix(format!("/{service}"))),
                (None, Some(name)) => {
                    Ok(PathMatch::Regex(format!("/[^/]+/{}", regex::escape(&name))))
                }
                (None, None) => Err(neither(field)),
            }
        }
        Some(Type::RegularExpression) => {
            if service.is_none() && name.is_none() {
                return Err(neither(field));
            }
            let service = part(service, &format!("{field}.service"))?;
            let name = part(name, &format!("{field}.method"))?;
            let path = format!("/{service}/{name}");
            expression::check(&path, field)?;
            Ok(PathMatch::Regex(path))
        }
    }
}

fn neither(field: &str) -> Rejected {
    Rejected::invalid(field, "names neither a service nor a method")
}

/// Put between others; a text that were no expression by itself, such as `a)|(b`, might become one there.
fn part(text: Option<String>, field: &str) -> Result<String, Rejected> {
    let Some(text) = text else { return Ok("[^/]+".to_owned()) };
    expression::check(&text, field)?;
    Ok(format!("(?:{text})"))
}

/// As the Gateway API has it: identifiers, of a service with dots between them.
fn is_name(text: &str, part: &str) -> bool {
    let is_identifier = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match part {
        "service" => text.split('.').all(is_identifier),
        _ => is_identifier(text),
    }
}

#[cfg(test)]
mod tests;
