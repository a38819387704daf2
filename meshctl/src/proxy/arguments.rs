//! The arguments of `meshctl proxy`.

use clap::{Args, Subcommand};

use crate::output::Output;
use crate::repeat::Watch;
use crate::target::{TARGET_AFTER_HELP, TargetArguments};

/// `meshctl proxy`.
#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// The proxies: version, configuration, what is outstanding, days of the certificate
    Status(ProxyStatusArguments),
    /// What one proxy was sent, and what it made of it
    Config(ProxyConfigArguments),
}

/// `meshctl proxy status`.
#[derive(Debug, Args)]
#[command(after_help = TARGET_AFTER_HELP)]
pub struct ProxyStatusArguments {
    /// Only this one: a pod, or namespace/pod
    pub pod: Option<String>,
    /// How it is chosen and shown.
    #[command(flatten)]
    pub look: ProxyLook,
}

/// `meshctl proxy config`.
#[derive(Debug, Args)]
#[command(after_help = TARGET_AFTER_HELP)]
pub struct ProxyConfigArguments {
    /// Whose: a pod, or namespace/pod
    pub pod: String,
    /// How it is chosen and shown.
    #[command(flatten)]
    pub look: ProxyLook,
}

/// How proxies are chosen and shown.
#[derive(Debug, Args)]
pub struct ProxyLook {
    /// The namespace of the pod [default: the context's]; without a pod, only proxies in it
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
    /// Whether it is shown again and again.
    #[command(flatten)]
    pub watch: Watch,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}
