//! Route matching, against an oracle that is written another way.
//!
//! Bytes are text of five lines: a path condition (`=`, `^` or `~` and a path), a method, a header
//! (`name:value`), a query parameter (`name=value`), and the target of a request.

use heddle_model::route::{HttpMatch, HttpRule, NamedMatch, PathMatch, RuleOrigin, ValueMatch};
use heddle_proxy::http::route::compile;
use http::{Method, Request, Uri};

/// Compiling never panics, and exact conditions mean what they say.
pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, method, header, query, target) = (line(), line(), line(), line(), line());
    let condition = HttpMatch {
        path: path_match(path),
        headers: named(header, ':'),
        query_parameters: named(query, '='),
        method: (!method.is_empty()).then(|| method.to_owned()),
    };
    let rule = HttpRule {
        matches: vec![condition.clone()],
        ..HttpRule::to(Vec::new(), RuleOrigin::ServiceDefault)
    };
    let Ok(compiled) = compile(std::slice::from_ref(&rule)) else { return };
    let Ok(target) = target.parse::<Uri>() else { return };
    let mut request = Request::new(());
    *request.uri_mut() = target;
    if let Ok(method) = method.parse::<Method>() {
        *request.method_mut() = method;
    }
    let found = compiled.iter().any(|compiled| compiled.matches(&request));
    if let Some(expected) = expected(&condition, request.uri().path()) {
        assert_eq!(found, expected, "{condition:?} of {request:?}");
    }
}

fn path_match(line: &str) -> Option<PathMatch> {
    let mut characters = line.chars();
    let kind = characters.next()?;
    let path = characters.as_str().to_owned();
    match kind {
        '=' => Some(PathMatch::Exact(path)),
        '^' => Some(PathMatch::Prefix(path)),
        '~' => Some(PathMatch::Regex(path)),
        _ => None,
    }
}

fn named(line: &str, separator: char) -> Vec<NamedMatch> {
    let named = line.split_once(separator).map(|(name, value)| NamedMatch {
        name: name.to_owned(),
        value: ValueMatch::Exact(value.to_owned()),
    });
    named.into_iter().collect()
}

/// By path elements. `None` where only the regular expression, or the query's encoding, knows.
fn expected(condition: &HttpMatch, path: &str) -> Option<bool> {
    if !condition.headers.is_empty() {
        // The request has none.
        return Some(false);
    }
    if !condition.query_parameters.is_empty() {
        return None;
    }
    match condition.path.as_ref() {
        None => Some(true),
        Some(PathMatch::Exact(exact)) => Some(path == exact),
        Some(PathMatch::Prefix(prefix)) => {
            let wanted = prefix.strip_suffix('/').unwrap_or(prefix);
            let wanted: Vec<&str> = wanted.split('/').collect();
            let asked: Vec<&str> = path.split('/').collect();
            Some(asked.starts_with(&wanted))
        }
        Some(PathMatch::Regex(_)) => None,
    }
}
