//! What every part of the supervisor needs to know of the world it is in. Read once, never changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::confine::{Confinement, Keep};
use crate::manifests::addresses::Families;
use crate::manifests::pod::RunAs;
use crate::mesh::{ControlPlane, MeshConfig};
use crate::state_directory::StateDirectory;

/// The world's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the world was asked for.
    pub config: MeshConfig,
    /// Where its files are.
    pub state: StateDirectory,
    /// Whether it is in a user namespace with a single user.
    pub user_namespace: bool,
    /// The families of addresses of this machine.
    pub families: Families,
    program: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

/// A program to run, and how.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its own variables; it gets [`PASSED_ON`] besides, and nothing else of whoever started the world.
    pub variables: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
    /// What it may do.
    pub keep: Keep,
    /// As whom.
    pub user: Option<RunAs>,
    /// Whether the world's own files are hidden from it.
    pub hide_state: bool,
}

impl Settings {
    /// Reads the settings of the world in this state directory.
    pub fn read(state: StateDirectory, user_namespace: bool) -> std::io::Result<Self> {
        let config: MeshConfig = serde_json::from_slice(&std::fs::read(state.config())?)?;
        let has_v6 = Path::new("/proc/sys/net/ipv6/conf/all").exists();
        let variables = variables(&config.binaries.directory);
        let families = if has_v6 { Families::V4AndV6 } else { Families::V4 };
        let program = std::env::current_exe()?;
        Ok(Self { config, state, user_namespace, families, program, variables })
    }

    /// Whether proxies stand beside workloads at all.
    pub fn has_mesh(&self) -> bool {
        self.config.control_plane == ControlPlane::Run
    }

    /// The command that runs a program in the namespaces of the thread that spawns it, in a process group of its own.
    pub fn command(&self, program: &Program) -> Command {
        let confinement = Confinement {
            keep: program.keep,
            user: program.user,
            user_namespace: self.user_namespace,
            hide: program.hide_state.then(|| self.state.path().to_owned()),
            directory: program.directory.clone(),
        };
        let mut command = Command::new(&self.program);
        command.arg("exec");
        command.arg("--keep").arg(match confinement.keep {
            Keep::Nothing => "nothing",
            Keep::LowPorts => "low-ports",
            Keep::NetworkAdministration => "network-administration",
            Keep::Everything => "everything",
        });
        if let Some(RunAs { user, group }) = confinement.user {
            command.arg("--user").arg(user.to_string()).arg("--group").arg(group.to_string());
        }
        if confinement.user_namespace {
            command.arg("--user-namespace");
        }
        if let Some(hide) = &confinement.hide {
            command.arg("--hide").arg(hide);
        }
        command.arg("--directory").arg(&confinement.directory).arg("--").args(&program.argv);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(program.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// One of the mesh's own programs.
    pub fn binary(&self, name: &str) -> String {
        self.config.binaries.path(name).to_string_lossy().into_owned()
    }
}

fn variables(binaries: &Path) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)))
        .collect();
    let mut path = OsString::from(binaries);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
    variables.push(("PATH".into(), path));
    variables
}

/// The variables that programs get of whoever started the world, besides `PATH`: where files are, and in which language.
pub const PASSED_ON: [&str; 8] =
    ["HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RUST_BACKTRACE"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
