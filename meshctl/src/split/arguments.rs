//! The arguments of `meshctl split`.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use crate::output::Output;
use crate::repeat::Watch;
use crate::target::{TARGET_AFTER_HELP, TargetArguments};

/// `meshctl split`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = TARGET_AFTER_HELP)]
pub struct SplitArguments {
    /// Change shares.
    #[command(subcommand)]
    pub command: Option<SplitCommand>,
    /// Show them.
    #[command(flatten)]
    pub show: ShowArguments,
}

/// What `meshctl split` does beside showing.
#[derive(Debug, Subcommand)]
pub enum SplitCommand {
    /// Change the weights of a TrafficSplit or of a route's rule
    Set(SetArguments),
}

/// Of `meshctl split [SERVICE]`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Only those of this service: NAME or NAMESPACE/NAME
    pub service: Option<String>,
    /// The namespace of the service; without one, only splits in it [default: all]
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

/// `meshctl split set`.
#[derive(Debug, Args)]
#[command(after_help = SET_AFTER_HELP)]
pub struct SetArguments {
    /// The service that callers call: NAME or NAMESPACE/NAME
    pub service: String,
    /// The weight of every backend: its name, or what follows the service's in it
    #[arg(value_name = "BACKEND=WEIGHT", required = true)]
    pub weights: Vec<Weight>,
    /// Which route or split, where there are several: NAME or KIND/NAME
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Which rule of the route, from 0, where several have these backends
    #[arg(long, value_name = "N")]
    pub rule: Option<usize>,
    /// Check everything, and change nothing
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    pub dry_run: Option<DryRun>,
    /// Change it also where something else sets these weights, and may set them back
    #[arg(long)]
    pub force: bool,
    /// The namespace of the service [default: the context's]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

const SET_AFTER_HELP: &str = "\
Examples:
  meshctl split set api v1=90 v2=10
  meshctl split set shop/api api-v1=1 api-v2=0 --dry-run=server

In a cluster the object is changed by the API server, unless somebody changed it meanwhile. On a local mesh the file is
edited that the object is written in: only its weights, and only where that can be done without touching anything else.";

/// Where everything is checked without being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// By the API server, with all of its rules; on a local mesh, by reading the file as it would be.
    Server,
}

/// A backend and its weight, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Of the backend.
    pub name: String,
    /// Its part of the sum.
    pub weight: u32,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("want such as v1=90, with a weight of 0 to {WEIGHT_LIMIT}");
        let (name, weight) = text.split_once('=').ok_or_else(wrong)?;
        let weight = weight.trim_end_matches('%').parse().ok();
        let weight = weight.filter(|weight| *weight <= WEIGHT_LIMIT).ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), weight })
    }
}

/// As the Gateway API has it.
const WEIGHT_LIMIT: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_name_and_a_number() {
        for (text, expected) in [
            ("v1=90", Some(("v1", 90))),
            ("shop/api-v1=0", Some(("shop/api-v1", 0))),
            ("v1=90%", Some(("v1", 90))),
            ("v1=-1", None),
            ("v1=1000001", None),
            ("v1=", None),
            ("=5", None),
            ("v1", None),
            ("v1=half", None),
        ] {
            let found = text.parse::<Weight>().ok();
            let found = found.as_ref().map(|found| (found.name.as_str(), found.weight));
            assert_eq!(found, expected, "case: {text}");
        }
    }
}
