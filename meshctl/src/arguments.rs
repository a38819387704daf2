//! The command line, as typed.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use heddle_runtime::duration;
use http::Uri;

use crate::check::arguments::CheckArguments;
use crate::dashboard::arguments::DashboardArguments;
use crate::edges::EdgesArguments;
use crate::identity::arguments::IdentityArguments;
use crate::inject::arguments::{InjectArguments, UninjectArguments};
use crate::install::arguments::{InstallArguments, UninstallArguments, UpgradeArguments};
use crate::output::{Format, Output};
use crate::proxy::arguments::ProxyCommand;
use crate::repeat::Watch;
use crate::routes::arguments::RoutesArguments;
use crate::shop::listen::ListenAddress;
use crate::shop::load::plan::{HttpVersion, Plan, Rate, Target};
use crate::split::arguments::SplitArguments;
use crate::stat::arguments::StatArguments;
use crate::tap::arguments::TapArguments;
use crate::target::TargetArguments;
use crate::top::arguments::TopArguments;
use crate::trace::arguments::TraceArguments;
use crate::why::arguments::WhyArguments;

/// The command line of the mesh.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, about, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Read from the environment only.
    #[arg(long, env = "NO_COLOR", global = true, hide = true)]
    pub no_color: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done, and all is well
  1  failed: what, why and what would do is on standard error
  2  the command line was not understood
  3  a check found something: a refused object, a workload that is not ready
  4  why: the call would not be served

Environment:
  NO_COLOR  no colour, whatever its value";

/// What meshctl does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a small shop in a mesh on this machine, and watch a canary take over
    Demo(DemoArguments),
    /// A mesh on this machine, from a directory of Kubernetes YAML
    #[command(subcommand)]
    Local(LocalCommand),
    /// Install the mesh into a Kubernetes cluster: print its objects, or apply them
    Install(InstallArguments),
    /// Bring the mesh in a cluster to this version
    Upgrade(UpgradeArguments),
    /// Take the mesh out of a cluster
    Uninstall(UninstallArguments),
    /// Whether a cluster is fit for the mesh, and the mesh in it well
    Check(CheckArguments),
    /// Give the pods in files their proxy
    Inject(InjectArguments),
    /// Take the proxy out of the pods in files
    Uninject(UninjectArguments),
    /// What the control plane knows: objects, proxies, who refuses what and why
    Status(StatusArguments),
    /// How much is asked of workloads, services, backends and routes, and how well they answer
    Stat(StatArguments),
    /// The same, live on the whole terminal, with the last minutes
    Top(TopArguments),
    /// Who talks to whom, with which identities, and whether it is secured
    Edges(EdgesArguments),
    /// Requests while they happen: who asked whom, how it was secured and routed, what came back
    Tap(TapArguments),
    /// The way of one request through the mesh, and where its time went
    Trace(TraceArguments),
    /// The mesh in a browser: a live map, charts, the state of the configuration, certificates
    Dashboard(DashboardArguments),
    /// Trust anchors, issuer and rotation of the mesh's identities
    Identity(IdentityArguments),
    /// What the control plane knows of proxies, and what it sent them
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// What a call would meet on its way: name, route, backend, policy, TLS; and whether it would be served
    Why(WhyArguments),
    /// The routes of services: what they match, where they send, what became of them
    Routes(RoutesArguments),
    /// The shares of canaries, and changing them
    Split(SplitArguments),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  meshctl completion bash > ~/.local/share/bash-completion/completions/meshctl"
    )]
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// The applications of the demo.
    #[command(subcommand, hide = true)]
    Shop(ShopCommand),
}

/// `meshctl demo`.
#[derive(Debug, Args)]
#[command(after_help = DEMO_AFTER_HELP)]
pub struct DemoArguments {
    /// How to show it: live, or as one JSON summary at the end
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// How long all four steps of the canary take together
    #[arg(long, value_name = "DURATION", default_value = "40s")]
    pub duration: duration::Text,
    /// How long a certificate lives; it is renewed at half of that
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = leaf_lifetime)]
    pub leaf_lifetime: duration::Text,
    /// Leave the mesh running at the end
    #[arg(long)]
    pub keep: bool,
}

const DEMO_AFTER_HELP: &str = "\
The summary of --output json:
  requests                {sent, succeeded, failed}, counted by the load generator
  over_mtls               how many of them its proxy sent over mutual TLS
  plaintext               requests and connections that any proxy of the shop carried without it
  steps                   [{canary_percent, requests, backends: {v1, v2}, seconds}]: answers that came
                          after every proxy had acknowledged the step
  certificate_renewals    by all proxies
  certificates_issued     by the control plane
  config                  {versions_acknowledged, refused}, by all proxies
  duration_seconds        from the first request to the last answer

Exit code 1 when anything was lost: a failed request, or one without mutual TLS.";

const UP_AFTER_HELP: &str = "\
What is read of the directory:
  Namespace, Pod, Service, EndpointSlice, Node
  HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant   Gateway API; with a Service as parent
  TrafficSplit, HTTPRouteGroup                               SMI
  TrafficPolicy                                              heddle.dev

With --detach, exit code 3 when an object of the directory is left out.";

/// `meshctl local`.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Start a mesh from a directory of Kubernetes YAML
    Up(UpArguments),
    /// What runs in a local mesh
    Status(LocalStatusArguments),
    /// End a local mesh
    Down(DownArguments),
}

