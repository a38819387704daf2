//! The arguments of `meshctl dashboard`.

use clap::Args;

use crate::tap::arguments::Account;
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
    /// In a cluster: the service account that the right to tap is of, for the page "Tap" [default: heddle-viewer of the
    /// mesh's namespace]
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub as_service_account: Option<Account>,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

const DASHBOARD_AFTER_HELP: &str = "\
Prints the page's address, which holds a key: other users of this machine have no access without it. The page only looks,
and asks nobody but the control plane. docs/dashboard.md has what it shows, and its questions in JSON.

Its page Tap shows single requests to whom `meshctl tap` shows them: see `meshctl tap --help`.

Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";
