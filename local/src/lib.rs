//! A mesh on one machine: applications as ordinary processes in network namespaces, with the mesh's own programs beside
//! them, fed by a directory of ordinary Kubernetes YAML. Start with [`mesh::Mesh`].

pub mod manifests;
pub mod mesh;
pub mod protocol;
pub mod state_directory;
pub mod status;
