//! `heddle-injector`: reads the settings, runs, drains on SIGTERM.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use heddle_injector::app;
use heddle_injector::config::{Config, Typed};
use heddle_runtime::logging;
use heddle_runtime::logging::Chain;
use heddle_runtime::settings::BadSettings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "logging may not be set up yet")]
            {
                eprintln!("heddle-injector: {}", Chain(error.as_ref()));
            }
            ExitCode::from(if error.is::<BadSettings>() { USAGE } else { FAILED })
        }
    }
}

fn run() -> anyhow::Result<()> {
    let config = Config::new(Typed::parse())?;
    logging::init(&config.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(app::run(config))?;
    Ok(())
}

/// The exit code of an injector that could not do what it was asked to.
const FAILED: u8 = 1;
/// The exit code of one that was not asked for something sensible.
const USAGE: u8 = 2;
