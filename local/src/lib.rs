//! A mesh on one machine: applications as ordinary processes in network namespaces, with the mesh's own programs beside
//! them, fed by a directory of ordinary Kubernetes YAML.
//!
//! Whoever wants one holds a [`mesh::Mesh`]. The world itself consists of these processes, each started by the one
//! before: [`world`] makes the namespaces, [`init`] is the first process in them, [`supervisor`] runs the workloads, and
//! [`confine`] becomes an application or a proxy.
//!
//! What it does not do, and says so in the status where a file asks for it: images, volumes, probes, init containers,
//! anything but Pods that runs, and UDP through the mesh. Three limits show in no status. Processes see this machine's
//! files, but for the world's own. Applications without `runAsUser` are all the same user in one PID namespace: one can
//! signal or trace another, though not the mesh's own programs, which have capabilities that it lacks and can be
//! signalled but not looked into. And a workload without a proxy has no virtual addresses: there the name of a service
//! stands for its ready pods, whose own ports are to be used, and a virtual address is unreachable at once.

pub mod captured;
pub mod confine;
pub mod control;
pub mod http;
pub mod init;
pub mod listening;
pub mod manifests;
pub mod mesh;
pub mod mirror;
pub mod namespaces;
pub mod network;
pub mod process;
pub mod protocol;
pub mod settings;
pub mod source;
pub mod state_directory;
pub mod status;
pub mod supervisor;
pub mod tokens;
pub mod watch;
pub mod workload;
pub mod world;
