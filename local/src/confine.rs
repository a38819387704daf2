//! Turns the current process into an application, a proxy or another program, with no more rights than it needs.
//!
//! It is started in the right network and mount namespace already, has one thread, and ends by becoming the program.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use caps::{CapSet, Capability, CapsHashSet};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::init::take_all_signals;
use crate::manifests::pod::RunAs;
use crate::world::{keep_mounts_private, map_identity};

/// What a program may do, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The capabilities that it keeps.
    pub keep: Keep,
    /// The user it becomes; `None`: it stays the world's own.
    pub user: Option<RunAs>,
    /// Whether the world is in a user namespace with one user in it, so that any other needs one more namespace.
    pub user_namespace: bool,
    /// A directory that it is not to see: the world's keys and tokens, which as the world's own user it could read.
    pub hide: Option<PathBuf>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// The capabilities that a program keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// None: it can neither undo the redirect nor mark its traffic as the proxy's.
    Nothing,
    /// `CAP_NET_BIND_SERVICE`, for the control plane. It does not need it, but ptrace(2) and `/proc/PID/root` are closed to
    /// processes with fewer capabilities, and it sees the files that are hidden from applications.
    LowPorts,
    /// `CAP_NET_ADMIN`: the proxy marks its own connections.
    NetworkAdministration,
    /// All that the world has.
    Everything,
}

/// Becomes `argv`. Returns only when that fails, with the exit code that a shell would give.
pub fn run(confinement: &Confinement, argv: &[String]) -> ExitCode {
    let Some((program, arguments)) = argv.split_first() else {
        eprintln!("heddle-local: no program to run");
        return ExitCode::FAILURE;
    };
    if let Err(error) = apply(confinement) {
        eprintln!("heddle-local: cannot confine {program}: {error:#}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("heddle-local: cannot run {program}: {error}");
    let code =
        if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    ExitCode::from(code)
}

fn apply(confinement: &Confinement) -> anyhow::Result<()> {
    use anyhow::Context as _;

    take_all_signals()?;
    if let Some(path) = &confinement.hide {
        unshare(CloneFlags::CLONE_NEWNS)?;
        keep_mounts_private()?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("none"), path, Some("tmpfs"), flags, Some("size=4k,mode=0755"))
            .with_context(|| format!("hide {}", path.display()))?;
    }
    let directory = &confinement.directory;
    std::env::set_current_dir(directory)
        .with_context(|| format!("enter the directory {}", directory.display()))?;
    if let (Some(RunAs { user, group }), true) = (confinement.user, confinement.user_namespace) {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map_identity(user, 0, group, 0).context("map runAsUser")?;
    }
    let keep: CapsHashSet = match confinement.keep {
        Keep::Nothing => CapsHashSet::new(),
        Keep::LowPorts => [Capability::CAP_NET_BIND_SERVICE].into_iter().collect(),
        Keep::NetworkAdministration => [Capability::CAP_NET_ADMIN].into_iter().collect(),
        Keep::Everything => caps::read(None, CapSet::Permitted)?,
    };
    // A root's execve(2) takes every capability of the bounding set, so that set has to shrink first.
    for capability in caps::read(None, CapSet::Bounding)?.difference(&keep) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    if let (Some(RunAs { user, group }), false) = (confinement.user, confinement.user_namespace) {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        setgroups(&[]).context("leave its groups")?;
        setresgid(group, group, group).context("take runAsGroup")?;
        setresuid(user, user, user).context("take runAsUser")?;
    }
    if confinement.keep != Keep::Everything {
        caps::clear(None, CapSet::Ambient)?;
        caps::clear(None, CapSet::Inheritable)?;
        let permitted = caps::read(None, CapSet::Permitted)?;
        let keep: CapsHashSet = permitted.intersection(&keep).copied().collect();
        caps::set(None, CapSet::Effective, &keep)?;
        caps::set(None, CapSet::Permitted, &keep)?;
        // No program with a set-user-ID bit gives back what was just given up.
        nix::sys::prctl::set_no_new_privs()?;
    }
    Ok(())
}

/// As a shell says that there is no such program.
const NOT_FOUND: u8 = 127;
/// As a shell says that it cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
