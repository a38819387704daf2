//! The status for machines: the JSON of `meshctl status -o json`. Its fields are stable; it follows
//! `heddle.admin.v1` and adds the verdict.

use heddle_proto::admin;
use schemars::JsonSchema;
use serde::Serialize;

/// Everything the control plane tells.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StatusReport {
    /// Whether anything is refused: an object, a file, or an update by a proxy.
    pub refused: bool,
    /// The newest configuration.
    pub version: u64,
    /// What the configuration was made from.
    pub objects: Vec<Object>,
    /// Who gets it.
    pub proxies: Vec<Proxy>,
    /// The certificate authority.
    pub authority: Option<Authority>,
    /// Files that could not be read.
    pub source_errors: Vec<SourceError>,
}

/// One Kubernetes object.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Object {
    /// Such as `TrafficSplit`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Relative to the control plane's directory.
    pub file: String,
    /// As on Kubernetes objects.
    pub conditions: Vec<Condition>,
}

/// As in Kubernetes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// One proxy.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Proxy {
    /// Its workload's namespace.
    pub namespace: String,
    /// Its workload's name.
    pub name: String,
    /// Its workload.
    pub pod_uid: String,
    /// The program's own version.
    pub proxy_version: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// How many resources it subscribes to.
    pub resources: u32,
    /// Updates it took.
    pub acknowledged_updates: u64,
    /// Updates it refused.
    pub refused_updates: u64,
    /// The highest version it took.
    pub acknowledged_version: u64,
    /// What it refuses at present.
    pub refusals: Vec<Refusal>,
}

/// An update that a proxy refuses.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Refusal {
    /// Of the update.
    pub version: u64,
    /// Which resource.
    pub resource: String,
    /// For people.
    pub reason: String,
    /// The object at fault; may be empty.
    pub object: String,
    /// Where in it; may be empty.
    pub field: String,
}

/// The certificate authority.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Authority {
    /// Of all identities.
    pub trust_domain: String,
    /// Since the control plane started.
    pub certificates_issued: u64,
    /// Since the control plane started.
    pub certificates_refused: u64,
    /// Seconds since 1970.
    pub anchor_not_after: i64,
    /// Seconds since 1970.
    pub issuer_not_after: i64,
    /// How long a certificate lives.
    pub leaf_lifetime_seconds: u64,
}

/// A file that could not be read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceError {
    /// Relative to the control plane's directory.
    pub file: String,
    /// For people.
    pub message: String,
}

impl Object {
    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// The conditions that say no.
    pub fn refusals(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| condition.status == "False")
    }

    /// Whether this condition says yes.
    pub fn is(&self, kind: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
    }
}

impl Proxy {
    /// `namespace/name`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl From<admin::Status> for StatusReport {
    fn from(status: admin::Status) -> Self {
        let objects: Vec<Object> = status.objects.into_iter().map(Object::from).collect();
        let proxies: Vec<Proxy> = status.proxies.into_iter().map(Proxy::from).collect();
        let source_errors: Vec<SourceError> = status
            .source_errors
            .into_iter()
            .map(|error| SourceError { file: error.file, message: error.message })
            .collect();
        let refused = !source_errors.is_empty()
            || objects.iter().any(|object| object.refusals().next().is_some())
            || proxies.iter().any(|proxy| !proxy.refusals.is_empty());
        let authority = status.authority.map(Authority::from);
        Self { refused, version: status.version, objects, proxies, authority, source_errors }
    }
}

impl From<admin::Object> for Object {
    fn from(object: admin::Object) -> Self {
        let admin::Object { kind, namespace, name, file, conditions } = object;
        let conditions = conditions
            .into_iter()
            .map(|condition| Condition {
                kind: condition.r#type,
                status: condition.status,
                reason: condition.reason,
                message: condition.message,
            })
            .collect();
        Self { kind, namespace, name, file, conditions }
    }
}

impl From<admin::Proxy> for Proxy {
    fn from(proxy: admin::Proxy) -> Self {
        let refusals = proxy
            .refusals
            .into_iter()
            .map(|refusal| Refusal {
                version: refusal.version,
                resource: refusal.resource,
                reason: refusal.reason,
                object: refusal.object,
                field: refusal.field,
            })
            .collect();
        Self {
            namespace: proxy.namespace,
            name: proxy.name,
            pod_uid: proxy.pod_uid,
            proxy_version: proxy.proxy_version,
            connected: proxy.connected,
            resources: proxy.resources,
            acknowledged_updates: proxy.acknowledged_updates,
            refused_updates: proxy.refused_updates,
            acknowledged_version: proxy.acknowledged_version,
            refusals,
        }
    }
}

impl From<admin::Authority> for Authority {
    fn from(authority: admin::Authority) -> Self {
        Self {
            trust_domain: authority.trust_domain,
            certificates_issued: authority.certificates_issued,
            certificates_refused: authority.certificates_refused,
            anchor_not_after: authority.anchor_not_after,
            issuer_not_after: authority.issuer_not_after,
            leaf_lifetime_seconds: authority.leaf_lifetime_seconds,
        }
    }
}
