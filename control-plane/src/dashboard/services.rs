//! Services, and which workloads are behind them: where the lines of the map end. Pure.

use std::collections::BTreeSet;

use heddle_report::edges::End;
use serde::Serialize;

use crate::snapshot::{Content, Contents};
use crate::telemetry::population::workload_of;

/// All services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServicesReport {
    /// By namespace, name and port.
    pub(super) services: Vec<ServiceReport>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServiceReport {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name, with the port.
    pub(super) name: String,
    /// Whose pods are ready behind it.
    pub(super) workloads: Vec<End>,
}

/// What is behind the ports of services.
pub(super) fn services(contents: &Contents) -> ServicesReport {
    let mut services: Vec<ServiceReport> = contents
        .endpoints
        .iter()
        .filter_map(|(port, resource)| {
            let Content::Endpoints(set) = &resource.content else { return None };
            let pods = set
                .endpoints
                .iter()
                .filter_map(|endpoint| contents.pods_by_address.get(&endpoint.address.ip()));
            let workloads: BTreeSet<End> = pods
                .map(|pod| {
                    let workload = workload_of(pod);
                    End { namespace: workload.namespace, kind: workload.kind, name: workload.name }
                })
                .collect();
            Some(ServiceReport {
                namespace: port.service.namespace.clone(),
                name: format!("{}:{}", port.service.name, port.port.number()),
                workloads: workloads.into_iter().collect(),
            })
        })
        .collect();
    services
        .sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    ServicesReport { services }
}
