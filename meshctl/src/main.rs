//! Starts meshctl: reads the arguments, runs one command, turns its end into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use meshctl::arguments::Arguments;
use meshctl::run::{self, Ending};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(run::run(arguments))),
        Err(error) => Err(meshctl::failure::Failure::new(
            "cannot start",
            "raise the limits of threads and open files (`ulimit -u`, `ulimit -n`)",
        )
        .because(&error)),
    };
    match ended {
        Ok(Ending::Good) => ExitCode::SUCCESS,
        Ok(Ending::CheckFailed) => ExitCode::from(3),
        Ok(Ending::NotServed) => ExitCode::from(4),
        Ok(Ending::Lost) => ExitCode::from(1),
        Err(failure) => {
            // Nobody may be reading; the exit code still tells.
            let _ = writeln!(std::io::stderr().lock(), "error: {failure}");
            ExitCode::from(1)
        }
    }
}
