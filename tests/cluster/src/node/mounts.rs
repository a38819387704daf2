//! What a node's processes see of this machine's files: everything, but folders of their own where they write.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use crate::directory::Directory;
use crate::worker::{FOLDER, RESOLV_CONF};

/// Makes the mounts of a node in the mount namespace of this process.
pub fn make(directory: &Directory, number: u8) -> Result<()> {
    set_propagation(MsFlags::MS_PRIVATE)?;
    let own = directory.node(number);
    for (folder, name) in OWN_FOLDERS {
        let by = own.join(name);
        fs::create_dir_all(&by).with_context(|| format!("make {}", by.display()))?;
        bind(&by, Path::new(folder))?;
    }
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))
        .context("mount /run")?;
    fs::create_dir_all(FOLDER)?;
    fs::write(RESOLV_CONF, "")?;
    // The machine's may name a server that cannot be reached from here, and lookups would hang.
    bind(Path::new(RESOLV_CONF), Path::new("/etc/resolv.conf"))?;
    pretend_kernel_settings()?;
    // Volumes are mounted by one process and used by containers, which have mount namespaces of their own.
    set_propagation(MsFlags::MS_SHARED)
}

/// The kubelet sets what it wants of the kernel unless it is set already, and these settings are the whole machine's: it
/// finds them as it wants them.
fn pretend_kernel_settings() -> Result<()> {
    for (name, value) in KERNEL_SETTINGS {
        let setting = Path::new("/proc/sys").join(name);
        if setting.exists() {
            let file = Path::new(FOLDER).join(name.replace('/', "."));
            fs::write(&file, value)?;
            bind(&file, &setting)?;
        }
    }
    Ok(())
}

fn bind(by: &Path, at: &Path) -> Result<()> {
    mount(Some(by), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("put {} in the place of {}", by.display(), at.display()))
}

fn set_propagation(kind: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
        .context("say who sees the node's mounts")
}

const OWN_FOLDERS: [(&str, &str); 2] = [("/var/lib", "lib"), ("/var/log", "log")];
/// Source: `setupKernelTunables` of the kubelet's container manager.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
