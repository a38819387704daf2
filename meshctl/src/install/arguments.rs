//! The command lines of `meshctl install`, `upgrade` and `uninstall`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use heddle_runtime::duration;

use crate::kubernetes::arguments::{ClusterArguments, DEFAULT_MESH_NAMESPACE};
use crate::output::Output;

/// Which cluster, and where the mesh is in it; named as in kubectl.
#[derive(Clone, Debug, Args)]
pub struct MeshArguments {
    /// The namespace that the mesh is installed in
    // As Helm's users write it; hidden, since `-n` is the namespace of pods where a command is about pods.
    #[arg(
        long = "mesh-namespace",
        alias = "namespace",
        short_alias = 'n',
        env = "HEDDLE_MESH_NAMESPACE",
        hide_env = true,
        value_name = "NAME",
        default_value = DEFAULT_MESH_NAMESPACE
    )]
    pub namespace: String,
    /// The file that tells how clusters are reached; several as in a PATH [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", hide_env_values = true, value_name = "FILE")]
    pub kubeconfig: Option<OsString>,
    /// The context in it [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl MeshArguments {
    /// As other commands say it.
    pub fn cluster(&self) -> ClusterArguments {
        ClusterArguments {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            mesh_namespace: self.namespace.clone(),
        }
    }
}

/// What the chart is set up with.
#[derive(Clone, Debug, Args)]
pub struct ValueArguments {
    /// A file of values; `-` is standard input. Later files go before earlier ones
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// One value, or several between commas: `controlPlane.replicas=3`. Goes before files
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Several replicas, disruption budgets, more memory
    #[arg(long)]
    pub ha: bool,
}

/// Whether something is only tried, as in kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// The API server is asked nothing.
    Client,
    /// The API server checks everything, and keeps nothing.
    Server,
}

/// How objects are printed, as in kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    /// For `kubectl apply --server-side -f -`
    Yaml,
    /// One List
    Json,
    /// Kind and name
    Name,
    /// A table
    Wide,
}

/// What is done with the objects.
#[derive(Clone, Debug, Args)]
pub struct ApplyArguments {
    /// Apply to the cluster, and wait until it works
    #[arg(long)]
    pub apply: bool,
    /// Only try it
    #[arg(long, value_enum, value_name = "WHERE")]
    pub dry_run: Option<DryRun>,
    /// Take over fields that somebody else manages
    #[arg(long, requires = "apply")]
    pub force_conflicts: bool,
    /// How long to wait until it works; 0s does not wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: duration::Text,
    /// How to print the objects [default: yaml; name with --apply and --dry-run]
    #[arg(short, long, value_enum)]
    pub output: Option<ObjectFormat>,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
}

/// `meshctl install`.
#[derive(Clone, Debug, Args)]
#[command(after_help = INSTALL_AFTER_HELP)]
pub struct InstallArguments {
    /// Where.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// With what.
    #[command(flatten)]
    pub values: ValueArguments,
    /// And then?
    #[command(flatten)]
    pub apply: ApplyArguments,
    /// Print the chart's values and what they mean, and do nothing else
    #[arg(long)]
    pub show_values: bool,
}

const INSTALL_AFTER_HELP: &str = "\
Examples:
  meshctl install | kubectl apply --server-side -f -     print, and let kubectl apply
  meshctl install --apply --ha                           apply, and wait until it works
  meshctl install --set image.registry=registry.example.com --apply
  meshctl install --show-values                          what can be set

What is printed is what the Helm chart renders, its namespace, and a ConfigMap with the values given here.";

/// `meshctl upgrade`.
#[derive(Clone, Debug, Args)]
#[command(after_help = UPGRADE_AFTER_HELP)]
pub struct UpgradeArguments {
    /// Where.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// With what.
    #[command(flatten)]
    pub values: ValueArguments,
    /// Forget the values of the installation
    #[arg(long)]
    pub reset_values: bool,
    /// And then?
    #[command(flatten)]
    pub apply: ApplyArguments,
}

const UPGRADE_AFTER_HELP: &str = "\
The values that the mesh was installed with are kept; what is given here goes before them.
With --apply, objects of the older version that this one does not have are deleted.
Without it, they are named on standard error.";

/// `meshctl uninstall`.
#[derive(Clone, Debug, Args)]
#[command(after_help = UNINSTALL_AFTER_HELP)]
pub struct UninstallArguments {
    /// Where.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Delete; without it, only print what would be deleted
    #[arg(long, visible_alias = "yes")]
    pub apply: bool,
    /// Also the authority's keys, the custom resource definitions with all their objects, and the namespace
    #[arg(long)]
    pub purge: bool,
    /// Also where pods still have a proxy, whose traffic ends when their certificates run out
    #[arg(long, requires = "apply")]
    pub force: bool,
    /// How long to wait until all is gone
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: duration::Text,
    /// How to print what is deleted
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
}

const UNINSTALL_AFTER_HELP: &str = "\
What stays unless --purge: the Secret heddle-authority, so that a mesh that is installed again has the same trust anchors;
the custom resource definitions, whose deletion deletes your objects; and the namespace, which holds that Secret.
Labels that you put on namespaces and pods stay in any case, and so do proxies until their pods are restarted. While there are
such pods, nothing is deleted without --force; they are named, with the commands that restart them. With it, the trust anchors
stay in their namespaces, since these pods mount them.";
