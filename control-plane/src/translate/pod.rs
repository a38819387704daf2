//! Pod → a workload with its identity and addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use heddle_model::access_log::AccessLogWish;
use heddle_model::identity::{PodUid, SpiffeId, TrustDomain};
use heddle_model::names::{ObjectReference, Port, Protocol};
use heddle_model::workload::{InboundMode, NodeProbes};
use k8s_openapi::api::core::v1 as api;

use crate::translate::owner::{self, Owner};
use crate::translate::port_protocol::{self, Declared};
use crate::translate::{Rejected, Seniority, annotations, node, probes};

/// What the mesh knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Kind, namespace, name.
    pub reference: ObjectReference,
    /// Decides which of two pods has an address that both claim.
    pub seniority: Seniority,
    /// The pod.
    pub uid: PodUid,
    /// What it is one of several pods of; `None`: it stands for itself.
    pub owner: Option<Owner>,
    /// Its service account's identity.
    pub identity: SpiffeId,
    /// Its own addresses; none while it has none, after it finished, and on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Where it calls from: its own addresses, or on the host's network those of its node; none while they are
    /// not known, and after it finished.
    pub calls_from: Vec<IpAddr>,
    /// It runs, or will.
    pub live: bool,
    /// Its containers and its readiness gates were all ready when its node last told of it. Kubernetes may say of
    /// such a pod that it is not ready: then it is for its node's sake.
    pub says_ready: bool,
    /// A proxy is beside it.
    pub meshed: bool,
    /// Whether plain connections are served.
    pub inbound_mode: InboundMode,
    /// The node it runs on; empty if not known.
    pub node: String,
    /// Its topology zone; empty if it does not say.
    pub zone: String,
    /// Ports whose bytes the mesh does not read.
    pub opaque_ports: BTreeSet<Port>,
    /// What its containers declare to listen on, over TCP.
    pub ports: Vec<ContainerPort>,
    /// What its node asks; from where, is the node's part.
    pub probes: NodeProbes,
    /// What its proxy is to write down, as far as it says so.
    pub access_log: AccessLogWish,
}

/// A declared port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// The number.
    pub port: Port,
    /// Its name; empty if it has none.
    pub name: String,
}

impl Pod {
    /// What the pod itself says of one of its ports.
    pub fn protocol_of(&self, port: Port) -> Protocol {
        let declared = self.ports.iter().find(|declared| declared.port == port);
        let name = declared.map(|declared| declared.name.as_str()).unwrap_or_default();
        let declared = Declared { app_protocol: "", name };
        port_protocol::decide(declared, &[port], &self.opaque_ports).protocol
    }
}

/// Reads a pod.
pub fn translate(
    pod: &api::Pod,
    reference: &ObjectReference,
    trust_domain: &TrustDomain,
) -> Result<Pod, Rejected> {
    let metadata = &pod.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default().parse().map_err(|_| {
        Rejected::invalid("metadata.uid", "is missing or is not a UUID; the API server sets it")
    })?;
    let spec = pod.spec.clone().unwrap_or_default();
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    let account = account.unwrap_or("default");
    let identity = SpiffeId::new(trust_domain.clone(), &reference.namespace, account)
        .map_err(|error| Rejected::invalid("spec.serviceAccountName", error.to_string()))?;
    let status = pod.status.clone().unwrap_or_default();
    let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let on_host = spec.host_network == Some(true);
    let calls_from = if finished { Vec::new() } else { addresses(&status)? };
    Ok(Pod {
        reference: reference.clone(),
        seniority: Seniority::new(metadata, reference),
        uid,
        owner: owner::translate(metadata),
        identity,
        addresses: if on_host { Vec::new() } else { calls_from.clone() },
        calls_from,
        live: !finished,
        says_ready: says_ready(&spec, &status),
        meshed: annotations::injected(&metadata.annotations)? && !on_host,
        inbound_mode: annotations::inbound_mode(&metadata.annotations)?,
        node: spec.node_name.clone().unwrap_or_default(),
        zone: node::zone(metadata.labels.as_ref())
            .or_else(|| node::zone(metadata.annotations.as_ref()))
            .unwrap_or_default(),
        opaque_ports: annotations::opaque_ports(&metadata.annotations)?,
        ports: ports(&spec)?,
        probes: NodeProbes { sources: Vec::new(), probes: probes::translate(&spec) },
        access_log: annotations::access_log(&metadata.annotations)?,
    })
}

/// Whether everything that the pod itself is asked said yes. Kubernetes makes `Ready` of the same conditions, and of
/// what it hears of the node, which is why that one is not looked at here. What was never said is a no.
fn says_ready(spec: &api::PodSpec, status: &api::PodStatus) -> bool {
    let holds = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let mut gates = spec.readiness_gates.iter().flatten();
    holds(CONTAINERS_READY) && gates.all(|gate| holds(&gate.condition_type))
}

