//! The conditions of one rule: hosts and matches. Compiling refuses what a condition cannot mean; matching is a
//! pure function of the request's head. Source: Gateway API v1, HTTPRouteMatch.

use heddle_model::route::{
    Hostname, HttpMatch, NamedMatch, PathMatch, REGEX_LIMIT_BYTES, ValueMatch,
};
use http::header::{HeaderMap, HeaderName};
use http::{Method, Request};
use regex::bytes::{Regex, RegexBuilder};

use crate::{host, query};

/// Hosts and matches, ready to be used.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Any of them; empty: every host.
    hostnames: Vec<Hostname>,
    /// Any of them; empty: every request.
    matches: Vec<CompiledMatch>,
}

/// A condition that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {reason}")]
pub struct Unmatchable {
    /// Where in the rule, such as `matches[0].path.value`.
    pub part: String,
    /// Why, and what would do.
    pub reason: String,
}

impl Condition {
    /// Refuses the first match that means nothing.
    pub fn compile(hostnames: &[Hostname], matches: &[HttpMatch]) -> Result<Self, Unmatchable> {
        let compiled = matches
            .iter()
            .enumerate()
            .map(|(index, found)| compile_match(&format!("matches[{index}]"), found))
            .collect::<Result<_, _>>()?;
        Ok(Self { hostnames: hostnames.to_vec(), matches: compiled })
    }

    /// Whether a request is meant: it is for one of the hosts, and any of the matches holds.
    pub fn holds<B>(&self, request: &Request<B>) -> bool {
        self.is_for_host(request)
            && (self.matches.is_empty() || self.matches.iter().any(|found| found.matches(request)))
    }

    /// Whether a request is for one of the hosts.
    pub fn is_for_host<B>(&self, request: &Request<B>) -> bool {
        if self.hostnames.is_empty() {
            return true;
        }
        let host = host::of(request);
        self.hostnames.iter().any(|hostname| hostname.matches(host))
    }

    /// Whether every request with a path is meant, whatever else is in its head.
    pub fn is_always(&self) -> bool {
        let any = self.matches.is_empty() || self.matches.iter().any(CompiledMatch::is_always);
        self.hostnames.is_empty() && any
    }

    /// Whether all matches are by a prefix of the path, which can be replaced then.
    pub fn is_by_prefix(&self) -> bool {
        self.matches.iter().all(|found| found.prefix().is_some())
    }

    /// The longest prefix by which a request matches, without a slash at its end.
    pub fn prefix<B>(&self, request: &Request<B>) -> Option<&str> {
        if self.matches.is_empty() {
            return Some("");
        }
        let holding = self.matches.iter().filter(|found| found.matches(request));
        holding.filter_map(CompiledMatch::prefix).max_by_key(|prefix| prefix.len())
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

    fn is_always(&self) -> bool {
        self.method.is_none()
            && self.headers.is_empty()
            && self.query_parameters.is_empty()
            && self.prefix() == Some("")
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

fn refuse(part: String, reason: String) -> Unmatchable {
    Unmatchable { part, reason }
}

fn compile_match(part: &str, found: &HttpMatch) -> Result<CompiledMatch, Unmatchable> {
    let path = match &found.path {
        None => None,
        Some(path) => Some(
            compile_path(path).map_err(|reason| refuse(format!("{part}.path.value"), reason))?,
        ),
    };
    let method = match &found.method {
        None => None,
        Some(method) => Some(Method::from_bytes(method.as_bytes()).map_err(|_invalid| {
            refuse(
                format!("{part}.method"),
                format!("{method:?} is not a method; want one such as GET"),
            )
        })?),
    };
    let mut headers: Vec<(HeaderName, CompiledValue)> = Vec::new();
    for (index, NamedMatch { name, value }) in found.headers.iter().enumerate() {
        let part = format!("{part}.headers[{index}]");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_invalid| {
            refuse(format!("{part}.name"), format!("{name:?} is not a header's name"))
        })?;
        let value =
            compile_value(value).map_err(|reason| refuse(format!("{part}.value"), reason))?;
        // Of several that name one header in any case, the first counts.
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, value));
        }
    }
    let mut query_parameters: Vec<(String, CompiledValue)> = Vec::new();
    for (index, NamedMatch { name, value }) in found.query_parameters.iter().enumerate() {
        let value = compile_value(value)
            .map_err(|reason| refuse(format!("{part}.queryParams[{index}].value"), reason))?;
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