/// `meshctl local up`.
#[derive(Debug, Args)]
#[command(after_help = UP_AFTER_HELP)]
pub struct UpArguments {
    /// Kubernetes YAML or JSON; changes take effect while it runs
    pub directory: PathBuf,
    /// Return once everything is ready; `meshctl local down` ends it
    #[arg(long)]
    pub detach: bool,
    /// A name for this mesh [default: the directory's]
    #[arg(long)]
    pub name: Option<String>,
    /// How long a certificate lives; it is renewed at half of that
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = leaf_lifetime)]
    pub leaf_lifetime: duration::Text,
}

/// `meshctl local status`.
#[derive(Debug, Args)]
pub struct LocalStatusArguments {
    /// Which mesh; not needed while there is only one
    #[arg(long)]
    pub name: Option<String>,
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

/// `meshctl local down`.
#[derive(Debug, Args)]
pub struct DownArguments {
    /// Which mesh; not needed while there is only one
    #[arg(long)]
    pub name: Option<String>,
}

/// `meshctl status`.
#[derive(Debug, Args)]
#[command(after_help = STATUS_AFTER_HELP)]
pub struct StatusArguments {
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

const STATUS_AFTER_HELP: &str = "\
Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config

Exit code 3 when something is refused.";

/// What the control plane issues at the least, so that it is said here and not in its log.
const SHORTEST_LEAF_LIFETIME: Duration = Duration::from_secs(30);

fn leaf_lifetime(text: &str) -> Result<duration::Text, String> {
    let lifetime: duration::Text = text.parse().map_err(|error| format!("{error}"))?;
    if lifetime.0 < SHORTEST_LEAF_LIFETIME {
        let shortest = duration::Text(SHORTEST_LEAF_LIFETIME);
        return Err(format!("want {shortest} or more, so that renewals have their time"));
    }
    Ok(lifetime)
}

/// `meshctl shop`.
#[derive(Debug, Subcommand)]
pub enum ShopCommand {
    /// Answers by asking the api
    Frontend {
        /// Where to listen: a port, or an address with one
        #[arg(long, default_value = "8080")]
        listen: ListenAddress,
        /// The api
        #[arg(long, default_value = "http://api:8080")]
        api: Uri,
    },
    /// Answers with its version, by asking the store
    Api {
        /// Where to listen: a port, or an address with one
        #[arg(long, default_value = "8080")]
        listen: ListenAddress,
        /// What it calls itself
        #[arg(long, default_value = "v1")]
        version: String,
        /// The store, as name:port
        #[arg(long, default_value = "store:9000")]
        store: String,
    },
    /// Counts what is in stock, over TCP
    Store {
        /// Where to listen: a port, or an address with one
        #[arg(long, default_value = "9000")]
        listen: ListenAddress,
    },
    /// Sends requests and counts what becomes of each
    Load(LoadArguments),
}

/// `meshctl shop load`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with exit code 1 when a request failed. SIGTERM ends it early: what was begun is finished and counted."
)]
pub struct LoadArguments {
    /// Where to send requests
    #[arg(long, value_name = "URL")]
    pub target: Target,
    /// Requests per second; without it, as fast as answers come
    #[arg(long)]
    pub rate: Option<Rate>,
    /// How many connections, each with one request at a time
    #[arg(long, default_value = "4")]
    pub connections: NonZeroU32,
    /// End after exactly this many requests
    #[arg(long, value_name = "N")]
    pub requests: Option<NonZeroU64>,
    /// End after this time
    #[arg(long)]
    pub duration: Option<duration::Text>,
    /// Speak HTTP/2, without asking first
    #[arg(long)]
    pub http2: bool,
    /// How long one request may take, with its connection
    #[arg(long, default_value = "10s")]
    pub timeout: duration::Text,
    /// Wait this long for a first good answer; what fails meanwhile does not count
    #[arg(long, value_name = "DURATION")]
    pub wait_for_target: Option<duration::Text>,
    /// How to print the counts at the end: JSON is one line
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Serve the counts so far at GET /stats: a port, or an address with one
    #[arg(long, value_name = "PORT")]
    pub stats_listen: Option<ListenAddress>,
}

impl LoadArguments {
    /// As meant.
    pub fn into_plan(self) -> Plan {
        let time = |text: duration::Text| -> Duration { text.0 };
        Plan {
            target: self.target,
            rate: self.rate,
            connections: self.connections,
            requests: self.requests,
            duration: self.duration.map(time),
            http_version: if self.http2 { HttpVersion::Http2 } else { HttpVersion::Http1 },
            timeout: self.timeout.0,
            wait_for_target: self.wait_for_target.map(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_certificate_lives_for_half_a_minute_or_more() {
        for (text, good) in [("30s", true), ("24h", true), ("29s", false), ("30", false)] {
            assert_eq!(leaf_lifetime(text).is_ok(), good, "case: {text}");
        }
    }

    #[test]
    fn the_help_names_exit_codes_and_hides_the_shop() {
        insta::assert_snapshot!(Arguments::command().render_help());
    }

    #[test]
    fn the_demos_help_documents_its_summary() {
        let mut command = Arguments::command();
        let demo = command.find_subcommand_mut("demo").unwrap();
        insta::assert_snapshot!(demo.render_help());
    }
}
