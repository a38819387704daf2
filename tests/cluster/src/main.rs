//! A real Kubernetes for tests: up, down, and what one wants of it in between.

mod arguments;
mod commands;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use heddle_cluster::directory::{Directory, Name};
use heddle_cluster::options::Options;
use heddle_cluster::{dns, node, supervisor, world};
use nix::sys::signal::SigSet;

use arguments::{Arguments, Command, Part};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Part(Part::World { options }) => match Options::from_json(&options) {
            Ok(options) => return world::run(&options),
            Err(error) => Err(error),
        },
        Command::Part(Part::Init { state_directory }) => match world::leave_mounts() {
            Ok(()) => return heddle_local::init::run(&state_directory, false),
            Err(error) => Err(error),
        },
        Command::Part(part) => run_part(part).map(|()| ExitCode::SUCCESS),
        Command::User(command) => run(Box::pin(commands::run(command))),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("heddle-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_part(part: Part) -> Result<()> {
    match part {
        // These two have ended before there was anything to run.
        Part::World { .. } | Part::Init { .. } => Ok(()),
        Part::Supervisor { state_directory } => {
            // The first process waits for them with a mask, which is inherited.
            SigSet::empty().thread_set_mask().context("take signals again")?;
            let options = supervisor::options(&state_directory)?;
            run(Box::pin(supervisor::run(options)))
        }
        Part::Node { state_directory, number } => {
            let (directory, options) = living(&state_directory)?;
            node::enter(&directory, number)?;
            run(Box::pin(node::run(directory, number, options)))
        }
        Part::Dns { listen, kubeconfig } => run(Box::pin(dns::run(listen, &kubeconfig))),
    }
}

fn living(state_directory: &Path) -> Result<(Directory, Options)> {
    let options = supervisor::options(state_directory)?;
    let name: Name = options.name()?;
    Ok((Directory::new(&name)?, options))
}

/// The first thread that there is besides the main one begins here.
fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
