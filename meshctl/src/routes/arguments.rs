//! The arguments of `meshctl routes`.

use clap::Args;

use crate::output::Output;
use crate::repeat::Watch;
use crate::target::{TARGET_AFTER_HELP, TargetArguments};

/// `meshctl routes`.
#[derive(Debug, Args)]
#[command(after_help = TARGET_AFTER_HELP)]
pub struct RoutesArguments {
    /// Only those in this namespace, or attached to a service there [default: all]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Ask again and again.
    #[command(flatten)]
    pub watch: Watch,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}
