//! The arguments of `meshctl why`.

use clap::Args;

use crate::output::Output;
use crate::repeat::Watch;
use crate::target::TargetArguments;
use crate::why::question::{Caller, Header, Host};

/// `meshctl why`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct WhyArguments {
    /// Who calls: deploy/NAME, pod/NAME, sts/NAME, ds/NAME, job/NAME or NAMESPACE/NAME
    #[arg(value_name = "SRC")]
    pub caller: Caller,
    /// Whom, as the caller would name it: a service, a host or an address, with :PORT unless there is one only
    #[arg(value_name = "DST[:PORT]")]
    pub host: Host,
    /// With which method [default: GET]
    #[arg(value_name = "METHOD")]
    pub method: Option<String>,
    /// For which path, with its query [default: /]
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// A header of the request, such as `x-user: a`; may be there several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<Header>,
    /// The application encrypts by itself, and asks for the host by name
    #[arg(long, conflicts_with_all = ["method", "path", "headers"])]
    pub tls: bool,
    /// The namespace of the caller [default: the context's]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Ask again and again.
    #[command(flatten)]
    pub watch: Watch,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

const AFTER_HELP: &str = "\
Exit code 4 when the call would not be served, or only some of such calls would.

Examples:
  meshctl why deploy/frontend api:8080 GET /items -H 'x-user: a'
  meshctl why pod/load db.shop:5432
  meshctl why shop/frontend 10.0.0.7:8080 --output json

Which mesh is meant: see `meshctl status --help`. What each step means: docs/why.md";
