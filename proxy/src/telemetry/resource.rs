//! Who a proxy says it is.

use std::sync::Arc;

use heddle_model::identity::PodUid;
use heddle_model::workload::Workload;
use heddle_telemetry::otlp::text;
use opentelemetry_proto::tonic::resource::v1::Resource as Message;

use crate::discovery::store::Store;
use crate::telemetry::owner::Owner;

/// The workload that this proxy serves, as far as it is known.
#[derive(Clone)]
pub struct OwnWorkload {
    store: Store,
    owner: Option<Owner>,
}

impl OwnWorkload {
    /// The control plane tells of the workload; who made its pod is a setting.
    pub fn new(store: Store, owner: Option<Owner>) -> Self {
        Self { store, owner }
    }

    /// Once the control plane has told of it.
    pub fn workload(&self) -> Option<Arc<Workload>> {
        self.store.workload()
    }

    /// The deployment that made the pod, if it was one.
    pub fn deployment(&self) -> Option<&str> {
        self.owner.as_ref().filter(|owner| owner.kind == "Deployment").map(|owner| &*owner.name)
    }
}

impl std::fmt::Debug for OwnWorkload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnWorkload").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// What is said of the workload with all telemetry.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The workload.
    pub own: OwnWorkload,
    /// Its pod.
    pub pod_uid: PodUid,
    /// What OpenTelemetry's variables call it.
    pub service_name: Option<String>,
    /// What else they say of it.
    pub attributes: Vec<(String, String)>,
}

impl Resource {
    /// As OTLP has it. What the variables say goes before what the mesh knows, but for the pod.
    pub fn message(&self) -> Message {
        let workload = self.own.workload();
        let name = workload.as_ref().map_or("", |workload| &workload.name);
        let namespace = workload.as_ref().map_or("", |workload| &workload.namespace);
        let owner = self.own.owner.as_ref();
        let service = self.service_name.as_deref();
        let service = service.or(owner.map(|owner| &*owner.name)).unwrap_or(name);
        let fixed = [
            ("k8s.namespace.name", namespace),
            ("k8s.pod.name", name),
            ("k8s.pod.uid", self.pod_uid.as_str()),
        ];
        let own_name =
            if self.service_name.is_some() { [("service.name", service)] } else { [("", "")] };
        let usual = [
            ("service.name", service),
            ("service.namespace", namespace),
            ("service.instance.id", self.pod_uid.as_str()),
            ("heddle.proxy.version", env!("CARGO_PKG_VERSION")),
            ("k8s.deployment.name", self.own.deployment().unwrap_or_default()),
        ];
        let set = self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut attributes: Vec<(&str, &str)> = Vec::new();
        // The first of a name counts.
        for (key, value) in fixed.into_iter().chain(own_name).chain(set).chain(usual) {
            let is_known = attributes.iter().any(|(known, _)| *known == key);
            if !is_known && !key.is_empty() && !value.is_empty() {
                attributes.push((key, value));
            }
        }
        let attributes = attributes.into_iter().map(|(key, value)| text(key, value)).collect();
        Message { attributes, ..Message::default() }
    }
}
