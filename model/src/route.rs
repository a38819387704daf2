//! Routes: rules that send requests and connections to weighted backends. What is done to a request
//! on its way is in filter.rs. Regular expressions are kept as text; the proxy compiles them and
//! refuses what does not compile.

use std::time::Duration;

use crate::filter::{Fault, HttpFilter};
use crate::names::{ObjectReference, ServicePort};
use crate::policy::SessionPersistence;

/// One rule of a route for HTTP requests, those of gRPC among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Any of these selects the request's host; empty means every host.
    pub hostnames: Vec<Hostname>,
    /// Any of these selects the rule; empty means every request.
    pub matches: Vec<HttpMatch>,
    /// What is done to a request, and to its response, whichever backend is picked; in this order.
    pub filters: Vec<HttpFilter>,
    /// Where requests go. Empty, or all weights zero: the answer is 500, as the Gateway API has it,
    /// unless a filter answers.
    pub backends: Vec<HttpBackend>,
    /// The share of backends that do not exist; it is answered with 500, too.
    pub missing_weight: u32,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// When a request is sent again; `None`: only when nothing of it can have been processed.
    pub retry: Option<Retry>,
    /// How requests of one client stay with one endpoint; `None`: as the backend's policy has it.
    pub session: Option<SessionPersistence>,
    /// Failures made on purpose.
    pub fault: Fault,
    /// The object the rule came from.
    pub origin: RuleOrigin,
}

impl HttpRule {
    /// A rule that sends every request to these, and does nothing else.
    pub fn to(backends: Vec<HttpBackend>, origin: RuleOrigin) -> Self {
        Self {
            hostnames: Vec::new(),
            matches: Vec::new(),
            filters: Vec::new(),
            backends,
            missing_weight: 0,
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
            fault: Fault::default(),
            origin,
        }
    }

    /// Everything that the rule may send a request to, mirrors included.
    pub fn targets(&self) -> impl Iterator<Item = &ServicePort> {
        self.filters
            .iter()
            .chain(self.backends.iter().flat_map(|backend| &backend.filters))
            .filter_map(HttpFilter::target)
            .chain(self.backends.iter().map(|backend| &backend.backend))
    }
}

/// A backend of requests, its share, and what is done to the requests that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBackend {
    /// What requests are sent to.
    pub backend: ServicePort,
    /// Its part of the sum of all weights; zero gets nothing.
    pub weight: u32,
    /// Applied after the rule's own, to what is sent to this backend only.
    pub filters: Vec<HttpFilter>,
}

/// When a request is sent again, beside what is always: a connection that could not be made.
///
/// Only what may be replayed is, with a body that was kept whole: what was answered with one of these
/// codes, since who names a code says so; and what was lost or took too long, by its method (RFC 9110,
/// section 9.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Status codes of responses that are tried again, 400 to 599.
    pub codes: Vec<u16>,
    /// How often at most, after the first attempt.
    pub attempts: u32,
    /// The least wait before another attempt; it doubles with each, with jitter. Zero: at once.
    pub backoff: Duration,
}

/// A rule for connections that are carried as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRule {
    /// Where connections go. Empty, or all weights zero: they are reset.
    pub backends: Vec<WeightedBackend>,
    /// The share of backends that do not exist; it is reset.
    pub missing_weight: u32,
    /// The object the rule came from.
    pub origin: RuleOrigin,
}

/// A rule for connections that the application encrypts, chosen by the server name of its ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRule {
    /// Any of these selects the rule; empty means every name, and none at all.
    pub hostnames: Vec<Hostname>,
    /// Where its connections go.
    pub connections: ConnectionRule,
}

/// A host name, or a pattern for those below one: what `*.example.com` stands for has one label more
/// at least. Lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hostname {
    /// This one.
    Exact(String),
    /// Every one below this: `example.com` for `*.example.com`.
    Below(String),
}

impl Hostname {
    /// Whether a host, without its port, is meant. The case of ASCII letters does not count.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(parent) => {
                let Some(cut) = host.len().checked_sub(parent.len() + 1).filter(|cut| *cut > 0)
                else {
                    return false;
                };
                host.get(cut..).is_some_and(|rest| {
                    rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(parent))
                })
            }
        }
    }
}

/// Limits on the time of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's head to the end of the response's body, with delays and retries: a stream is
    /// broken off then, too.
    pub request: Option<Duration>,
    /// The same for one attempt at one backend.
    pub backend_request: Option<Duration>,
}

/// Where a rule was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOrigin {
    /// Nowhere: a service without routes sends everything to its own endpoints.
    ServiceDefault,
    /// In an object's field, such as `spec.rules[2]`.
    Object {
        /// The object.
        object: ObjectReference,
        /// The field that holds the rule.
        field: String,
    },
}

/// A condition on a request; all parts that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// On the path, without the query.
    pub path: Option<PathMatch>,
    /// On headers, all of them.
    pub headers: Vec<NamedMatch>,
    /// On query parameters, all of them; the first of a name counts.
    pub query_parameters: Vec<NamedMatch>,
    /// On the method, exactly.
    pub method: Option<String>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Leading path elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// A regular expression over the whole path.
    Regex(String),
}

/// A condition on a header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMatch {
    /// The header's (any case) or parameter's (exact) name.
    pub name: String,
    /// The condition on its value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// The whole value.
    Exact(String),
    /// A regular expression over the whole value.
    Regex(String),
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    /// What requests are sent to.
    pub backend: ServicePort,
    /// Its part of the sum of all weights; zero gets nothing.
    pub weight: u32,
}

/// What a compiled expression may take, as rules can hold many. The control plane checks with it, and the
/// proxy compiles with it.
pub const REGEX_LIMIT_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_the_names_below_it() {
        let below = Hostname::Below("example.com".to_owned());
        for (host, expected) in [
            ("www.example.com", true),
            ("a.b.example.com", true),
            ("WWW.Example.COM", true),
            ("example.com", false),
            (".example.com", false),
            ("wwwexample.com", false),
            ("www.example.org", false),
            ("", false),
            ("é.example.com", true),
        ] {
            assert_eq!(below.matches(host), expected, "case: {host:?}");
        }
        let exact = Hostname::Exact("example.com".to_owned());
        assert!(exact.matches("Example.com"));
        assert!(!exact.matches("www.example.com"));
    }
}
