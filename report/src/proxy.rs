//! Proxies for machines: the JSON of `meshctl proxy status -o json` and `meshctl proxy config -o json`.
//! Its fields are stable. Pure.

use heddle_proto::{admin, discovery};
use schemars::JsonSchema;
use serde::Serialize;

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProxyReport {
    /// Its pod's namespace; empty if the pod is not known any more.
    pub namespace: String,
    /// Its pod.
    pub name: String,
    /// Its pod's UID.
    pub pod_uid: String,
    /// The program's own version.
    pub proxy_version: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// The control plane that told of it; empty for a local mesh.
    pub control_plane: String,
    /// How many resources it holds.
    pub resources: u32,
    /// The highest version it took.
    pub acknowledged_version: u64,
    /// Updates that it did not answer yet.
    pub pending_updates: u32,
    /// Updates that it refuses at present.
    pub refused: usize,
    /// When its certificate expires, in seconds since 1970; null: it told nothing so far.
    pub certificate_not_after: Option<i64>,
    /// Whether that is of the present issuer; null: it told nothing so far.
    pub current_issuer: Option<bool>,
}

/// What one proxy was sent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConfigReport {
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub name: String,
    /// Its pod's UID.
    pub pod_uid: String,
    /// What it was sent.
    pub resources: Vec<ResourceReport>,
}

/// One resource.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResourceReport {
    /// Such as `destination 10.0.0.1:80`.
    pub resource: String,
    /// Of what was sent last.
    pub version: u64,
    /// `pending`, `acknowledged` or `refused`.
    pub answer: &'static str,
    /// Why it was refused; may be empty.
    pub reason: String,
    /// The objects that it came from.
    pub origins: Vec<String>,
    /// As on the wire; null: the proxy had it since an earlier stream.
    #[schemars(with = "Option<serde_json::Value>")]
    pub content: Option<discovery::update::Resource>,
}

impl ProxyReport {
    /// As this control plane tells.
    pub fn new(control_plane: &str, proxy: admin::Proxy) -> Self {
        Self {
            control_plane: control_plane.to_owned(),
            refused: proxy.refusals.len(),
            certificate_not_after: proxy.identity.map(|identity| identity.not_after),
            current_issuer: proxy.identity.map(|identity| identity.current_issuer),
            namespace: proxy.namespace,
            name: proxy.name,
            pod_uid: proxy.pod_uid,
            proxy_version: proxy.proxy_version,
            connected: proxy.connected,
            resources: proxy.resources,
            acknowledged_version: proxy.acknowledged_version,
            pending_updates: proxy.pending_updates,
        }
    }

    /// `namespace/name`, or the UID of a pod that is not known any more.
    pub fn title(&self) -> String {
        if self.name.is_empty() {
            return self.pod_uid.clone();
        }
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it goes by what it should.
    pub fn is_good(&self, now: i64) -> bool {
        self.connected
            && self.refused == 0
            && self.certificate_not_after.is_none_or(|not_after| not_after > now)
    }
}

impl From<admin::HeldResource> for ResourceReport {
    fn from(held: admin::HeldResource) -> Self {
        use admin::held_resource::Answer;
        let answer = match held.answer() {
            Answer::Acknowledged => "acknowledged",
            Answer::Refused => "refused",
            Answer::Pending | Answer::Unspecified => "pending",
        };
        let admin::HeldResource { resource, version, reason, origins, update, answer: _ } = held;
        let content = update.and_then(|update| update.resource);
        Self { resource, version, answer, reason, origins, content }
    }
}

/// What control planes told of proxies: each once, and by whom it is connected to.
pub fn proxies(answers: Vec<(String, admin::Status)>) -> Vec<ProxyReport> {
    let told = answers.into_iter().flat_map(|(control_plane, status)| {
        let reports = status.proxies.into_iter();
        reports.map(move |proxy| ProxyReport::new(&control_plane, proxy)).collect::<Vec<_>>()
    });
    let mut all: Vec<ProxyReport> = told.collect();
    all.sort_by(|one, other| {
        let key = |report: &ProxyReport| {
            (
                report.namespace.clone(),
                report.name.clone(),
                report.pod_uid.clone(),
                !report.connected,
            )
        };
        key(one).cmp(&key(other))
    });
    all.dedup_by(|later, first| later.pod_uid == first.pod_uid);
    all
}

/// The pod that is meant, as namespace and name.
pub fn pod_named(typed: &str, namespace: &str) -> (String, String) {
    match typed.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), typed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_moved_is_told_of_once_and_by_whom_it_is_connected_to() {
        let proxy = |uid: &str, connected| admin::Proxy {
            pod_uid: uid.to_owned(),
            name: uid.to_owned(),
            connected,
            ..Default::default()
        };
        let status = |proxies| admin::Status { proxies, ..Default::default() };
        let told = proxies(vec![
            ("cp-1".to_owned(), status(vec![proxy("moved", false), proxy("z", true)])),
            ("cp-2".to_owned(), status(vec![proxy("moved", true), proxy("a", true)])),
        ]);
        let told: Vec<_> = told
            .iter()
            .map(|report| (report.name.as_str(), report.control_plane.as_str(), report.connected))
            .collect();
        assert_eq!(told, [("a", "cp-2", true), ("moved", "cp-2", true), ("z", "cp-1", true)]);
    }

    #[test]
    fn a_pod_is_named_with_or_without_its_namespace() {
        let named = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(pod_named("api-1", "shop"), named("shop", "api-1"));
        assert_eq!(pod_named("other/api-1", "shop"), named("other", "api-1"));
    }
}
