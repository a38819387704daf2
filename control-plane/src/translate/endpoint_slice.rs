//! EndpointSlice → addresses that stand behind a service.

use std::net::IpAddr;

use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, ServiceName};
use k8s_openapi::api::discovery::v1 as api;

use crate::translate::Rejected;

/// A part of what stands behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The slice.
    pub reference: ObjectReference,
    /// The service.
    pub service: ServiceName,
    /// TCP ports, by the name that the service has for them.
    pub ports: Vec<SlicePort>,
    /// Each is reached at every port.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service's port; empty if it has none.
    pub name: String,
    /// The pods' own port.
    pub port: Port,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// All of the same kind.
    pub addresses: Vec<IpAddr>,
    /// Whether it may be sent new requests.
    pub readiness: Readiness,
    /// Which pod it is.
    pub target: Target,
    /// Its topology zone; empty if not known.
    pub zone: String,
    /// The node it runs on; empty if not known.
    pub node: String,
}

/// Whether an endpoint may be sent new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// It is about to end, and still serves: it may where there is no other.
    Ending,
    /// Kubernetes says that its pod is not ready, and no more than that: whether the pod says so itself, or its node is
    /// only not heard of, is for the pod to tell.
    PodNotReady {
        /// It is about to end.
        ending: bool,
    },
    /// It may not.
    NotReady,
}

/// Which pod an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Pod(PodUid),
    /// The one that has its address, if there is one.
    ByAddress,
}

/// Reads a slice.
pub fn translate(
    slice: &api::EndpointSlice,
    reference: &ObjectReference,
) -> Result<EndpointSlice, Rejected> {
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_LABEL)).ok_or_else(|| {
        let message = "is missing; it names the service that the endpoints stand behind";
        Rejected::invalid(format!("metadata.labels.{SERVICE_LABEL}"), message)
    })?;
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        let message = format!("{:?} cannot be served (want IPv4 or IPv6)", slice.address_type);
        return Err(Rejected::unsupported("addressType", message));
    }
    let maker = match labels.and_then(|labels| labels.get(MAKER_LABEL)).map(String::as_str) {
        Some(KUBERNETES) => Maker::Kubernetes,
        Some(_) | None => Maker::Other,
    };
    let endpoints =
        slice.endpoints.iter().enumerate().map(|(index, endpoint)| {
            self::endpoint(endpoint, maker, &format!("endpoints[{index}]"))
        });
    Ok(EndpointSlice {
        reference: reference.clone(),
        service: ServiceName { namespace: reference.namespace.clone(), name: service.clone() },
        ports: ports(slice)?,
        endpoints: endpoints.collect::<Result<_, _>>()?,
    })
}

fn ports(slice: &api::EndpointSlice) -> Result<Vec<SlicePort>, Rejected> {
    let mut found = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        let number = port.port.and_then(|number| u16::try_from(number).ok()).and_then(Port::new);
        let number = number.ok_or_else(|| {
            Rejected::invalid(format!("ports[{index}].port"), "is not a port (want 1-65535)")
        })?;
        found.push(SlicePort { name: port.name.clone().unwrap_or_default(), port: number });
    }
    Ok(found)
}

/// Who made a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// The controller of Kubernetes, to which an endpoint is ready if its pod is.
    Kubernetes,
    /// Somebody to whom it may mean anything else, such as the one replica that leads.
    Other,
}

fn endpoint(
    endpoint: &api::Endpoint,
    maker: Maker,
    field: &str,
) -> Result<SliceEndpoint, Rejected> {
    let address = |text: &String| {
        text.parse::<IpAddr>().map_err(|_| {
            Rejected::invalid(
                format!("{field}.addresses"),
                format!("{text:?} is not an IP address"),
            )
        })
    };
    let is_pod = |kind: Option<&str>| kind.is_none_or(|kind| kind == "Pod");
    let target = endpoint.target_ref.as_ref().filter(|target| is_pod(target.kind.as_deref()));
    let target = match target.and_then(|target| target.uid.as_deref()) {
        None => Target::ByAddress,
        Some(uid) => Target::Pod(uid.parse().map_err(|_| {
            Rejected::invalid(format!("{field}.targetRef.uid"), format!("{uid:?} is not a pod UID"))
        })?),
    };
    Ok(SliceEndpoint {
        addresses: endpoint.addresses.iter().map(address).collect::<Result<_, _>>()?,
        readiness: readiness(endpoint.conditions.as_ref(), maker, &target),
        target,
        zone: endpoint.zone.clone().unwrap_or_default(),
        node: endpoint.node_name.clone().unwrap_or_default(),
    })
}

/// As Kubernetes' own proxies have it: not known means ready, and an endpoint that is about to end is better
/// than none.
fn readiness(
    conditions: Option<&api::EndpointConditions>,
    maker: Maker,
    target: &Target,
) -> Readiness {
    let Some(conditions) = conditions else { return Readiness::Ready };
    let ready = conditions.ready.unwrap_or(true);
    let ending = conditions.terminating == Some(true);
    let serving = conditions.serving == Some(true);
    match (ready, ending && serving, maker, target) {
        (true, _, _, _) => Readiness::Ready,
        (false, true, _, _) => Readiness::Ending,
        (false, false, Maker::Kubernetes, Target::Pod(_)) => Readiness::PodNotReady { ending },
        (false, false, Maker::Kubernetes, Target::ByAddress)
        | (false, false, Maker::Other, Target::Pod(_) | Target::ByAddress) => Readiness::NotReady,
    }
}

