//! What `/proc` says of a process: its CPU time and its memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The CPU time that each thread of a process has used so far, in nanoseconds.
///
/// `schedstat` counts what `utime` and `stime` of `/proc/PID/stat` count, in nanoseconds instead of hundredths of a
/// second, of which a measurement of two seconds at a low rate has too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuTime(BTreeMap<u32, u64>);

impl CpuTime {
    /// Of this process now.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}/task"));
        let mut threads = BTreeMap::new();
        let entries = fs::read_dir(&folder).with_context(|| format!("process {pid}"))?;
        for entry in entries {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread that has ended since used next to nothing: those that work stay.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            if let Some(nanoseconds) = parse_schedstat(&text) {
                threads.insert(thread, nanoseconds);
            }
        }
        Ok(Self(threads))
    }

    /// All of it.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.values().sum())
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Duration {
        let used = |(thread, now): (&u32, &u64)| {
            now.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        };
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

/// What a process holds of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident_bytes: u64,
    /// At most so far.
    pub peak_bytes: u64,
}

/// The memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    let found = parse_bytes(&text, "VmRSS:").zip(parse_bytes(&text, "VmHWM:"));
    let (resident_bytes, peak_bytes) =
        found.with_context(|| format!("process {pid} has no memory"))?;
    Ok(Memory { resident_bytes, peak_bytes })
}

/// The resident memory of a process now, in bytes. Of `/proc/PID/status`, since `smaps_rollup` is closed to those who may
/// not look into the process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    parse_bytes(&text, "VmRSS:").with_context(|| format!("process {pid} has no memory"))
}

/// The first field is the time on a CPU in nanoseconds. Source: the kernel's Documentation/scheduler/sched-stats.rst.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(parse_schedstat("469114 12 1\n"), Some(469_114));
        assert_eq!(parse_bytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2_097_152));
        assert_eq!(parse_bytes("Name:\tkthread\n", "VmRSS:"), None);
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let own = std::process::id();
        let before = CpuTime::of(own).unwrap();
        let mut sum = 0_u64;
        while CpuTime::of(own).unwrap().since(&before) == Duration::ZERO {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(resident_bytes(own).unwrap() > 100_000, "{sum}");
    }
}
