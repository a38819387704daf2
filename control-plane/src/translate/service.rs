//! Service → its virtual addresses and ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use heddle_model::filter::Fault;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName};
use heddle_model::policy::Preference;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::translate::port_protocol::{self, Decision, Declared, Evidence};
use crate::translate::{Rejected, Seniority, annotations, fault};

/// What the mesh knows of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Decides which of two services has an address that both claim.
    pub seniority: Seniority,
    /// Its virtual addresses, the primary one first; none if it is headless or has none yet.
    pub addresses: Vec<IpAddr>,
    /// The host that it is another name for, empty if that is not known; `None`: it is none.
    pub external_name: Option<String>,
    /// Its TCP ports.
    pub ports: BTreeMap<Port, ServicePort>,
    /// Which of its endpoints are close, unless a policy says.
    pub preference: Preference,
    /// Failures made on purpose, unless a route or a policy says.
    pub fault: Option<Fault>,
    /// What was not understood, and does no harm.
    pub notes: Vec<String>,
}

/// One TCP port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// By which EndpointSlices refer to it; empty if it has none.
    pub name: String,
    /// What is known of its protocol.
    pub protocol: Protocol,
    /// By what.
    pub evidence: Evidence,
    /// The port of the pods behind it: a number, or a name.
    pub target: String,
}

/// Reads a service.
pub fn translate(service: &api::Service, reference: &ObjectReference) -> Result<Service, Rejected> {
    let spec = service.spec.clone().unwrap_or_default();
    let opaque = annotations::opaque_ports(&service.metadata.annotations)?;
    let mut ports = BTreeMap::new();
    let mut notes = Vec::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        let field = format!("spec.ports[{index}]");
        let number = checked(port.port, &format!("{field}.port"))?;
        let target = match &port.target_port {
            Some(IntOrString::Int(target)) => {
                Some(checked(*target, &format!("{field}.targetPort"))?)
            }
            Some(IntOrString::String(_)) => None,
            None => Some(number),
        };
        let name = port.name.clone().unwrap_or_default();
        let declared = Declared {
            app_protocol: port.app_protocol.as_deref().unwrap_or_default(),
            name: &name,
        };
        let numbers: Vec<Port> = std::iter::once(number).chain(target).collect();
        let Decision { protocol, evidence, note } =
            port_protocol::decide(declared, &numbers, &opaque);
        let target = match &port.target_port {
            Some(IntOrString::Int(target)) => target.to_string(),
            Some(IntOrString::String(target)) => target.clone(),
            None => number.to_string(),
        };
        notes.extend(note.map(|note| format!("{field}.appProtocol: {note}")));
        if ports.insert(number, ServicePort { name, protocol, evidence, target }).is_some() {
            return Err(Rejected::invalid(
                format!("{field}.port"),
                format!("{number} is there twice"),
            ));
        }
    }
    let (preference, note) = preference(&spec, &service.metadata.annotations);
    let (fault, fault_note) = fault::of_annotations(&service.metadata.annotations);
    notes.extend(note.into_iter().chain(fault_note));
    Ok(Service {
        preference,
        fault,
        name: ServiceName { namespace: reference.namespace.clone(), name: reference.name.clone() },
        seniority: Seniority::new(&service.metadata, reference),
        addresses: addresses(&spec)?,
        external_name: (spec.type_.as_deref() == Some(EXTERNAL))
            .then(|| spec.external_name.clone().unwrap_or_default()),
        ports,
        notes,
    })
}

/// Which endpoints are close, as Kubernetes has it, and what was not understood.
fn preference(
    spec: &api::ServiceSpec,
    annotations: &annotations::Annotations,
) -> (Preference, Option<String>) {
    match spec.traffic_distribution.as_deref() {
        Some("PreferClose" | "PreferSameZone") => return (Preference::SameZone, None),
        Some("PreferSameNode") => return (Preference::SameNode, None),
        // Kubernetes leaves words that it does not know to implementations, too.
        Some(other) if !other.is_empty() => {
            let note = format!(
                "spec.trafficDistribution: {other:?} is not known (known: PreferClose, \
                 PreferSameZone, PreferSameNode); every endpoint is as close"
            );
            return (Preference::None, Some(note));
        }
        Some(_) | None => {}
    }
    match annotations::value(annotations, TOPOLOGY_MODE) {
        Some("Auto" | "auto") => (Preference::SameZone, None),
        Some(_) | None => (Preference::None, None),
    }
}

