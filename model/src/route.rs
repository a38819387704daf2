//! Routes: rules that send requests to weighted backends. Regular expressions are kept as text; the
//! proxy compiles them and refuses what does not compile.

use std::time::Duration;

use crate::names::{ObjectReference, ServicePort};

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Any of these selects the rule; empty means every request.
    pub matches: Vec<HttpMatch>,
    /// Where requests go. Empty, or all weights zero: the answer is 500, as the Gateway API has it.
    pub backends: Vec<WeightedBackend>,
    /// The share of backends that do not exist; it is answered with 500, too.
    pub missing_weight: u32,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// The object the rule came from.
    pub origin: RuleOrigin,
}

/// Limits on the time of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the last byte of the request's head to the first of the response's, retries included.
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
