//! A Service: which pods it selects, by which ports and addresses. Its endpoints are in `endpoint_slice`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use heddle_model::names::ServiceName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Fault;
use super::object::{self, Object};
use super::pod::{PodPlan, set};

/// A service as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its name.
    pub name: ServiceName,
    /// Its virtual addresses, IPv4 first; none for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePortPlan>,
    /// The labels that its pods have; empty: it selects none, and its endpoints are written by hand.
    pub selector: BTreeMap<String, String>,
    /// Whether pods that are not ready count too.
    pub publish_not_ready: bool,
    kind: Kind,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortPlan {
    /// Its name; empty where it has none.
    pub name: String,
    /// The number that clients use.
    pub port: u16,
    /// The pod's port.
    pub target: TargetPort,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// What it says it speaks.
    pub app_protocol: Option<String>,
}

/// The pod's port behind a service's port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that the container gives it.
    Name(String),
}

impl TargetPort {
    /// The number in one pod.
    pub fn resolve(&self, pod: &PodPlan) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => pod
                .containers
                .iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.number),
        }
    }
}

impl ServicePlan {
    /// Reads a service.
    pub fn read(object: &Object, value: &Value) -> Result<Self, Fault> {
        let Body { spec } = object::typed(value)?;
        let kind = match (spec.r#type.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => Kind::ExternalName,
            (_, Some("None")) => Kind::Headless,
            _ => Kind::Virtual,
        };
        Ok(Self {
            name: object.service_name(),
            addresses: own_addresses(value).collect(),
            ports: spec.ports.into_iter().map(Port::plan).collect(),
            selector: spec.selector,
            publish_not_ready: spec.publish_not_ready_addresses,
            kind,
        })
    }

    /// Whether it is to be given virtual addresses.
    pub fn wants_addresses(&self) -> bool {
        self.kind == Kind::Virtual && self.addresses.is_empty()
    }

    /// Whether this pod is one of its endpoints.
    pub fn selects(&self, pod: &PodPlan) -> bool {
        !self.selector.is_empty()
            && self.name.namespace == pod.name.namespace
            && self.selector.iter().all(|(name, value)| pod.labels.get(name) == Some(value))
    }
}

/// Writes into the object what Kubernetes would have written.
pub fn fill_in(value: &mut Value, plan: &ServicePlan) {
    let families: Vec<_> = plan
        .addresses
        .iter()
        .map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    set(value, &["spec", "clusterIP"], json!(plan.addresses.first()));
    set(value, &["spec", "clusterIPs"], json!(plan.addresses));
    set(value, &["spec", "ipFamilies"], json!(families));
    let policy = if families.len() > 1 { "PreferDualStack" } else { "SingleStack" };
    set(value, &["spec", "ipFamilyPolicy"], json!(policy));
}

/// The virtual addresses that the file itself gives a service.
pub fn own_addresses(value: &Value) -> impl Iterator<Item = IpAddr> {
    let is_service = value.get("kind").and_then(Value::as_str) == Some("Service");
    let spec = value.get("spec").filter(|_| is_service);
    let single = spec.and_then(|spec| spec.get("clusterIP"));
    let several = spec.and_then(|spec| spec.get("clusterIPs")).and_then(Value::as_array);
    let mut addresses: Vec<IpAddr> = several
        .into_iter()
        .flatten()
        .chain(single)
        .filter_map(|address| address.as_str()?.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Virtual,
    Headless,
    ExternalName,
}

#[derive(Deserialize)]
struct Body {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    selector: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: String,
    port: u16,
    target_port: Option<TargetPort>,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

impl Port {
    fn plan(self) -> ServicePortPlan {
        ServicePortPlan {
            name: self.name,
            port: self.port,
            target: self.target_port.unwrap_or(TargetPort::Number(self.port)),
            protocol: self.protocol.unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: self.app_protocol,
        }
    }
}
