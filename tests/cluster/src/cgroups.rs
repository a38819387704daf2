//! The cgroups that everything of a cluster is below: one of the cluster's name in every hierarchy, and in it one for
//! each node. They are all that the kernel does not remove with the namespaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::directory::Directory;

/// Makes the cgroup of a node in every hierarchy that processes are limited by.
pub fn create(directory: &Directory, node: u8) -> Result<()> {
    let all = hierarchies()?;
    // Beside those of the first version, the unified one limits nothing.
    let only_unified = all.iter().all(|hierarchy| hierarchy.unified);
    for hierarchy in all.into_iter().filter(|hierarchy| only_unified || !hierarchy.unified) {
        if hierarchy.unified {
            delegate(&hierarchy.path)?;
        }
        let mut path = hierarchy.path;
        for part in [directory.cgroup(), format!("node{node}")] {
            let parent = path.clone();
            path = path.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            if hierarchy.unified {
                delegate(&path)?;
            }
            // cpuset.7: a new cgroup of the first version has no processor and no memory, and takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if !hierarchy.unified && parent.join(file).exists() {
                    let value = fs::read(parent.join(file))?;
                    fs::write(path.join(file), value)
                        .with_context(|| format!("write {}", path.join(file).display()))?;
                }
            }
        }
    }
    Ok(())
}

/// The name that the kubelet of a node knows its cgroup by.
pub fn of_node(directory: &Directory, node: u8) -> String {
    format!("/{}/node{node}", directory.cgroup())
}

/// Removes the cgroups of a cluster whose processes have ended, or are about to.
pub fn remove(directory: &Directory) -> Result<()> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.path.join(directory.cgroup());
        let mut rounds = REMOVAL_ROUNDS;
        // A process that was killed leaves its cgroup a little later than it is gone from the list of processes.
        while let Err(error) = remove_tree(&top) {
            rounds -= 1;
            if rounds == 0 {
                return Err(error).with_context(|| format!("remove the cgroup {}", top.display()));
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

struct Hierarchy {
    path: PathBuf,
    unified: bool,
}

/// Where the hierarchies of processes are mounted.
fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let hierarchy = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let path = PathBuf::from(fields.get(1)?);
        let unified = match *fields.get(2)? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        path.starts_with("/sys/fs/cgroup").then_some(Hierarchy { path, unified })
    };
    Ok(mounts.lines().filter_map(hierarchy).collect())
}

/// Lets the cgroups below have what this one has.
fn delegate(path: &Path) -> Result<()> {
    let file = path.join("cgroup.subtree_control");
    let controllers = fs::read_to_string(path.join("cgroup.controllers"))
        .with_context(|| format!("read the controllers of {}", path.display()))?;
    for controller in controllers.split_whitespace() {
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("write +{controller} to {}", file.display()))?;
    }
    Ok(())
}

const REMOVAL_ROUNDS: u32 = 200;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);
