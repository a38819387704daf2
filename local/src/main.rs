//! The processes that a world consists of. These subcommands are for [`heddle_local::mesh::Mesh`] to start, in this
//! order; people use `meshctl local`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use heddle_local::confine::{Confinement, Keep};
use heddle_local::manifests::pod::RunAs;

/// The inner parts of a local mesh. Not for use by hand: see `meshctl local up`.
#[derive(Parser)]
#[command(name = "heddle-local", version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Makes the namespaces and cleans up.
    World {
        #[arg(long)]
        state_directory: PathBuf,
    },
    /// The first process of the PID namespace.
    Init {
        #[arg(long)]
        state_directory: PathBuf,
        #[arg(long)]
        user_namespace: bool,
    },
    /// Runs the workloads.
    Supervisor {
        #[arg(long)]
        state_directory: PathBuf,
        #[arg(long)]
        user_namespace: bool,
    },
    /// Becomes a program with fewer rights.
    Exec {
        #[arg(long, value_enum)]
        keep: Keep,
        #[arg(long, requires = "group")]
        user: Option<u32>,
        #[arg(long)]
        group: Option<u32>,
        #[arg(long)]
        user_namespace: bool,
        #[arg(long)]
        hide: Option<PathBuf>,
        #[arg(long)]
        directory: PathBuf,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().part {
        Part::World { state_directory } => heddle_local::world::run(&state_directory),
        Part::Init { state_directory, user_namespace } => {
            heddle_local::init::run(&state_directory, user_namespace)
        }
        Part::Supervisor { state_directory, user_namespace } => {
            heddle_local::supervisor::run(&state_directory, user_namespace)
        }
        Part::Exec { keep, user, group, user_namespace, hide, directory, argv } => {
            let user = user.zip(group).map(|(user, group)| RunAs { user, group });
            let confinement = Confinement { keep, user, user_namespace, hide, directory };
            heddle_local::confine::run(&confinement, &argv)
        }
    }
}
