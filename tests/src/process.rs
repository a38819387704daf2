//! Proxies as this machine sees them: how much memory they take, and limits on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::world::World;

/// The proxy of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Proxy {
    pid: i32,
}

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident_kib: u64,
    /// The most that it ever was.
    pub peak_kib: u64,
}

impl Proxy {
    /// Finds it by its arguments, which name the pod.
    pub async fn of(world: &World, workload: &str) -> Result<Self> {
        let uid = format!("--pod-uid={}", world.pod_uid(workload).await?);
        let found = std::fs::read_dir("/proc")?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = arguments.split(|byte| *byte == 0);
            let is_proxy = words.next()?.ends_with(b"heddle-proxy");
            (is_proxy && words.any(|word| word == uid.as_bytes())).then_some(Self { pid })
        });
        found.with_context(|| format!("no process with {uid}"))
    }

    /// What it takes.
    pub fn memory(self) -> Result<Memory> {
        let file = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix("kB"));
            number.and_then(|number| number.trim().parse().ok()).context(file.clone())
        };
        Ok(Memory { resident_kib: number("VmRSS:")?, peak_kib: number("VmHWM:")? })
    }

    /// The processor time that it has taken, in all of its threads.
    pub fn processor_time(self) -> Result<Duration> {
        processor_time(self.pid)
    }

    /// How many files and sockets it has open.
    pub fn open_files(self) -> Result<u64> {
        Ok(u64::try_from(std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())?)
    }

    /// Sets how many it may have open.
    pub fn limit_open_files(self, limit: u64) -> Result<()> {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};

        let pid = Pid::from_raw(self.pid).context("no process has the number 0")?;
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        prlimit(Some(pid), Resource::Nofile, limit).context("cannot set a limit of open files")?;
        Ok(())
    }

    /// Puts it into a control group of its own with that much memory; `None` where this machine does
    /// not let us make one.
    pub fn limit_memory(self, limit_bytes: u64) -> Result<Option<ControlGroup>> {
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        let mut places = groups.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            match controllers {
                "memory" => {
                    Some((Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"))
                }
                "" => Some((Path::new("/sys/fs/cgroup").join(path), "memory.max")),
                _ => None,
            }
        });
        let name = format!("heddle-test-{}", self.pid);
        Ok(places.find_map(|(place, file)| {
            let group = ControlGroup { directory: place.join(&name) };
            std::fs::create_dir(&group.directory).ok()?;
            std::fs::write(group.directory.join(file), limit_bytes.to_string()).ok()?;
            std::fs::write(group.directory.join("cgroup.procs"), self.pid.to_string()).ok()?;
            Some(group)
        }))
    }
}

/// The processor time that a process has taken, in all of its threads.
pub(crate) fn processor_time(pid: i32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    // The name, which is the second field, may hold anything; `utime` is the 14th.
    let (_, rest) = text.rsplit_once(") ").context(file.clone())?;
    let times = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = times.sum::<Result<_, _>>().context(file)?;
    Ok(Duration::from_millis(ticks * TICK_MILLIS))
}

/// Linux counts in hundredths of a second, whatever its own clock does (proc_pid_stat(5)).
const TICK_MILLIS: u64 = 10;

/// A control group, removed when dropped; its process has ended by then, or is put back above it.
#[derive(Debug)]
pub struct ControlGroup {
    directory: PathBuf,
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let processes =
            std::fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        if let Some(above) = self.directory.parent() {
            for process in processes.lines() {
                let _ = std::fs::write(above.join("cgroup.procs"), process);
            }
        }
        let _ = std::fs::remove_dir(&self.directory);
    }
}
