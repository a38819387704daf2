//! The program in the pods of the conformance suite. What it is called decides what it does: `server` or
//! `client`; or else its first argument.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::Parser;
use heddle_cluster::echo::{self, client, server};
use heddle_runtime::tasks::Tasks;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
enum Arguments {
    /// Serves until it is terminated
    Server(server::Settings),
    /// Sends requests and prints the answers
    Client(client::Settings),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let tasks = Tasks::new();
    match Arguments::parse_from(with_name(std::env::args_os().collect())) {
        Arguments::Server(settings) => {
            // Process 1 of a container ignores the signal unless it asks for it.
            let mut terminated = signal(SignalKind::terminate())?;
            for address in server::serve(&settings, &echo::hostname()?, &tasks).await? {
                writeln!(std::io::stdout(), "listening on {address}")?;
            }
            terminated.recv().await;
            Ok(())
        }
        Arguments::Client(settings) => {
            client::run(&settings, &tasks, &mut std::io::stdout().lock()).await
        }
    }
}

/// Puts the name of the program among its arguments where it is the name of a command.
fn with_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|first| Path::new(first).file_name());
    let name = name.filter(|name| COMMANDS.iter().any(|command| *command == *name));
    if let Some(name) = name.map(ToOwned::to_owned) {
        arguments.insert(1, name);
    }
    arguments
}

const COMMANDS: [&str; 2] = ["server", "client"];
