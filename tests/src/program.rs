//! Heddle's own programs, as they were built beside the tests, and running them from outside of a world.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use heddle_local::mesh::Binaries;
use tokio::process::{Child, Command};

/// All programs of the mesh, or an error that says how to build them.
pub fn binaries() -> Result<Binaries> {
    let binaries = Binaries::beside_current_program()?;
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|program| !binaries.path(program).is_file()).collect();
    if !missing.is_empty() {
        bail!(
            "{} not found in {}: run `cargo build --workspace --bins` first, with the same profile as the tests",
            missing.join(", "),
            binaries.directory.display()
        );
    }
    Ok(binaries)
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `meshctl` to its end.
pub async fn meshctl(arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(binaries()?.path("meshctl"));
    command.args(arguments);
    finish(command, Duration::from_secs(60)).await
}

/// Runs a command to its end.
pub async fn finish(command: Command, within: Duration) -> Result<Said> {
    let text = format!("{:?}", command.as_std());
    let child = start(command)?;
    let output = tokio::time::timeout(within, child.wait_with_output())
        .await
        .with_context(|| format!("{text} has not ended within {within:?}"))??;
    Ok(Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Starts a command that is killed when nobody holds it any more.
pub fn start(mut command: Command) -> Result<Child> {
    let text = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {text}"))
}

/// A directory with copies of all programs that every user may run, so that a process of theirs can be
/// told from those of other tests, and another user can reach them.
pub fn copies(into: &Path) -> Result<PathBuf> {
    let binaries = binaries()?;
    let directory = into.join("programs");
    std::fs::create_dir(&directory)?;
    for program in PROGRAMS {
        let (from, to) = (binaries.path(program), directory.join(program));
        // A link costs nothing, where the file system allows it.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(directory)
}

const PROGRAMS: [&str; 4] = ["heddle-local", "heddle-proxy", "heddle-control-plane", "meshctl"];
