//! Starts the harness: reads the command line and runs one command. Most commands are for the harness itself, which
//! starts this program again inside of the world's namespaces.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use heddle_bench::arguments::{Arguments, Command};
use heddle_bench::{control_plane, instructions, load, relay, render, run, serve, wire};

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

/// One thread each: what makes load or takes it is not to compete with what is measured for more than one core. A
/// thousand proxies are more than one thread is to be.
fn execute(command: Command) -> anyhow::Result<()> {
    let mut builder = match &command {
        Command::ControlPlane(_) => tokio::runtime::Builder::new_multi_thread(),
        Command::Run(_)
        | Command::Render(_)
        | Command::Instructions(_)
        | Command::Serve
        | Command::Counted
        | Command::Load { .. }
        | Command::Relay(_)
        | Command::WatchWire(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    match command {
        Command::Run(arguments) => runtime.block_on(Box::pin(run::run(arguments))),
        Command::Render(arguments) => render::render(&arguments.folder()),
        Command::Instructions(arguments) => {
            runtime.block_on(Box::pin(instructions::count(&arguments)))
        }
        Command::ControlPlane(arguments) => {
            runtime.block_on(Box::pin(control_plane::measure(arguments)))
        }
        Command::Serve => runtime.block_on(serve::serve()),
        Command::Counted => runtime.block_on(serve::print_counts()),
        Command::Load { plan } => runtime.block_on(Box::pin(load::print(&plan))),
        Command::Relay(arguments) => runtime.block_on(relay::relay(&arguments)),
        Command::WatchWire(arguments) => wire::watch(&arguments),
    }
}
