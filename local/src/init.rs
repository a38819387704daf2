//! The first process of a world's PID namespace: buries the dead and lives as long as the supervisor does.
//!
//! It is a process of its own because the supervisor waits for each of its children by name, and the children of others,
//! which become this process's when their parents end, must be waited for too.

use std::path::Path;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::world::signals_of_interest;

/// Runs until the supervisor ends; then the kernel ends everything else in this namespace.
pub fn run(state_directory: &Path, user_namespace: bool) -> ExitCode {
    match supervise(state_directory, user_namespace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle-local: the first process failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(state_directory: &Path, user_namespace: bool) -> std::io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>) {
        // Within containers that hide parts of /proc. Nothing here relies on more than /proc/self and /proc/thread-self,
        // which are right in an inherited /proc too.
        eprintln!("heddle-local: no /proc of its own: {error}; processes see those of the machine");
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("supervisor").arg("--state-directory").arg(state_directory);
    if user_namespace {
        command.arg("--user-namespace");
    }
    let supervisor = command.spawn()?;
    let supervisor =
        i32::try_from(supervisor.id()).map(Pid::from_raw).map_err(std::io::Error::other)?;
    signals_of_interest().thread_block()?;
    loop {
        if bury(supervisor)? {
            return Ok(());
        }
        if signals_of_interest().wait()? != Signal::SIGCHLD {
            kill(supervisor, Signal::SIGTERM)?;
        }
    }
}

/// Waits for all that have ended; true when the supervisor is among them.
fn bury(supervisor: Pid) -> nix::Result<bool> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(false),
            Ok(status) if status.pid() == Some(supervisor) => return Ok(true),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes every signal again: the mask that the outer processes wait with is inherited.
pub(crate) fn take_all_signals() -> nix::Result<()> {
    SigSet::empty().thread_set_mask()
}
