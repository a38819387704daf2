//! Which of several matches counts when a request fits more than one.
//!
//! As the Gateway API has it. First the hostname: an exact one before a pattern, then the longer one.
//! Then, for HTTPRoute: the exact path, the longest path prefix, a method, the most headers, the most
//! query parameters; for GRPCRoute: the longest service, the longest method, the most headers. Then the
//! oldest route, the first route by name, the first rule, the first match.
//!
//! The Gateway API leaves regular expressions on paths to the implementation: here they come after exact
//! paths and before prefixes, longer ones first, since behind a prefix of `/` they could never count.

use std::cmp::Reverse;

use heddle_model::route::{Hostname, HttpMatch, PathMatch};

use crate::translate::Seniority;
use crate::translate::http_route::{HttpRoute, Match, Rule};

/// How special a match is; of two that fit, the greater one counts. Those of HTTPRoutes and of GRPCRoutes
/// are never compared, since one port of a service has routes of one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity([usize; 5]);

impl Specificity {
    /// Of a match of an HTTPRoute.
    pub fn of_http(condition: &HttpMatch) -> Self {
        let (path_kind, path_length) = match &condition.path {
            Some(PathMatch::Exact(path)) => (3, path.len()),
            Some(PathMatch::Regex(path)) => (2, path.len()),
            Some(PathMatch::Prefix(path)) => (1, path.len()),
            None => (0, 0),
        };
        let method = usize::from(condition.method.is_some());
        Self([
            path_kind,
            path_length,
            method,
            condition.headers.len(),
            condition.query_parameters.len(),
        ])
    }

    /// Of a match of a GRPCRoute: the lengths of what is said of service and method, and how many
    /// headers.
    pub fn of_grpc(service: usize, method: usize, headers: usize) -> Self {
        Self([service, method, headers, 0, 0])
    }
}

/// One match of one rule, for some of its route's hostnames.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Any of these; empty: every one.
    pub hostnames: Vec<&'a Hostname>,
    /// The match.
    pub one_match: &'a Match,
    /// Its place in the rule.
    pub match_index: usize,
    /// Its rule.
    pub rule: &'a Rule,
    /// The rule's route.
    pub route: &'a HttpRoute,
}

/// Every match of every rule, the one that counts first before the others. A match whose route has
/// hostnames of several lengths is there once for each, since other routes may come between them.
pub fn in_order<'a>(routes: &[&'a HttpRoute]) -> Vec<Candidate<'a>> {
    let mut all: Vec<(Rank<'a>, Candidate<'a>)> = Vec::new();
    for route in routes {
        for (host, hostnames) in by_rank(&route.hostnames) {
            for (rule_index, rule) in route.rules.iter().enumerate() {
                for (match_index, one_match) in rule.matches.iter().enumerate() {
                    let rank = Rank {
                        host,
                        specificity: Reverse(one_match.specificity),
                        seniority: &route.seniority,
                        rule_index,
                        match_index,
                    };
                    let hostnames = hostnames.clone();
                    all.push((rank, Candidate { hostnames, one_match, match_index, rule, route }));
                }
            }
        }
    }
    all.sort_by(|(left, _), (right, _)| left.cmp(right));
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    host: HostRank,
    specificity: Reverse<Specificity>,
    seniority: &'a Seniority,
    rule_index: usize,
    match_index: usize,
}

/// Which of several hostnames that fit counts: the lesser one.
pub type HostRank = (u8, Reverse<usize>);

/// The place of one hostname among others; `None`: of every host.
pub fn host_rank(hostname: Option<&Hostname>) -> HostRank {
    match hostname {
        Some(Hostname::Exact(name)) => (0, Reverse(name.len())),
        Some(Hostname::Below(parent)) => (1, Reverse(parent.len())),
        None => (2, Reverse(0)),
    }
}

/// Hostnames, those of one rank together; of none, that of every host.
pub fn by_rank(hostnames: &[Hostname]) -> Vec<(HostRank, Vec<&Hostname>)> {
    if hostnames.is_empty() {
        return vec![(host_rank(None), Vec::new())];
    }
    let mut found: Vec<(HostRank, Vec<&Hostname>)> = Vec::new();
    for hostname in hostnames {
        let rank = host_rank(Some(hostname));
        match found.iter_mut().find(|(known, _)| *known == rank) {
            Some((_, group)) => group.push(hostname),
            None => found.push((rank, vec![hostname])),
        }
    }
    found
}

#[cfg(test)]
mod tests;
