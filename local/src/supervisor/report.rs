//! What the world tells about itself: the supervisor's state as a status.

use super::{CONTROL_PLANE, Supervisor, Tenant};
use crate::process::Process;
use crate::status::{ProcessStatus, ServicePortStatus, ServiceStatus, WorkloadStatus};
use crate::workload::Workload;

impl Supervisor {
    /// Tells whoever looks, if there is anything new.
    pub(super) fn publish(&self) {
        let candidates = self.candidates();
        let services = self
            .reading
            .services
            .iter()
            .map(|service| ServiceStatus {
                namespace: service.name.namespace.clone(),
                name: service.name.name.clone(),
                addresses: service.addresses.clone(),
                ports: service
                    .ports
                    .iter()
                    .map(|port| ServicePortStatus { name: port.name.clone(), port: port.port })
                    .collect(),
                ready_endpoints: candidates
                    .iter()
                    .filter(|candidate| candidate.ready && service.selects(candidate.pod))
                    .count(),
            })
            .collect();
        // Whoever waits for a workload may call it at once, so its endpoints must have been written.
        let workloads = self
            .workloads
            .iter()
            .map(|(instance, tenant)| workload_status(tenant, self.ready.contains(instance)))
            .collect();
        let control_plane =
            self.control_plane.as_ref().map_or_else(no_control_plane, Process::status);
        let problems =
            self.reading.problems.iter().chain(&self.not_started).chain(&self.not_written);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.workloads = workloads;
            status.services = services;
            status.control_plane = control_plane;
            status.problems = problems.cloned().collect();
            *status != before
        });
    }
}

fn workload_status(tenant: &Tenant, written: bool) -> WorkloadStatus {
    let Workload { plan, .. } = &tenant.workload;
    let state = tenant.workload.state();
    WorkloadStatus {
        namespace: plan.name.namespace.clone(),
        name: plan.name.name.clone(),
        pod_uid: plan.uid.to_string(),
        addresses: plan.addresses.all(),
        meshed: plan.meshed,
        ready: state.ready && written && !tenant.ending,
        complete: state.complete,
        ending: tenant.ending,
        state: state.text,
        logs: state.processes.iter().map(|process| process.log.clone()).collect(),
        processes: state.processes,
    }
}

/// In a world without a mesh.
pub(super) fn no_control_plane() -> ProcessStatus {
    ProcessStatus {
        name: CONTROL_PLANE.to_owned(),
        state: "not part of this world".to_owned(),
        ..ProcessStatus::default()
    }
}
