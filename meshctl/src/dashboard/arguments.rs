//! The arguments of `meshctl dashboard`.

use clap::Args;

use crate::target::TargetArguments;

/// `meshctl dashboard`.
#[derive(Debug, Args)]
#[command(after_help = DASHBOARD_AFTER_HELP)]
pub struct DashboardArguments {
    /// The port on 127.0.0.1 to serve it at [default: a free one]
    #[arg(long, default_value = "0", hide_default_value = true)]
    pub port: u16,
    /// Do not open a browser
    #[arg(long)]
    pub no_open: bool,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

const DASHBOARD_AFTER_HELP: &str = "\
Prints the page's address, which holds a key: other users of this machine have no access without it. The page only looks,
and asks nobody but the control plane. docs/dashboard.md has what it shows, and its questions in JSON.

Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";
