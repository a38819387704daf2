//! What people type for a tap, at a terminal or into a page, as values. Pure.

use std::str::FromStr;

use crate::names::ServiceName;
use crate::tap::{ASKED_TEXT_LIMIT, StatusRange, Subject, Target};

/// Whose requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Owner(&'static str),
    Pod,
    Service,
    Namespace,
}

/// Whom requests are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Of a namespace, or of the one that is meant anyway.
    Service(String, Option<String>),
    /// By its name.
    Pod(String),
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = || format!("want such as deploy/api, one of {}", kinds().join(", "));
        let (kind, name) = text.split_once('/').ok_or_else(want)?;
        let kind = kind.to_ascii_lowercase();
        let found = KINDS.iter().find(|(names, _)| names.contains(&kind.as_str()));
        let (_, kind) = found.ok_or_else(want)?;
        object_name(name)?;
        Ok(Self { kind: *kind, name: name.to_owned() })
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = || "want svc/NAME, svc/NAME.NAMESPACE or pod/NAME".to_owned();
        let (kind, name) = text.split_once('/').ok_or_else(want)?;
        match kind.to_ascii_lowercase().as_str() {
            "svc" | "service" | "services" => {
                let (name, namespace) = match name.split_once('.') {
                    Some((name, namespace)) => (name, Some(namespace)),
                    None => (name, None),
                };
                object_name(name)?;
                namespace.map(object_name).transpose()?;
                Ok(Self::Service(name.to_owned(), namespace.map(ToOwned::to_owned)))
            }
            "pod" | "pods" | "po" => {
                object_name(name)?;
                Ok(Self::Pod(name.to_owned()))
            }
            _ => Err(want()),
        }
    }
}

impl Resource {
    /// Its name, without its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose requests are meant, in this namespace.
    pub fn subject(&self, namespace: &str) -> Subject {
        let (namespace, name) = (namespace.to_owned(), self.name.clone());
        match self.kind {
            Kind::Owner(kind) => Subject::Workload { namespace, kind: kind.to_owned(), name },
            Kind::Pod => Subject::Pod { namespace, name },
            Kind::Service => Subject::Service(ServiceName { namespace, name }),
            Kind::Namespace => Subject::Namespace(name),
        }
    }
}

impl To {
    /// Whom requests are for, where a name without a namespace is of this one.
    pub fn target(&self, namespace: &str) -> Target {
        match self {
            Self::Service(name, own) => {
                let namespace = own.as_deref().unwrap_or(namespace).to_owned();
                Target::Service(ServiceName { namespace, name: name.clone() })
            }
            Self::Pod(name) => Target::Pod(name.clone()),
        }
    }
}

fn kinds() -> Vec<&'static str> {
    KINDS.iter().filter_map(|(names, _)| names.first().copied()).collect()
}

/// Whether an object may have this name; says why not. Source: Kubernetes, "Object Names and IDs".
pub fn object_name(text: &str) -> Result<(), String> {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_good = (1..=253).contains(&text.len()) && text.bytes().all(good);
    if is_good { Ok(()) } else { Err(format!("{text:?} is no name of an object")) }
}

/// A word that is looked for, such as a method; fails if it is empty, too long or has control characters.
pub fn short_text(text: &str) -> Result<String, String> {
    let good =
        !text.is_empty() && text.len() <= ASKED_TEXT_LIMIT && !text.contains(char::is_control);
    if good { Ok(text.to_owned()) } else { Err("want a word".to_owned()) }
}

/// What a path begins with; fails if it is no path, or has a query.
pub fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("want such as /items: a path begins with a slash".to_owned());
    }
    if text.contains('?') {
        return Err("want a path without a query: no tap sees queries".to_owned());
    }
    short_text(text)
}

/// Who is at the other end; fails if it is neither NAMESPACE/ACCOUNT nor a SPIFFE ID.
pub fn identity(text: &str) -> Result<String, String> {
    let is_short = text.split('/').count() == 2 && text.split('/').all(|part| !part.is_empty());
    if !is_short && !text.starts_with("spiffe://") {
        return Err("want NAMESPACE/ACCOUNT or spiffe://…".to_owned());
    }
    short_text(text)
}

/// A status, or a class of them such as `5xx`; fails if it is none of HTTP's.
pub fn status(text: &str) -> Result<StatusRange, String> {
    let want = || "want a status such as 503, or a class such as 5xx".to_owned();
    let status = |text: &str| {
        let number = text.parse::<u16>().map_err(|_| want())?;
        if (100..=599).contains(&number) { Ok(number) } else { Err(want()) }
    };
    if let Some(class) = text.to_ascii_lowercase().strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Ok(StatusRange { first, last: first + 99 });
    }
    let only = status(text)?;
    Ok(StatusRange { first: only, last: only })
}

/// A status of gRPC, by name or number; fails if there is none of it.
pub fn grpc_status(text: &str) -> Result<u8, String> {
    let named = GRPC_STATUSES.iter().position(|name| text.eq_ignore_ascii_case(name));
    let number = named.or_else(|| text.parse().ok()).filter(|number| *number < GRPC_STATUSES.len());
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| "want such as UNAVAILABLE, or its number, 0 to 16".to_owned())
}

/// The name of a status of gRPC.
pub fn grpc_name(number: u32) -> String {
    let name = usize::try_from(number).ok().and_then(|number| GRPC_STATUSES.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// By number. Source: gRPC, "Status codes".
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Names of kinds, as in kubectl; the first is told.
const KINDS: [(&[&str], Kind); 9] = [
    (&["deploy", "deployment", "deployments"], Kind::Owner("Deployment")),
    (&["sts", "statefulset", "statefulsets"], Kind::Owner("StatefulSet")),
    (&["ds", "daemonset", "daemonsets"], Kind::Owner("DaemonSet")),
    (&["job", "jobs"], Kind::Owner("Job")),
    (&["rs", "replicaset", "replicasets"], Kind::Owner("ReplicaSet")),
    (&["rollout", "rollouts"], Kind::Owner("Rollout")),
    (&["pod", "pods", "po"], Kind::Pod),
    (&["svc", "service", "services"], Kind::Service),
    (&["ns", "namespace", "namespaces"], Kind::Namespace),
];
