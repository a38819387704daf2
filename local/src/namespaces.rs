//! Gives the current thread namespaces of its own for a workload. What it starts from then on is in them, and they last
//! as long as the thread or anything that it started. No namespace has a name that could be left behind.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::world::keep_mounts_private;

/// A file of this machine that looks different inside.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The file.
    pub file: &'static str,
    /// What is seen instead.
    pub by: PathBuf,
}

/// Enters new network, mount, IPC and host name namespaces. The network has nothing but a loopback device.
pub fn enter(host_name: &str, replacements: &[Replacement]) -> Result<(), NamespaceError> {
    let failed = |attempted: &'static str| {
        move |errno: nix::Error| NamespaceError {
            attempted: attempted.to_owned(),
            source: errno.into(),
        }
    };
    // Threads share their root and working directory, which the kernel wants undone for a mount namespace of one's own.
    let kinds = CloneFlags::CLONE_FS
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(kinds).map_err(failed("make namespaces"))?;
    keep_mounts_private().map_err(failed("keep mounts private"))?;
    set_host_name(host_name).map_err(failed("set the host name"))?;
    for Replacement { file, by } in replacements {
        // A machine without the file has programs that do without it.
        if Path::new(file).exists() {
            mount(Some(by), *file, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(
                |errno| NamespaceError {
                    attempted: format!("replace {file}"),
                    source: errno.into(),
                },
            )?;
        }
    }
    Ok(())
}

/// Sets the host name of the current thread's namespace, cut off as Kubernetes does.
pub fn set_host_name(name: &str) -> nix::Result<()> {
    let end = name.floor_char_boundary(HOST_NAME_LIMIT_BYTES);
    nix::unistd::sethostname(name.get(..end).unwrap_or_default().trim_end_matches(['-', '.']))
}

/// Sets what applications expect of the network that the current thread is in.
pub fn tune_network() {
    for (name, value) in SYSCTLS {
        let path = Path::new("/proc/sys/net").join(name);
        if path.exists()
            && let Err(error) = std::fs::write(&path, value)
        {
            // Read-only in some containers, where the rest still works.
            tracing::warn!(%error, path = %path.display(), "setting not changed");
        }
    }
}

/// The processes of this world in the network namespace of the current thread, found in a /proc of its own.
pub fn processes_in_network() -> io::Result<Vec<i32>> {
    // In an inherited /proc the numbers are those of another PID namespace, and would name other processes here.
    if std::fs::read_link("/proc/self")?.to_str() != Some(&std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let own = std::fs::read_link("/proc/thread-self/ns/net")?;
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ends meanwhile has no link any more.
        if std::fs::read_link(entry.path().join("ns/net")).is_ok_and(|network| network == own) {
            processes.push(pid);
        }
    }
    Ok(processes)
}

/// What could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempted}")]
pub struct NamespaceError {
    attempted: String,
    source: io::Error,
}

/// `HOST_NAME_MAX` less one, as Kubernetes has it: a label of the domain name system.
const HOST_NAME_LIMIT_BYTES: usize = 63;
const SYSCTLS: [(&str, &str); 5] = [
    // Applications have no capabilities, and many listen on port 80.
    ("ipv4/ip_unprivileged_port_start", "0"),
    // Some machines switch IPv6 off by default, also in new namespaces.
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    // Nobody else is on these networks: an address need not wait for others to object to it.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];
