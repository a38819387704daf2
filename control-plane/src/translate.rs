//! Objects → values of the mesh, or the reason why not. Pure, one object at a time: whether what an
//! object refers to exists is decided where all of them are known, in `index/`.

use heddle_model::names::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub mod annotations;
pub mod connection_route;
pub mod duration;
pub mod endpoint_slice;
pub mod expression;
pub mod fault;
pub mod grpc_route;
pub mod header_name;
pub mod http_route;
pub mod http_route_group;
pub mod node;
pub mod number;
pub mod owner;
pub mod pod;
pub mod port_protocol;
pub mod precedence;
pub mod probes;
pub mod reference_grant;
pub mod route;
pub mod service;
pub mod session;
pub mod traffic_policy;
pub mod traffic_split;
pub mod weight;

#[cfg(test)]
pub(crate) mod test_objects;

/// Why an object does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Rejected {
    /// Whose fault it is.
    pub reason: Reason,
    /// The path of the field, such as `spec.backends[1].weight`.
    pub field: String,
    /// What is wrong and what would do.
    pub message: String,
}

/// Whose fault it is that an object does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The object's: it means nothing.
    Invalid,
    /// Ours: it means something that cannot be done yet.
    UnsupportedValue,
    /// The object's: it wants things that exclude each other.
    IncompatibleFilters,
}

impl Rejected {
    /// The object means nothing.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::Invalid, field: field.into(), message: message.into() }
    }

    /// The object means something that cannot be done yet.
    pub fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::UnsupportedValue, field: field.into(), message: message.into() }
    }

    /// The object wants things that exclude each other.
    pub fn incompatible(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::IncompatibleFilters, field: field.into(), message: message.into() }
    }
}

/// Orders objects of which one must give way: the older wins, then the first by name, as the Gateway
/// API has it. Objects without a time come last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seniority {
    created_seconds: i64,
    namespace: String,
    name: String,
}

impl Seniority {
    /// Of an object with these metadata and this name.
    pub fn new(metadata: &ObjectMeta, reference: &ObjectReference) -> Self {
        let created = metadata.creation_timestamp.as_ref();
        Self {
            created_seconds: created.map_or(i64::MAX, |Time(time)| time.as_second()),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
        }
    }
}
