//! Objects → values of the mesh, or the reason why not. Pure, one object at a time: whether what an
//! object refers to exists is decided where all of them are known, in `index/`.

use heddle_model::names::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub mod annotations;
pub mod endpoint_slice;
pub mod http_route;
pub mod pod;
pub mod port_protocol;
pub mod precedence;
pub mod service;
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
