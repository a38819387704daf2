//! What of a Pod's specification this runner cannot do, and what would do instead.

use super::PodSpec;
use crate::manifests::Fault;

/// Why it cannot run at all.
pub(super) fn cannot_run(spec: &PodSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (set, field) in [
        (spec.host_network, "spec.hostNetwork"),
        (spec.host_pid, "spec.hostPID"),
        (spec.host_ipc, "spec.hostIPC"),
    ] {
        if set {
            faults.push(Fault::new(field, "every pod has namespaces of its own here; remove it"));
        }
    }
    if !spec.init_containers.is_empty() {
        let message = "init containers are not run here; do their work in the container's command";
        faults.push(Fault::new("spec.initContainers", message));
    }
    if spec.containers.is_empty() {
        faults.push(Fault::new("spec.containers", "a pod needs a container"));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let field = format!("spec.containers[{index}]");
        if container.command.is_empty() {
            let message =
                "there are no images here; name a program of this machine, such as [\"python3\"]";
            faults.push(Fault::new(format!("{field}.command"), message));
        }
        if !container.env_from.is_empty() {
            let message = "not known here; write the variables in env";
            faults.push(Fault::new(format!("{field}.envFrom"), message));
        }
        let repeated = spec.containers.iter().take(index).any(|other| other.name == container.name);
        if repeated
            || RESERVED_NAMES.contains(&container.name.as_str())
            || container.name.contains('/')
        {
            let message = format!("{:?} is taken or no name; choose another", container.name);
            faults.push(Fault::new(format!("{field}.name"), message));
        }
    }
    faults
}

/// What it has to do without.
pub(super) fn left_out(spec: &PodSpec) -> Vec<Fault> {
    let mut notices = Vec::new();
    if !spec.volumes.is_empty() {
        let message = "volumes are not mounted; processes see this machine's files";
        notices.push(Fault::new("spec.volumes", message));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (value, name) in [
            (&container.liveness_probe, "livenessProbe"),
            (&container.readiness_probe, "readinessProbe"),
            (&container.startup_probe, "startupProbe"),
        ] {
            if value.is_some() {
                let message =
                    "probes are not run; a pod is ready when it listens on its containerPorts";
                notices.push(Fault::new(format!("spec.containers[{index}].{name}"), message));
            }
        }
        if container.lifecycle.is_some() {
            let field = format!("spec.containers[{index}].lifecycle");
            notices.push(Fault::new(field, "hooks are not run"));
        }
    }
    notices
}

/// The names of the processes that stand beside the containers.
const RESERVED_NAMES: [&str; 2] = ["proxy", "redirect"];
