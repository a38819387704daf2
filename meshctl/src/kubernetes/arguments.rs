//! Which cluster, and which mesh in it: the flags that every command on Kubernetes has.

use std::ffi::OsString;

use clap::Args;

/// Where the control plane is installed unless somebody says otherwise.
pub const DEFAULT_MESH_NAMESPACE: &str = "heddle-system";

/// Which cluster, and which mesh in it; named as in kubectl.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ClusterArguments {
    /// The file that tells how clusters are reached; several as in a PATH [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", hide_env_values = true, value_name = "FILE")]
    pub kubeconfig: Option<OsString>,
    /// The context in it [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace that the mesh is installed in
    #[arg(
        long,
        env = "HEDDLE_MESH_NAMESPACE",
        hide_env = true,
        value_name = "NAME",
        default_value = DEFAULT_MESH_NAMESPACE
    )]
    pub mesh_namespace: String,
}

impl ClusterArguments {
    /// Whether a cluster was named, by flag or by environment.
    pub fn names_a_cluster(&self) -> bool {
        self.context.is_some() || self.kubeconfig.as_ref().is_some_and(|path| !path.is_empty())
    }
}