/// Set by whoever makes the slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Set by whoever makes the slice, with a name of its own.
const MAKER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The name of the controller that makes slices from the pods that a Service selects.
const KUBERNETES: &str = "endpointslice-controller.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}]
endpoints:
- addresses: [10.0.0.1]
  targetRef: {kind: Pod, uid: u-1}
- addresses: [10.0.0.2]
  conditions: {ready: false}
  zone: east
- addresses: [10.0.0.3]
  conditions: {ready: false, serving: true, terminating: true}
  targetRef: {kind: VirtualMachine, uid: V_1}
- addresses: [10.0.0.4]
  conditions: {ready: false, serving: false, terminating: true}
";

    fn check(text: &str) -> Result<EndpointSlice, String> {
        let (reference, slice) = read::<api::EndpointSlice>(text);
        translate(&slice, &reference).map_err(|rejected| rejected.to_string())
    }

    #[test]
    fn endpoints_are_read_with_their_readiness() {
        let slice = check(SLICE).unwrap();
        assert_eq!(slice.service.to_string(), "default/api");
        assert_eq!(slice.ports.len(), 1);
        let [first, second, third, fourth] = slice.endpoints.as_slice() else {
            panic!("four endpoints")
        };
        let pod = Target::Pod("u-1".parse().unwrap());
        assert_eq!((first.readiness, &first.target), (Readiness::Ready, &pod));
        assert_eq!((second.readiness, &second.target), (Readiness::NotReady, &Target::ByAddress));
        assert_eq!((third.readiness, &third.target), (Readiness::Ending, &Target::ByAddress));
        assert_eq!(fourth.readiness, Readiness::NotReady);
        assert_eq!(second.zone, "east");
    }

    #[test]
    fn only_what_kubernetes_says_of_a_pod_is_left_to_the_pod() {
        const POD: &str = "targetRef: {kind: Pod, uid: u-1}";
        const OWN: &str = "endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";
        const MIRROR: &str =
            "endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io";
        let pod_not_ready = |ending| Readiness::PodNotReady { ending };
        for (case, label, conditions, target, expected) in [
            ("ready", OWN, "{ready: true, serving: true}", POD, Readiness::Ready),
            ("nothing is said", OWN, "{}", POD, Readiness::Ready),
            (
                "published though not ready",
                OWN,
                "{ready: true, serving: false}",
                POD,
                Readiness::Ready,
            ),
            (
                "not ready",
                OWN,
                "{ready: false, serving: false, terminating: false}",
                POD,
                pod_not_ready(false),
            ),
            ("not ready, by an old Kubernetes", OWN, "{ready: false}", POD, pod_not_ready(false)),
            (
                "ending",
                OWN,
                "{ready: false, serving: true, terminating: true}",
                POD,
                Readiness::Ending,
            ),
            (
                "ending, not ready",
                OWN,
                "{ready: false, serving: false, terminating: true}",
                POD,
                pod_not_ready(true),
            ),
            ("no pod", OWN, "{ready: false}", "zone: east", Readiness::NotReady),
            (
                "another kind",
                OWN,
                "{ready: false}",
                "targetRef: {kind: VirtualMachine, uid: V}",
                Readiness::NotReady,
            ),
            ("mirrored", MIRROR, "{ready: false}", POD, Readiness::NotReady),
            ("nobody's", "other: label", "{ready: false}", POD, Readiness::NotReady),
            (
                "mirrored, ending",
                MIRROR,
                "{ready: false, serving: true, terminating: true}",
                POD,
                Readiness::Ending,
            ),
        ] {
            let slice = check(&format!(
                "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: api-1, labels: {{kubernetes.io/service-name: api, {label}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.0.0.1], conditions: {conditions}, {target}}}]
"
            ));
            assert_eq!(slice.unwrap().endpoints[0].readiness, expected, "case: {case}");
        }
    }

    #[test]
    fn a_slice_that_means_nothing_is_rejected_with_the_field() {
        for (case, from, to, expected) in [
            (
                "no label",
                "labels: {kubernetes.io/service-name: api}",
                "labels: {}",
                "metadata.labels",
            ),
            ("names", "addressType: IPv4", "addressType: FQDN", "addressType"),
            ("no address", "[10.0.0.2]", "[here]", "endpoints[1].addresses"),
            ("no port", "port: 8080", "port: 0", "ports[0].port"),
            ("no uid", "uid: u-1", "uid: U_1", "endpoints[0].targetRef.uid"),
        ] {
            let error = check(&SLICE.replace(from, to)).unwrap_err();
            assert!(error.starts_with(expected), "case: {case}: {error}");
        }
    }
}
