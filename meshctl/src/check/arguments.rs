//! The command line of `meshctl check`.

use clap::{Args, ValueEnum};

use crate::install::arguments::MeshArguments;

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
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Table)]
    pub output: CheckFormat,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// Line by line, with hints
    Table,
    /// For machines; the fields are stable
    Json,
    /// The same
    Yaml,
    /// Only what is not well
    Name,
}

const AFTER_HELP: &str = "\
What is looked at: the API server and its version, your permissions, resource definitions (Gateway API, SMI, heddle.dev),
certificates and their days, the webhook (a pod is tried, and not kept), clocks, pods that should have a proxy and have none,
versions.

Exit codes:
  0  nothing failed; there may be warnings
  1  the check could not be made
  3  something failed";
