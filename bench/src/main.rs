//! Starts the harness: reads the command line and runs one command. Most commands are for the harness itself, which
//! starts this program again inside of the world's namespaces.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use heddle_bench::arguments::{Arguments, Command};
use heddle_bench::{instructions, load, relay, render, run, serve, wire};

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be reading; the exit code still tells.
            let _ = writeln!(std::io::stderr().lock(), "heddle-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread each: what makes load or takes it is not to compete with what is measured for more than one core.
fn execute(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Run(arguments) => runtime.block_on(Box::pin(run::run(arguments))),
        Command::Render(arguments) => render::render(&arguments.folder()),
        Command::Instructions(arguments) => {
            runtime.block_on(Box::pin(instructions::count(&arguments)))
        }
        Command::Serve => runtime.block_on(serve::serve()),
        Command::Counted => runtime.block_on(serve::print_counts()),
        Command::Load { plan } => runtime.block_on(Box::pin(load::print(&plan))),
        Command::Relay(arguments) => runtime.block_on(relay::relay(&arguments)),
        Command::WatchWire(arguments) => wire::watch(&arguments),
    }
}
