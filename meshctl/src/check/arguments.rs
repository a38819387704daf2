//! The command line of `meshctl check`.

use clap::Args;

use crate::install::arguments::MeshArguments;
use crate::output::Output;

/// `meshctl check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArguments {
    /// Where.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Whether the mesh can be installed
    #[arg(long)]
    pub pre: bool,
    /// How to print it: `table` with hints, `wide` a line each, `name` only what is not well
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
}

const AFTER_HELP: &str = "\
What is looked at: the API server and its version, your permissions, resource definitions (Gateway API, SMI, heddle.dev),
certificates and their days, the webhook (a pod is tried, and not kept), clocks, pods that should have a proxy and have none,
namespaces whose Pod Security would refuse one, versions.

Exit codes:
  0  nothing failed; there may be warnings
  1  the check could not be made
  3  something failed";
