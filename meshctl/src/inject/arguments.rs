//! The command lines of `meshctl inject` and `meshctl uninject`.

use std::path::PathBuf;

use clap::Args;

use crate::kubernetes::arguments::ClusterArguments;

/// What is read.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// A file of YAML or JSON, a directory of them, or `-`: standard input
    #[arg(short = 'f', long, value_name = "FILE", required = true)]
    pub filename: Vec<PathBuf>,
    /// Directories with those within them
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// `meshctl inject`.
#[derive(Clone, Debug, Args)]
#[command(after_help = INJECT_AFTER_HELP)]
pub struct InjectArguments {
    /// What.
    #[command(flatten)]
    pub input: Files,
    /// With what.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Where the settings of proxies come from.
#[derive(Clone, Debug, Args)]
pub struct SettingsArguments {
    /// The settings of proxies, as in the key injector.yaml of the ConfigMap heddle-injector
    #[arg(long, value_name = "FILE", conflicts_with = "default_config")]
    pub config: Option<PathBuf>,
    /// Take the chart's defaults, and ask no cluster
    #[arg(long)]
    pub default_config: bool,
    /// Otherwise those of the cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

const INJECT_AFTER_HELP: &str = "\
Examples:
  meshctl inject -f app.yaml | kubectl apply -f -
  kubectl get deployment api -o yaml | meshctl inject -f - | kubectl apply -f -

Pods and what makes them get a proxy, unless they say heddle.dev/inject: disabled. Other objects pass as they are; an object
that changes loses its comments. What became of each is on standard error. One that cannot have a proxy as it says: exit code
1, and nothing is printed.";

/// `meshctl uninject`.
#[derive(Clone, Debug, Args)]
pub struct UninjectArguments {
    /// What.
    #[command(flatten)]
    pub input: Files,
}
