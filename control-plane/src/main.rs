//! `heddle-control-plane`: reads the settings, runs, drains on SIGTERM.

use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use heddle_control_plane::app;
use heddle_control_plane::config::{Config, Typed};
use heddle_runtime::settings::BadSettings;
use heddle_runtime::tasks::{DrainOutcome, Tasks};
use heddle_runtime::{logging, signals};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "logging may not be set up yet")]
            {
                eprintln!("heddle-control-plane: {error:#}");
            }
            ExitCode::from(if error.is::<BadSettings>() { USAGE } else { FAILED })
        }
    }
}

fn run() -> anyhow::Result<()> {
    let config = Config::new(Typed::parse())?;
    logging::init(&without_echoes(&config.log), config.log_format)?;
    if let Err(error) = allow_descriptors() {
        warn!(%error, "the limit on open files cannot be raised; fewer proxies can connect");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config))
}

/// The client of the API server logs every failed request as an error of its own, and whoever made the request
/// logs it too, and says what follows. Whoever asks for the client's lines gets them.
fn without_echoes(filter: &str) -> String {
    match filter.contains(API_CLIENT) {
        true => filter.to_owned(),
        false => format!("{filter},{API_CLIENT}=off"),
    }
}

/// Every proxy is a connection, and what shells and service managers allow by default is few.
fn allow_descriptors() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let grace = config.drain_grace;
    let mut terminated = pin!(signals::terminated());
    let running = tokio::select! {
        running = app::start(config, &tasks) => Some(running?),
        signal = &mut terminated => {
            signal.context("cannot wait for signals")?;
            None
        }
    };
    let broken = match running {
        // Asked to end before it had begun.
        None => false,
        Some(running) => tokio::select! {
            signal = &mut terminated => {
                signal.context("cannot wait for signals")?;
                false
            }
            () = running.broken.cancelled() => true,
        },
    };
    info!("draining");
    match tasks.shutdown(grace).await {
        DrainOutcome::Finished => info!("ended"),
        DrainOutcome::Aborted { tasks } => warn!(tasks, "ended; some tasks did not finish in time"),
    }
    // Whoever started us is to start us again.
    anyhow::ensure!(!broken, "a task ended that must not; the log says which");
    Ok(())
}

/// As log lines name it.
const API_CLIENT: &str = "kube_client";
/// The exit code of a control plane that could not do what it was asked to.
const FAILED: u8 = 1;
/// The exit code of one that was not asked for something sensible; a service manager need not try again.
const USAGE: u8 = 2;
