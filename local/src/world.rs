//! The outermost process of a world: makes its namespaces, starts the first process in them, and cleans up after it.
//!
//! It has one thread, and so its end is the end of the world: the first process inside asks the kernel for that
//! (`PR_SET_PDEATHSIG`), and when the first process of a PID namespace ends, the kernel kills all others in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid};

use crate::mesh::MeshConfig;
use crate::protocol::Announcement;
use crate::state_directory::StateDirectory;

/// Runs the world whose configuration is in `state_directory` until it ends.
pub fn run(state_directory: &Path) -> ExitCode {
    let state = StateDirectory::new(state_directory);
    let outcome = begin(&state).and_then(|(child, _lock)| wait(child));
    match outcome {
        Ok(()) => {}
        Err(error) => {
            eprintln!("heddle-local: {error}: {}", error.source);
            announce(&error.announcement());
        }
    }
    // Whoever started it reads the log first, if that was all that there ever was of this world.
    match state.remove() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle-local: cannot remove {}: {error}", state.path().display());
            ExitCode::FAILURE
        }
    }
}

/// Says how it went, to whoever started the world.
pub(crate) fn announce(announcement: &Announcement) {
    let mut line = serde_json::to_string(announcement).unwrap_or_default();
    line.push('\n');
    // Nobody may be there to read it any more, which changes nothing.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
}

fn begin(state: &StateDirectory) -> Result<(Child, File), WorldError> {
    let failed = |attempted| move |source: io::Error| WorldError { attempted, source };
    let text = std::fs::read(state.config()).map_err(failed("read world.json"))?;
    let config: MeshConfig =
        serde_json::from_slice(&text).map_err(|error| failed("read world.json")(error.into()))?;
    let lock =
        state.lock_living().map_err(|error| failed("lock the state directory")(error.into()))?;
    if config.detach {
        nix::unistd::setsid().map_err(|errno| failed("leave the session")(errno.into()))?;
    }
    signals_of_interest()
        .thread_block()
        .map_err(|errno| failed("hold back signals")(errno.into()))?;
    let user_namespace = !may_make_namespaces();
    make_namespaces(user_namespace)?;
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    let mut command = Command::new(program);
    command.arg("init").arg("--state-directory").arg(state.path());
    if user_namespace {
        command.arg("--user-namespace");
    }
    // Inherits the pipe from the owner as its standard input, and the one to it as its standard output.
    let child = command.spawn().map_err(failed("start the first process"))?;
    Ok((child, lock))
}

fn make_namespaces(user_namespace: bool) -> Result<(), WorldError> {
    let (user, group) = (Uid::effective(), Gid::effective());
    let refused = |attempted| move |errno: Errno| WorldError { attempted, source: errno.into() };
    if user_namespace {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(refused("make a user namespace"))?;
        map_identity(0, user.as_raw(), 0, group.as_raw())
            .map_err(|source| WorldError { attempted: "map the user", source })?;
    }
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(kinds).map_err(refused("make namespaces"))?;
    keep_mounts_private().map_err(refused("keep mounts to itself"))
}

/// No mount that is made from here on is seen outside.
pub(crate) fn keep_mounts_private() -> nix::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
}

/// Maps one user and one group of the parent user namespace into a new one, which the caller has just entered.
pub(crate) fn map_identity(user: u32, as_user: u32, group: u32, as_group: u32) -> io::Result<()> {
    // user_namespaces(7): a process may map its own group only where it has given up setgroups(2).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {as_user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {as_group} 1"))
}

/// Waits for the end of the world, and passes a request to end on to its first process.
fn wait(mut child: Child) -> Result<(), WorldError> {
    let failed = |source| WorldError { attempted: "wait for the first process", source };
    let init = i32::try_from(child.id()).map(Pid::from_raw).ok();
    while child.try_wait().map_err(failed)?.is_none() {
        let signal = signals_of_interest().wait().map_err(|errno| failed(errno.into()))?;
        if let (true, Some(init)) = (signal != Signal::SIGCHLD, init) {
            // An error means that it has ended, which is what was asked for.
            let _ = nix::sys::signal::kill(init, Signal::SIGTERM);
        }
    }
    Ok(())
}

/// The signals that the two outer processes wait for.
pub(crate) fn signals_of_interest() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Whether no user namespace is needed: root, but not the root of a container that may do nothing.
fn may_make_namespaces() -> bool {
    [caps::Capability::CAP_SYS_ADMIN, caps::Capability::CAP_NET_ADMIN]
        .into_iter()
        .all(|capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {attempted}")]
struct WorldError {
    attempted: &'static str,
    source: io::Error,
}

impl WorldError {
    fn announcement(&self) -> Announcement {
        let reason = format!("{self}: {}", self.source);
        let errno = self.source.raw_os_error().map(Errno::from_raw);
        // ENOSPC is the answer of user.max_user_namespaces.
        let forbidden = matches!(
            errno,
            Some(Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::ENOSYS | Errno::EINVAL)
        );
        if forbidden { Announcement::Forbidden { reason } } else { Announcement::Failed { reason } }
    }
}