fn addresses(status: &api::PodStatus) -> Result<Vec<IpAddr>, Rejected> {
    let listed = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let mut found: Vec<IpAddr> = Vec::new();
    for text in listed.chain(status.pod_ip.as_deref()).filter(|text| !text.is_empty()) {
        let address = text.parse().map_err(|_| {
            Rejected::invalid("status.podIPs", format!("{text:?} is not an IP address"))
        })?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

fn ports(spec: &api::PodSpec) -> Result<Vec<ContainerPort>, Rejected> {
    let mut found: Vec<ContainerPort> = Vec::new();
    for (container_index, container) in spec.containers.iter().enumerate() {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            let number = port.container_port;
            let valid = u16::try_from(number).ok().and_then(Port::new).ok_or_else(|| {
                let field =
                    format!("spec.containers[{container_index}].ports[{index}].containerPort");
                Rejected::invalid(field, format!("{number} is not a port (want 1-65535)"))
            })?;
            if found.iter().all(|known| known.port != valid) {
                let name = port.name.clone().unwrap_or_default();
                found.push(ContainerPort { port: valid, name });
            }
        }
    }
    Ok(found)
}

/// The condition that a node sets by the probes of a pod's containers.
const CONTAINERS_READY: &str = "ContainersReady";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    fn check(text: &str) -> Result<Pod, String> {
        let (reference, pod) = read::<api::Pod>(text);
        translate(&pod, &reference, &"cluster.local".parse().unwrap())
            .map_err(|rejected| rejected.to_string())
    }

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, uid: u-1, annotations: {heddle.dev/injected: 'true'}}
spec:
  serviceAccountName: api
  containers:
  - name: a
    ports: [{containerPort: 80, name: http}, {containerPort: 53, protocol: UDP}, {containerPort: 80}]
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
";

    #[test]
    fn a_meshed_pod_has_an_identity_and_addresses() {
        let pod = check(POD).unwrap();
        assert_eq!(pod.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/api");
        assert_eq!(pod.addresses.len(), 2);
        assert!(pod.meshed && pod.live);
        assert_eq!(pod.ports.len(), 1);
        assert_eq!(pod.inbound_mode, InboundMode::Permissive);
    }

    #[test]
    fn a_pod_that_finished_has_no_address_any_more() {
        let pod = check(&POD.replace("Running", "Succeeded")).unwrap();
        assert!(pod.addresses.is_empty() && pod.calls_from.is_empty() && !pod.live);
    }

    #[test]
    fn a_pod_on_the_hosts_network_is_not_meshed() {
        let pod =
            check(&POD.replace("  containers:", "  hostNetwork: true\n  containers:")).unwrap();
        assert!(pod.addresses.is_empty() && !pod.meshed);
        assert_eq!(pod.calls_from.len(), 2);
    }

    #[test]
    fn a_pod_says_that_it_is_ready_by_its_containers_and_its_gates_whatever_its_node() {
        let said = |conditions: &str, gates: &str| {
            let pod = POD.replace("status: {", &format!("status: {{conditions: [{conditions}], "));
            let pod = pod
                .replace("  containers:", &format!("  readinessGates: [{gates}]\n  containers:"));
            check(&pod).unwrap().says_ready
        };
        const UNHEARD: &str =
            "{type: ContainersReady, status: 'True'}, {type: Ready, status: 'False'}";
        const GATE: &str = "{conditionType: example.com/drained}";
        for (case, conditions, gates, expected) in [
            (
                "all is well",
                "{type: ContainersReady, status: 'True'}, {type: Ready, status: 'True'}",
                "",
                true,
            ),
            ("its node is not heard of", UNHEARD, "", true),
            (
                "a probe fails",
                "{type: ContainersReady, status: 'False'}, {type: Ready, status: 'False'}",
                "",
                false,
            ),
            (
                "a probe fails, and Ready is behind",
                "{type: ContainersReady, status: 'False'}, {type: Ready, status: 'True'}",
                "",
                false,
            ),
            ("its containers are not known", "{type: ContainersReady, status: Unknown}", "", false),
            ("nothing was said", "", "", false),
            ("only Ready was said", "{type: Ready, status: 'True'}", "", false),
            ("a gate that nobody set", UNHEARD, GATE, false),
            (
                "a gate that is shut",
                &format!("{UNHEARD}, {{type: example.com/drained, status: 'False'}}"),
                GATE,
                false,
            ),
            (
                "a gate that is not known",
                &format!("{UNHEARD}, {{type: example.com/drained, status: Unknown}}"),
                GATE,
                false,
            ),
            (
                "a gate that is open",
                &format!("{UNHEARD}, {{type: example.com/drained, status: 'True'}}"),
                GATE,
                true,
            ),
            (
                "a condition that is no gate",
                &format!("{UNHEARD}, {{type: example.com/other, status: 'False'}}"),
                "",
                true,
            ),
            (
                "one of two gates",
                &format!("{UNHEARD}, {{type: example.com/drained, status: 'True'}}"),
                &format!("{GATE}, {{conditionType: example.com/warm}}"),
                false,
            ),
        ] {
            assert_eq!(said(conditions, gates), expected, "case: {case}");
        }
    }

    #[test]
    fn a_pod_that_means_nothing_is_rejected_with_the_field() {
        for (case, from, to, field) in [
            ("no uid", "uid: u-1, ", "", "metadata.uid"),
            ("no port", "containerPort: 80, ", "containerPort: 0, ", "spec.containers[0].ports[0]"),
            ("no address", "{ip: 'fd00::1'}", "{ip: fd00}", "status.podIPs"),
            ("no account", "Name: api", "Name: A", "spec.serviceAccountName"),
        ] {
            let error = check(&POD.replace(from, to)).unwrap_err();
            assert!(error.starts_with(field), "case: {case}: {error}");
        }
    }
}
