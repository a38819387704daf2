//! What a source of configuration tells the rest of the control plane: objects, typed, with the place
//! they were read from. Which source it is does not matter here: a directory (`directory.rs`), or the
//! Kubernetes API (`kubernetes.rs`) with the same events.

use std::fmt;
use std::sync::Arc;

use gateway_api::experimental::grpcroutes::GrpcRouteSpec;
use gateway_api::experimental::httproutes::HttpRouteSpec;
use gateway_api::experimental::referencegrants::ReferenceGrantSpec;
use gateway_api::experimental::tcproutes::TcpRouteSpec;
use heddle_model::names::ObjectReference;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::source::http_route_group::HttpRouteGroup;
use crate::source::tls_route::TlsRouteSpec;
use crate::source::traffic_policy::TrafficPolicySpec;
use crate::source::traffic_split::TrafficSplitSpec;

pub mod directory;
pub mod document;
pub mod files;
pub mod http_route_group;
pub mod kubernetes;
pub mod last_good;
pub mod listing;
pub mod node;
pub mod notice;
pub mod reader;
pub mod scan;
pub mod tls_route;
pub mod traffic_policy;
pub mod traffic_split;

/// One thing that a source found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object exists with this content; it replaces what was known of it.
    Applied(Arc<Object>),
    /// An object is gone.
    Deleted(ObjectReference),
    /// What could not be read of one unit; it replaces what was said of that unit before, and an empty
    /// list withdraws it. Objects of earlier, good readings stay applied.
    Failed {
        /// What was read.
        unit: Unit,
        /// In the order in which they were found.
        failures: Vec<Failure>,
    },
    /// Everything that existed at the start has been told.
    Synced,
}

/// An object of a known kind, or the name of one of another kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind, namespace, name.
    pub reference: ObjectReference,
    /// Where it was written.
    pub place: Place,
    /// Of its content alone: comments, order of keys and place do not count.
    pub content_hash: u64,
    /// The object.
    pub content: Content,
}

/// What is read at once, and whose failures are told at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A file, relative to the directory.
    File(String),
    /// An object of a cluster.
    Object(ObjectReference),
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// Relative to the directory.
        file: String,
        /// From 1.
        line: u64,
    },
    /// In a cluster.
    Cluster(Revision),
}

/// One state of one object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision {
    /// Group and version that it was read as.
    pub api_version: String,
    /// Tells it from another object that had its name.
    pub uid: String,
    /// Counts the changes of what is wished for; `None` for kinds that do not count them.
    pub generation: Option<i64>,
}

impl Place {
    /// The file, relative to the directory; empty in a cluster.
    pub fn file(&self) -> &str {
        match self {
            Self::File { file, .. } => file,
            Self::Cluster(_) => "",
        }
    }

    /// Which state of an object it is; `None` in a file.
    pub fn revision(&self) -> Option<&Revision> {
        match self {
            Self::File { .. } => None,
            Self::Cluster(revision) => Some(revision),
        }
    }

    /// The same file, on another line. There are no lines in a cluster.
    pub fn on_line(self, line: u64) -> Self {
        match self {
            Self::File { file, .. } => Self::File { file, line },
            Self::Cluster(revision) => Self::Cluster(revision),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Cluster(Revision { generation: Some(number), .. }) => {
                write!(f, "generation {number}")
            }
            Self::Cluster(Revision { generation: None, .. }) => f.write_str("cluster"),
        }
    }
}

/// The kinds that the mesh reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `v1 Pod`.
    Pod(Box<Pod>),
    /// `v1 Service`.
    Service(Box<Service>),
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice(Box<EndpointSlice>),
    /// `split.smi-spec.io TrafficSplit`.
    TrafficSplit(Box<Custom<TrafficSplitSpec>>),
    /// `gateway.networking.k8s.io HTTPRoute`.
    HttpRoute(Box<Custom<HttpRouteSpec>>),
    /// `gateway.networking.k8s.io GRPCRoute`.
    GrpcRoute(Box<Custom<GrpcRouteSpec>>),
    /// `gateway.networking.k8s.io TCPRoute`.
    TcpRoute(Box<Custom<TcpRouteSpec>>),
    /// `gateway.networking.k8s.io TLSRoute`.
    TlsRoute(Box<Custom<TlsRouteSpec>>),
    /// `gateway.networking.k8s.io ReferenceGrant`.
    ReferenceGrant(Box<Custom<ReferenceGrantSpec>>),
    /// `specs.smi-spec.io HTTPRouteGroup`.
    HttpRouteGroup(Box<HttpRouteGroup>),
    /// `heddle.dev TrafficPolicy`.
    TrafficPolicy(Box<Custom<TrafficPolicySpec>>),
    /// `v1 Node`.
    Node(Box<Node>),
    /// Any other kind: named in the status as ignored, and otherwise not read.
    Ignored {
        /// As it was written.
        api_version: String,
    },
}

/// An object of a custom resource.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Custom<S> {
    /// Group and version.
    pub api_version: String,
    /// As it was written.
    pub kind: String,
    /// Names, labels, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wished for.
    pub spec: S,
    /// What others say of it; never read.
    #[serde(default)]
    pub status: Option<serde_json::Value>,
}

/// Something in a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub place: Place,
    /// Which object it is about, when kind and name could be read.
    pub object: Option<ObjectReference>,
    /// The path of the field, such as `spec.backends[1].weight`; empty if it is not one field.
    pub field: String,
    /// What is wrong and what would do.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
