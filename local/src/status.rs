//! What a running world tells about itself. Plain values that `meshctl local status` prints; they decide nothing.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that a world knows about itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalStatus {
    /// The world's name, as `MeshConfig` gave it.
    pub name: String,
    /// The directory of Kubernetes YAML that the world follows.
    pub directory: PathBuf,
    /// Every workload, also those that are on their way out.
    pub workloads: Vec<WorkloadStatus>,
    /// Every service.
    pub services: Vec<ServiceStatus>,
    /// The control plane's process.
    pub control_plane: ProcessStatus,
    /// What in the directory cannot be run here, and what would do.
    pub problems: Vec<Problem>,
}

impl LocalStatus {
    /// The workload that `name` or `namespace/name` means; the newest one when a pod was just replaced.
    pub fn workload(&self, name: &str) -> Option<&WorkloadStatus> {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        self.workloads.iter().rev().find(|workload| {
            workload.name == name && (namespace.is_empty() || workload.namespace == namespace)
        })
    }

    /// The service that `name` or `namespace/name` means.
    pub fn service(&self, name: &str) -> Option<&ServiceStatus> {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        self.services.iter().find(|service| {
            service.name == name && (namespace.is_empty() || service.namespace == namespace)
        })
    }
}

/// One workload: a pod as it runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID, which its certificate carries.
    pub pod_uid: String,
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Whether a proxy stands beside it.
    pub meshed: bool,
    /// Whether its endpoints are ready.
    pub ready: bool,
    /// Whether its processes have all ended and are not started again (`restartPolicy: Never`).
    pub complete: bool,
    /// Whether it is on its way out: its file is gone, or says something else.
    pub ending: bool,
    /// What it is doing or waiting for, for people.
    pub state: String,
    /// Its processes: redirect, proxy, then its containers.
    pub processes: Vec<ProcessStatus>,
    /// The log files of its processes.
    pub logs: Vec<PathBuf>,
}

/// One process that the world looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// `control-plane`, `proxy`, or the container's name.
    pub name: String,
    /// Whether it runs now.
    pub running: bool,
    /// Its process id inside of the world, where process ids start at 1 again.
    pub pid: Option<u32>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// What it is doing, for people.
    pub state: String,
    /// Where its output goes.
    pub log: PathBuf,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// Its virtual addresses, IPv4 first; none for a headless service.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePortStatus>,
    /// How many endpoints are ready.
    pub ready_endpoints: usize,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortStatus {
    /// The port's name; empty where it has none.
    pub name: String,
    /// The number that clients use.
    pub port: u16,
}

/// Something in the directory that this runner cannot do: where, and what would do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file, relative to the directory.
    pub file: PathBuf,
    /// The object, such as `Pod default/api`; empty when the file cannot be read at all.
    pub object: String,
    /// The field, such as `spec.containers[0].command`; empty when it concerns the whole object.
    pub field: String,
    /// What is wrong, and what would do.
    pub message: String,
    /// Whether the object is left out because of it; otherwise it runs without what the message names.
    pub blocking: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        for part in [&self.object, &self.field, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}
