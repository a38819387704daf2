//! The command line of the proxy: `heddle-proxy run` and `heddle-proxy redirect`.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};
use heddle_proxy::app;
use heddle_proxy::config::{self, Config};
use heddle_proxy::redirect::command::{self as redirect, RedirectArguments};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let outcome = match matches.subcommand() {
        Some((REDIRECT, matches)) => RedirectArguments::from_arg_matches(matches)
            .map_err(anyhow::Error::from)
            .and_then(|arguments| Ok(redirect::run(arguments, &mut std::io::stdout().lock())?)),
        Some((RUN, matches)) => match Config::read(matches) {
            Ok(config) => run(config),
            Err(bad) => return fail(USAGE, &bad),
        },
        Some(_) | None => Err(anyhow::anyhow!("no such command")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format_args!("{error:#}")),
    }
}

fn command() -> Command {
    let run = config::command(RUN).about("Takes a workload's traffic, and encrypts and routes it");
    let redirect = RedirectArguments::augment_args(Command::new(REDIRECT))
        .about("Redirects the traffic of this network namespace to the proxy, and ends");
    Command::new("heddle-proxy")
        .about("Heddle's data plane")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run)
        .subcommand(redirect)
}

fn run(config: Config) -> anyhow::Result<()> {
    let mut runtime = match config.workers {
        // Alone, it has nobody to share its tasks with, and nobody to wake.
        1 => Builder::new_current_thread(),
        workers => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(workers);
            runtime
        }
    };
    runtime.enable_all().build()?.block_on(app::run(config))?;
    Ok(())
}

/// Logging may not be set up yet, and whoever started the process reads its standard error.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    // When standard error is closed nobody can be told.
    let _ = writeln!(std::io::stderr().lock(), "heddle-proxy: {error}");
    ExitCode::from(code)
}

const RUN: &str = "run";
const REDIRECT: &str = "redirect";
/// The exit code of a command that could not do what it was asked to.
const FAILED: u8 = 1;
/// The exit code of a command that was not asked for something sensible.
const USAGE: u8 = 2;
