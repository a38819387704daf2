//! The arguments of `meshctl identity`.

use clap::{Args, Subcommand};

use crate::output::Output;
use crate::repeat::Watch;
use crate::target::{TARGET_AFTER_HELP, TargetArguments};

/// `meshctl identity`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct IdentityArguments {
    /// Something other than to look.
    #[command(subcommand)]
    pub command: Option<IdentityCommand>,
    /// What to look at, and how.
    #[command(flatten)]
    pub look: Look,
}

const AFTER_HELP: &str = "\
Exit code 3 when a trust anchor or the issuer has less than 30 days left, when a control plane does
not use what is kept, or when a namespace cannot be given the trust anchors.";

/// What to look at, and how.
#[derive(Debug, Args)]
pub struct Look {
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the lines of column names
    #[arg(long)]
    pub no_headers: bool,
    /// Whether it is shown again and again.
    #[command(flatten)]
    pub watch: Watch,
}

/// What is done to it.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Replace the trust anchor or the issuer, step by step and with nothing lost
    Rotate(RotateArguments),
}

/// `meshctl identity rotate`.
#[derive(Debug, Args)]
#[command(after_help = TARGET_AFTER_HELP)]
#[group(id = "what", required = true, multiple = false, args = ["root", "issuer", "without"])]
pub struct RotateArguments {
    /// The trust anchor, and the issuer with it
    #[arg(long)]
    pub root: bool,
    /// The issuer, below the same trust anchor
    #[arg(long)]
    pub issuer: bool,
    /// Go on with the rotation of the root that is under way without waiting for the proxies of these pods
    /// to acknowledge the new trust anchor; one that really lacks it is cut off until it has it
    #[arg(long, value_name = "NAMESPACE/POD", value_delimiter = ',', value_parser = pod)]
    pub without: Vec<String>,
    /// Print each step as it comes, and return when the old one is gone: after as long as a certificate
    /// lives
    #[arg(long)]
    pub wait: bool,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

fn pod(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(text.to_owned())
        }
        Some(_) | None => Err("want NAMESPACE/POD".to_owned()),
    }
}
