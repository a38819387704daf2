//! What a tap is asked for: whose requests, which of them, and how many. Values only: the control plane finds whose
//! they are, proxies find which.

pub mod typed;

use std::time::Duration;

use crate::names::ServiceName;

/// A tap, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapRequest {
    /// Whose requests.
    pub subject: Subject,
    /// Which, and how much of them is told.
    pub tap: Tap,
}

/// What a proxy looks for, and what it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Which requests.
    pub filter: Filter,
    /// How many.
    pub limits: Limits,
    /// What of their headers.
    pub shown: Shown,
    /// `None`: every request that matches is told of.
    pub follow: Option<Follow>,
}

/// Whose requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Of all workloads.
    All,
    /// Of those in a namespace.
    Namespace(String),
    /// Of the pods of what owns them.
    Workload {
        /// The namespace.
        namespace: String,
        /// Such as `Deployment`.
        kind: String,
        /// The owner's name.
        name: String,
    },
    /// Of one pod.
    Pod {
        /// The namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// Of those behind a service.
    Service(ServiceName),
}

impl Subject {
    /// The namespace that it is in; `None`: in all.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Namespace(namespace)
            | Self::Workload { namespace, .. }
            | Self::Pod { namespace, .. } => Some(namespace),
            Self::Service(service) => Some(&service.namespace),
        }
    }
}

/// Which requests; `None` fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Seen from the workload.
    pub side: Option<Side>,
    /// As it is written.
    pub method: Option<String>,
    /// What the path begins with.
    pub path_prefix: Option<String>,
    /// The name of the route's object.
    pub route: Option<String>,
    /// The HTTP status.
    pub status: Option<StatusRange>,
    /// How a call of gRPC ended, by number.
    pub grpc_status: Option<u8>,
    /// Who is at the other end.
    pub peer: Option<String>,
    /// Whom the request is for, as its caller's proxy knows it.
    pub to: Option<Target>,
}

/// Seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is asked.
    Inbound,
    /// It asks.
    Outbound,
}

/// Both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// From this one.
    pub first: u16,
    /// To this one.
    pub last: u16,
}

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A service, on whatever port.
    Service(ServiceName),
    /// A pod, by its name.
    Pod(String),
}

/// How many requests are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By each proxy: 1 to [`HIGHEST_RATE`].
    pub per_second: u32,
    /// For this long: up to [`LONGEST`].
    pub lifetime: Duration,
}

/// What of headers is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Names of all, and values of those that hold no secrets.
    pub headers: bool,
    /// Values of these too, unless they hold secrets; in lower case.
    pub values: Vec<String>,
}

/// Requests of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Of a trace whose id begins so: requests that match are put into one.
    Mark(Mark),
    /// Of this trace.
    Trace([u8; 16]),
}

/// What ids of traces begin with that a tap begins; not all zero.
pub type Mark = [u8; 8];

/// What one proxy may be asked for, so that a tap costs it little.
pub const HIGHEST_RATE: u32 = 1000;
/// Nobody looks longer at a terminal; a forgotten tap ends.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Of each proxy, where nobody says more: enough to watch, and little for a proxy.
pub const DEFAULT_RATE: u32 = 100;
/// Where nobody says more.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// More names of headers than anybody types.
pub const SHOWN_VALUES_LIMIT: usize = 16;
/// In bytes, of each text that is asked for.
pub const ASKED_TEXT_LIMIT: usize = 512;

/// Whether a header is for something secret, by its name in lower case: no tap shows its value.
pub fn is_secret_header(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// What names of headers have in them that hold secrets. Documented in docs/tap.md.
const SECRET_WORDS: [&str; 14] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "key",
    "passw",
    "credential",
    "session",
    "signature",
    "jwt",
    "csrf",
    "xsrf",
    "cert",
    "assertion",
];
