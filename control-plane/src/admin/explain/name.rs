//! What a name stands for, as the DNS of a cluster would tell the caller. Pure.
//!
//! Source: Kubernetes DNS-Based Service Discovery 1.1: `service`, `service.namespace`, either with `.svc` and the
//! cluster's domain behind it, and `pod.service…` for the pods of headless services.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_model::names::ServiceName;

use crate::snapshot::Contents;
use crate::translate::pod::Pod;
use crate::translate::service::Service;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Named<'a> {
    /// A service.
    Service(&'a Arc<Service>),
    /// A pod of a headless service.
    Pod(&'a Arc<Pod>, &'a Arc<Service>),
    /// An address.
    Address(IpAddr),
    /// A service that does not exist.
    Missing(ServiceName),
    /// Nothing of the cluster's.
    Outside,
}

/// What a host stands for, to a caller of this namespace.
pub(super) fn resolve<'a>(contents: &'a Contents, namespace: &str, host: &str) -> Named<'a> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse() {
        return Named::Address(address);
    }
    let labels: Vec<&str> = host.split('.').collect();
    let service = |name: &str, namespace: &str| {
        let name = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
        contents.services.get(&name).map_or(Named::Missing(name), Named::Service)
    };
    match labels.as_slice() {
        [name] => service(name, namespace),
        [name, of, "svc", ..] => service(name, of),
        [pod, name, of, "svc", ..] => pod_of(contents, pod, (name, of)),
        [first, second] => {
            match (service(first, second), pod_of(contents, first, (second, namespace))) {
                (found @ Named::Service(_), _) | (_, found @ Named::Pod(..)) => found,
                (missing, _) if has_services(contents, second) => missing,
                (_, _) => Named::Outside,
            }
        }
        [pod, name, of] => match pod_of(contents, pod, (name, of)) {
            found @ Named::Pod(..) => found,
            Named::Service(_) | Named::Address(_) | Named::Missing(_) | Named::Outside => {
                Named::Outside
            }
        },
        [] | [_, ..] => Named::Outside,
    }
}

/// A pod that has a name of its own below a headless service's: its `hostname`, which StatefulSets set to the pod's
/// name.
fn pod_of<'a>(contents: &'a Contents, pod: &str, (service, namespace): (&str, &str)) -> Named<'a> {
    let name = ServiceName { namespace: namespace.to_owned(), name: service.to_owned() };
    let headless = contents.services.get(&name).filter(|service| service.addresses.is_empty());
    let named = |known: &&Arc<Pod>| {
        known.live && known.reference.namespace == namespace && known.reference.name == pod
    };
    match (headless, contents.pods.values().find(named)) {
        (Some(service), Some(pod)) => Named::Pod(pod, service),
        (_, _) => Named::Missing(name),
    }
}

fn has_services(contents: &Contents, namespace: &str) -> bool {
    contents.services.keys().any(|service| service.namespace == namespace)
}

/// The names of a namespace's services, the first few.
pub(super) fn known_services(contents: &Contents, namespace: &str) -> Vec<String> {
    let there = contents.services.keys().filter(|service| service.namespace == namespace);
    there.map(|service| service.name.clone()).take(NAMES_TOLD).collect()
}

/// More names than that help nobody.
const NAMES_TOLD: usize = 10;
