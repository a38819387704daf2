//! A cluster that ended, in whichever way, has left nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::binaries::Source;
use heddle_cluster::cluster::{self, Cluster};
use heddle_cluster::directory::{Directory, Name};
use heddle_cluster::wait;
use tokio::process::Command;

use super::shared;

const NAME: &str = "leftovers";

/// What one could find of a cluster on a machine: processes, mounts, links, cgroups and files.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    links: String,
    cgroups: BTreeSet<String>,
    files: BTreeSet<String>,
    settings: String,
}

impl Machine {
    async fn look() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let listed = BTreeSet::from_iter(mounts.lines().map(ToOwned::to_owned));
        let mut cgroups = BTreeSet::new();
        for hierarchy in children(Path::new("/sys/fs/cgroup"))? {
            cgroups.extend(named_after_a_cluster(Path::new(&hierarchy))?);
        }
        let mut files = BTreeSet::new();
        for place in PLACES.iter().filter(|place| Path::new(place).exists()) {
            files.insert((*place).to_owned());
            files.extend(children(Path::new(place))?);
        }
        let settings = SETTINGS.map(|name| std::fs::read_to_string(name).unwrap_or_default());
        Ok(Self {
            processes: processes()?,
            mounts: listed,
            links: printed("ip", &["-brief", "link"]).await?,
            cgroups,
            files,
            settings: settings.join(" "),
        })
    }
}

/// Where a node's programs would write if they had no folders of their own, and where the cluster keeps its files.
const PLACES: [&str; 16] = [
    "/etc/cni",
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/kubernetes",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/tmp/heddle-cluster-leftovers",
];
/// What the kubelet and kube-proxy would set for the whole machine.
const SETTINGS: [&str; 5] = [
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/netfilter/nf_conntrack_max",
];

fn children(folder: &Path) -> Result<BTreeSet<String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(BTreeSet::new()) };
    entries.map(|entry| Ok(entry?.path().display().to_string())).collect()
}

fn named_after_a_cluster(folder: &Path) -> Result<BTreeSet<String>> {
    let ours = format!("heddle-cluster-{NAME}");
    Ok(children(folder)?.into_iter().filter(|path| path.ends_with(&ours)).collect())
}

/// Those that are part of this cluster, or that only clusters have.
fn processes() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for process in children(Path::new("/proc"))? {
        // One that ends meanwhile is not there.
        let command = std::fs::read(format!("{process}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&format!("heddle-cluster-{NAME}")) {
            found.insert(format!("{process}: {command}"));
        }
    }
    Ok(found)
}

async fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().await?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

async fn started() -> Result<Cluster> {
    let options = shared::options(NAME, &Source::None).await?;
    let cluster = Box::pin(Cluster::start(shared::program(), options)).await?;
    let run = ["run", "sleeper", "--image=busybox:1", "--", "sleep", "100000"];
    cluster.kubectl(&run, "").await?;
    let wait = ["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s"];
    cluster.kubectl(&wait, "").await?;
    Ok(cluster)
}

#[tokio::test]
async fn a_cluster_leaves_nothing_however_it_ends() -> Result<()> {
    let name: Name = NAME.parse()?;
    cluster::end(&name).await?;
    let before = Machine::look().await?;
    ensure!(before.cgroups.is_empty() && before.processes.is_empty(), "{before:?}");

    let cluster = Box::pin(started()).await?;
    let during = Machine::look().await?;
    ensure!(!during.cgroups.is_empty() && !during.processes.is_empty(), "{during:?}");
    let second = shared::options(NAME, &Source::None).await?;
    let refused = Box::pin(Cluster::start(shared::program(), second)).await;
    let error = refused.err().context("a second cluster of the same name was started")?;
    ensure!(error.to_string().contains("is up already"), "{error:#}");
    cluster.end().await?;
    assert_eq!(Machine::look().await?, before, "after it was ended");

    // Its starter is gone.
    drop(Box::pin(started()).await?);
    gone(&before, "after its starter had gone").await?;

    let cluster = Box::pin(started()).await?;
    let process = std::fs::read_to_string(Directory::new(&name)?.process())?;
    printed("kill", &["-KILL", &process]).await?;
    wait::until("all processes have ended", Duration::from_secs(30), async || {
        let left = processes()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    drop(cluster);
    cluster::end(&name).await?;
    assert_eq!(Machine::look().await?, before, "after it was killed and cleaned up");
    Ok(())
}

/// The programs, with one that does nothing but fail.
fn with_a_broken_scheduler(programs: &Path, folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(programs)? {
        let entry = entry?;
        let at = folder.join(entry.file_name());
        if entry.file_name() == "kube-scheduler" {
            std::fs::write(&at, "#!/bin/sh\necho out of luck >&2\nexit 3\n")?;
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755))?;
        } else {
            std::os::unix::fs::symlink(entry.path(), &at)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_does_not_start_says_why_and_leaves_nothing() -> Result<()> {
    let name: Name = "unlucky".parse()?;
    let programs = tempfile::tempdir()?;
    let mut options = shared::options("unlucky", &Source::None).await?;
    with_a_broken_scheduler(&options.programs, programs.path())?;
    options.programs = programs.path().to_owned();
    let outcome = Box::pin(Cluster::start(shared::program(), options)).await;
    let error = format!("{:#}", outcome.err().context("it started")?);
    for wanted in ["kube-scheduler on node1", "exit status: 3", "out of luck"] {
        ensure!(error.contains(wanted), "no {wanted:?} in: {error}");
    }
    let directory = Directory::new(&name)?;
    ensure!(!directory.path().exists(), "{} is there", directory.path().display());
    ensure!(directory.try_lock()?.is_some(), "the lock is held");
    Ok(())
}

async fn gone(before: &Machine, when: &str) -> Result<()> {
    wait::until(when, Duration::from_secs(30), async || {
        let now = Machine::look().await?;
        ensure!(now == *before, "{now:?} is not {before:?}");
        Ok(())
    })
    .await
}
