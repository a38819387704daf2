//! HTTPRouteGroup → which requests a TrafficSplit that names it is about.

use std::collections::BTreeSet;

use heddle_model::route::{HttpMatch, NamedMatch, PathMatch, ValueMatch};

use crate::source::http_route_group::{GroupMatch, HttpRouteGroup as Written};
use crate::translate::{Rejected, expression, header_name};

/// Which requests a group is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRouteGroup {
    /// Any of these.
    pub matches: Vec<HttpMatch>,
}

/// Reads a group.
pub fn translate(group: &Written) -> Result<HttpRouteGroup, Rejected> {
    let (field, written) = match &group.spec {
        Some(spec) => ("spec.matches", &spec.matches),
        None => ("matches", &group.matches),
    };
    let mut matches = Vec::new();
    for (index, one) in written.iter().enumerate() {
        matches.extend(one_match(one, &format!("{field}[{index}]"))?);
    }
    if matches.is_empty() {
        return Err(Rejected::invalid(field, "has no match, so that it is about no request"));
    }
    if matches.len() > MATCHES_LIMIT {
        return Err(Rejected::invalid(field, format!("has more than {MATCHES_LIMIT} matches")));
    }
    Ok(HttpRouteGroup { matches })
}

fn one_match(one: &GroupMatch, field: &str) -> Result<Vec<HttpMatch>, Rejected> {
    let mut headers: Vec<NamedMatch> = Vec::new();
    for (name, value) in &one.headers.0 {
        let place = || format!("{field}.headers");
        let name = &header_name::checked(name, place)?;
        if headers.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            return Err(Rejected::invalid(place(), format!("{name:?} is there twice")));
        }
        headers.push(NamedMatch { name: name.clone(), value: ValueMatch::Regex(value.clone()) });
    }
    let expressions = one.path_regex.iter().map(|text| ("pathRegex", text));
    for (part, text) in expressions.chain(one.headers.0.iter().map(|(_, text)| ("headers", text))) {
        expression::check(text, &format!("{field}.{part}"))?;
    }
    let condition = HttpMatch {
        path: one.path_regex.clone().map(PathMatch::Regex),
        headers,
        query_parameters: Vec::new(),
        method: None,
    };
    if one.methods.is_empty() || one.methods.iter().any(|method| method == "*") {
        return Ok(vec![condition]);
    }
    let mut found = Vec::new();
    for method in one.methods.iter().collect::<BTreeSet<_>>() {
        if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method.is_empty() {
            let message = format!("{method:?} is no method (want such as GET, or *)");
            return Err(Rejected::invalid(format!("{field}.methods"), message));
        }
        found.push(HttpMatch { method: Some(method.clone()), ..condition.clone() });
    }
    Ok(found)
}

/// As many as an HTTPRoute may have.
const MATCHES_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    fn check(version: &str, rest: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "apiVersion: specs.smi-spec.io/{version}\nkind: HTTPRouteGroup\nmetadata: {{name: g}}\n{rest}\n"
        );
        let (_, group) = read::<Written>(&text);
        let group = translate(&group).map_err(|rejected| rejected.to_string())?;
        let shown = |one: HttpMatch| {
            let path = match one.path {
                Some(PathMatch::Regex(path)) => path,
                other => format!("{other:?}"),
            };
            let headers: Vec<String> = one
                .headers
                .iter()
                .map(|header| format!("{}{:?}", header.name, header.value))
                .collect();
            format!("{} {path} {}", one.method.unwrap_or_default(), headers.join(" "))
        };
        Ok(group.matches.into_iter().map(shown).collect())
    }

    #[test]
    fn the_groups_of_every_version_are_read() {
        for (version, rest, expected) in [
            ("v1alpha1", "matches: [{name: m, pathRegex: /m, methods: [GET]}]", vec!["GET /m "]),
            (
                "v1alpha3",
                "spec: {matches: [{name: m, pathRegex: '/.*', methods: ['*']}]}",
                vec![" /.* "],
            ),
            (
                "v1alpha4",
                "spec: {matches: [{name: m, methods: [POST, GET]}]}",
                vec!["GET None ", "POST None "],
            ),
            (
                "v1alpha4",
                "spec: {matches: [{name: m, headers: [{user-agent: .*Android.*}]}]}",
                vec![" None user-agentRegex(\".*Android.*\")"],
            ),
            (
                "v1alpha4",
                "spec: {matches: [{name: m, headers: {cookie: a}}]}",
                vec![" None cookieRegex(\"a\")"],
            ),
        ] {
            assert_eq!(check(version, rest).unwrap(), expected, "case: {version} {rest}");
        }
    }

    #[test]
    fn a_group_that_means_nothing_is_refused_with_the_field() {
        for (rest, expected) in [
            ("spec: {matches: []}", "spec.matches"),
            ("spec: {matches: [{name: m, pathRegex: '(a'}]}", "spec.matches[0].pathRegex"),
            ("spec: {matches: [{name: m, headers: [{a: '*'}]}]}", "spec.matches[0].headers"),
            ("spec: {matches: [{name: m, methods: [get]}]}", "spec.matches[0].methods"),
            ("spec: {matches: [{name: m, headers: [{a: b}, {A: c}]}]}", "spec.matches[0].headers"),
        ] {
            let error = check("v1alpha4", rest).unwrap_err();
            assert!(error.starts_with(expected), "case: {rest}: {error}");
        }
    }
}
