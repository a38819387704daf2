//! The matches of HTTPRoutes.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType,
    HttpRouteRulesMatchesMethod, HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType,
    HttpRouteRulesMatchesQueryParamsType,
};
use heddle_model::route::{HttpMatch, NamedMatch, PathMatch, ValueMatch};

use super::Match;
use crate::translate::precedence::Specificity;
use crate::translate::{Rejected, expression, header_name};

/// Reads a match that is written at `field`.
pub(super) fn translate(one: &HttpRouteRulesMatches, field: &str) -> Result<Match, Rejected> {
    let path = one.path.as_ref().map(|path| self::path(path, field)).transpose()?;
    Ok(Match::of_http(HttpMatch {
        path: Some(path.unwrap_or_else(every_path)),
        headers: headers(one.headers.as_deref().unwrap_or_default(), field)?,
        query_parameters: query_parameters(one, field)?,
        method: one.method.as_ref().map(|method| method_name(method).to_owned()),
    }))
}

/// What a rule without matches has.
pub(super) fn every() -> Match {
    Match::of_http(HttpMatch { path: Some(every_path()), ..HttpMatch::default() })
}

impl Match {
    /// With the precedence that HTTPRoutes have.
    pub fn of_http(condition: HttpMatch) -> Self {
        Self { specificity: Specificity::of_http(&condition), condition }
    }
}

/// Reads conditions on headers.
pub(in crate::translate) fn headers(
    headers: &[HttpRouteRulesMatchesHeaders],
    field: &str,
) -> Result<Vec<NamedMatch>, Rejected> {
    let mut found: Vec<NamedMatch> = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        let field = format!("{field}.headers[{index}]");
        let name = header_name::checked(&header.name, || format!("{field}.name"))?;
        let value = header.value.clone();
        let value = match header.r#type {
            None | Some(HttpRouteRulesMatchesHeadersType::Exact) => ValueMatch::Exact(value),
            Some(HttpRouteRulesMatchesHeadersType::RegularExpression) => {
                expression::check(&value, &format!("{field}.value"))?;
                ValueMatch::Regex(value)
            }
        };
        // Of several conditions on one name only the first counts, says the Gateway API.
        if found.iter().all(|known| !known.name.eq_ignore_ascii_case(&header.name)) {
            found.push(NamedMatch { name, value });
        }
    }
    Ok(found)
}

fn query_parameters(one: &HttpRouteRulesMatches, field: &str) -> Result<Vec<NamedMatch>, Rejected> {
    let mut found: Vec<NamedMatch> = Vec::new();
    for (index, parameter) in one.query_params.iter().flatten().enumerate() {
        let field = format!("{field}.queryParams[{index}]");
        if parameter.name.is_empty() {
            return Err(Rejected::invalid(format!("{field}.name"), "is empty"));
        }
        let value = parameter.value.clone();
        let value = match parameter.r#type {
            None | Some(HttpRouteRulesMatchesQueryParamsType::Exact) => ValueMatch::Exact(value),
            Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
                expression::check(&value, &format!("{field}.value"))?;
                ValueMatch::Regex(value)
            }
        };
        if found.iter().all(|known| known.name != parameter.name) {
            found.push(NamedMatch { name: parameter.name.clone(), value });
        }
    }
    Ok(found)
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
            expression::check(value, &format!("{field}.path.value"))?;
            Ok(PathMatch::Regex(value.to_owned()))
        }
    }
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