fn addresses(spec: &api::ServiceSpec) -> Result<Vec<IpAddr>, Rejected> {
    if spec.type_.as_deref() == Some(EXTERNAL) {
        return Ok(Vec::new());
    }
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut found = Vec::new();
    for text in listed.filter(|text| !text.is_empty() && *text != HEADLESS) {
        let address: IpAddr = text.parse().map_err(|_| {
            let message = format!("{text:?} is not an IP address (want one, or \"None\")");
            Rejected::invalid("spec.clusterIPs", message)
        })?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

fn checked(number: i32, field: &str) -> Result<Port, Rejected> {
    u16::try_from(number)
        .ok()
        .and_then(Port::new)
        .ok_or_else(|| Rejected::invalid(field, format!("{number} is not a port (want 1-65535)")))
}

/// What trafficDistribution replaced.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// The `type` of a service that is another name for a host elsewhere.
const EXTERNAL: &str = "ExternalName";
/// What `clusterIP` says of a service without a virtual address.
const HEADLESS: &str = "None";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    fn check(spec: &str) -> Result<Service, String> {
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: api}}\nspec: {spec}\n");
        let (reference, service) = read::<api::Service>(&text);
        translate(&service, &reference).map_err(|rejected| rejected.to_string())
    }

    #[test]
    fn addresses_and_tcp_ports_are_read() {
        let service = check(
            "{clusterIP: 10.1.0.1, clusterIPs: [10.1.0.1, 'fd43::1'], ports: [{port: 80, name: http, \
             targetPort: web}, {port: 53, protocol: UDP}, {port: 7000, targetPort: 5432}]}",
        )
        .unwrap();
        assert_eq!(service.addresses.len(), 2);
        let protocols: Vec<(u16, Protocol)> =
            service.ports.iter().map(|(port, spec)| (port.number(), spec.protocol)).collect();
        assert_eq!(protocols, [(80, Protocol::Http1), (7000, Protocol::Opaque)]);
    }

    #[test]
    fn what_a_service_says_of_close_endpoints_is_read() {
        for (spec, expected, notes) in [
            ("{}", Preference::None, 0),
            ("{trafficDistribution: PreferClose}", Preference::SameZone, 0),
            ("{trafficDistribution: PreferSameZone}", Preference::SameZone, 0),
            ("{trafficDistribution: PreferSameNode}", Preference::SameNode, 0),
            ("{trafficDistribution: PreferFar}", Preference::None, 1),
        ] {
            let service = check(spec).unwrap();
            assert_eq!(
                (service.preference, service.notes.len()),
                (expected, notes),
                "case: {spec}"
            );
        }
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: api, annotations: \
                    {service.kubernetes.io/topology-mode: Auto}}\nspec: {}\n";
        let (reference, service) = read::<api::Service>(text);
        assert_eq!(translate(&service, &reference).unwrap().preference, Preference::SameZone);
    }

    #[test]
    fn a_headless_service_has_no_address() {
        assert!(check("{clusterIP: None, clusterIPs: [None]}").unwrap().addresses.is_empty());
        assert!(check("{type: ExternalName, externalName: a.b}").unwrap().addresses.is_empty());
    }

    #[test]
    fn a_service_that_means_nothing_is_rejected_with_the_field() {
        for (spec, expected) in [
            ("{ports: [{port: 0}]}", "spec.ports[0].port: 0 is not a port (want 1-65535)"),
            (
                "{ports: [{port: 1, targetPort: 70000}]}",
                "spec.ports[0].targetPort: 70000 is not a port (want 1-65535)",
            ),
            ("{ports: [{port: 1}, {port: 1}]}", "spec.ports[1].port: 1 is there twice"),
            (
                "{clusterIP: here}",
                "spec.clusterIPs: \"here\" is not an IP address (want one, or \"None\")",
            ),
        ] {
            assert_eq!(check(spec).unwrap_err(), expected);
        }
    }
}
