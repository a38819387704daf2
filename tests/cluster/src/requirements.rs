//! What a machine must have for a cluster, and how it gets it.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::worker::CNI_PROGRAMS;

/// Fails with everything that is missing, and the command that would help.
pub fn check() -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "a cluster takes root: it makes namespaces, mounts and cgroups"
    );
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| {
            !FOLDERS.iter().any(|folder| Path::new(folder).join(program).exists())
        })
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI_PROGRAMS).join("ptp").exists() {
        missing.push("containernetworking-plugins");
    }
    missing.dedup();
    ensure!(
        missing.is_empty(),
        "missing: {0}\n  apt-get install --no-install-recommends {0}",
        missing.join(" ")
    );
    Ok(())
}

/// Programs, and Debian's packages with them.
const PROGRAMS: [(&str, &str); 10] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("etcd", "etcd-server"),
    ("busybox", "busybox-static"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("strip", "binutils"),
];
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
