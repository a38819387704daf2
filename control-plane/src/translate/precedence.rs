//! Which of several matches counts when a request fits more than one.
//!
//! As the Gateway API has it for HTTPRoute: the exact path, the longest path prefix, a method, the most
//! headers, the most query parameters, the oldest route, the first route by name, the first rule. It
//! leaves regular expressions on paths to the implementation: here they come after exact paths and
//! before prefixes, longer ones first, since behind a prefix of `/` they could never count.

use std::cmp::Reverse;

use heddle_model::names::ObjectReference;
use heddle_model::route::{HttpMatch, PathMatch};

use crate::translate::Seniority;
use crate::translate::http_route::{HttpRoute, Rule};

/// One match of one rule.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The match.
    pub http_match: &'a HttpMatch,
    /// Its rule.
    pub rule: &'a Rule,
    /// The rule's route.
    pub route: &'a ObjectReference,
}

/// Every match of every rule, the one that counts first before the others.
pub fn in_order<'a>(routes: &[&'a HttpRoute]) -> Vec<Candidate<'a>> {
    let mut all: Vec<(Rank<'a>, Candidate<'a>)> = Vec::new();
    for route in routes {
        for (rule_index, rule) in route.rules.iter().enumerate() {
            for http_match in &rule.matches {
                let rank = rank(http_match, &route.seniority, rule_index);
                all.push((rank, Candidate { http_match, rule, route: &route.reference }));
            }
        }
    }
    all.sort_by(|(left, _), (right, _)| left.cmp(right));
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    path_kind: u8,
    path_length: Reverse<usize>,
    no_method: bool,
    headers: Reverse<usize>,
    query_parameters: Reverse<usize>,
    seniority: &'a Seniority,
    rule_index: usize,
}

fn rank<'a>(http_match: &HttpMatch, seniority: &'a Seniority, rule_index: usize) -> Rank<'a> {
    let (path_kind, path_length) = match &http_match.path {
        Some(PathMatch::Exact(path)) => (0, path.len()),
        Some(PathMatch::Regex(path)) => (1, path.len()),
        Some(PathMatch::Prefix(path)) => (2, path.len()),
        None => (3, 0),
    };
    Rank {
        path_kind,
        path_length: Reverse(path_length),
        no_method: http_match.method.is_none(),
        headers: Reverse(http_match.headers.len()),
        query_parameters: Reverse(http_match.query_parameters.len()),
        seniority,
        rule_index,
    }
}
