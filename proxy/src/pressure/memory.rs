//! Reads how much memory the process takes, and how much it may take: from /proc and from the control
//! group, of version 1 or 2. What follows from it is decided in pressure.rs.

use std::io;
use std::path::{Path, PathBuf};

use crate::pressure::Usage;

/// Where the numbers are.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    own_limit_bytes: Option<u64>,
}

impl Memory {
    pub(super) fn of_this_process(own_limit_bytes: Option<u64>) -> Self {
        Self { own_limit_bytes }
    }

    /// `None`: nothing limits the process. Read again each time, since a container's limit can be
    /// changed while it runs. These files are made by the kernel when they are read: nothing waits
    /// for a disk.
    pub(super) fn usage(&self) -> io::Result<Option<Usage>> {
        let groups = std::fs::read_to_string(CONTROL_GROUPS)?;
        let mut limit = self.own_limit_bytes;
        for file in limit_files(&groups) {
            // A version that is not in use, or a group that is out of sight: the others tell.
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            limit = least(limit, parse_limit(&text));
        }
        let Some(limit_bytes) = limit else { return Ok(None) };
        let text = std::fs::read_to_string(STATUS)?;
        let used_bytes = parse_resident(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{STATUS} has no VmRSS"))
        })?;
        Ok(Some(Usage { used_bytes, limit_bytes }))
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

/// Where the limits of a process with this /proc/self/cgroup may be: those of its group and of all above
/// it. In a container its group is the root of what it sees.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => (ROOT_2, LIMIT_2),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (ROOT_1, LIMIT_1)
            }
            _ => continue,
        };
        let below = Path::new(path.trim_start_matches('/'));
        files.extend(below.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// `None`: no limit. Version 2 says `max`, version 1 the largest number of whole pages.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED_1)
}

/// `VmRSS` of /proc/self/status (proc_pid_status(5)), which is in units of 1024 bytes.
fn parse_resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

const STATUS: &str = "/proc/self/status";
const CONTROL_GROUPS: &str = "/proc/self/cgroup";
const ROOT_1: &str = "/sys/fs/cgroup/memory";
const LIMIT_1: &str = "memory.limit_in_bytes";
const ROOT_2: &str = "/sys/fs/cgroup";
const LIMIT_2: &str = "memory.max";
/// No machine has so much; the exact number depends on the size of a page.
const UNLIMITED_1: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_in_the_group_and_above_it() {
        for (case, groups, expected) in [
            ("version 2, in a container", "0::/\n", vec!["/sys/fs/cgroup/memory.max"]),
            (
                "version 2",
                "0::/kubepods/pod1\n",
                vec![
                    "/sys/fs/cgroup/kubepods/pod1/memory.max",
                    "/sys/fs/cgroup/kubepods/memory.max",
                    "/sys/fs/cgroup/memory.max",
                ],
            ),
            (
                "version 1",
                "5:cpu,cpuacct:/a\n4:memory:/a\n",
                vec![
                    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                ],
            ),
            ("neither", "3:cpuset:/\nodd\n", vec![]),
        ] {
            let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
            assert_eq!(limit_files(groups), expected, "case: {case}");
        }
    }

    #[test]
    fn limits_are_numbers_or_none() {
        for (text, expected) in [
            ("67108864\n", Some(67_108_864)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("", None),
        ] {
            assert_eq!(parse_limit(text), expected, "case: {text}");
        }
        assert_eq!(parse_resident("Name:\ta\nVmHWM:\t 9 kB\nVmRSS:\t    20 kB\n"), Some(20_480));
        assert_eq!(parse_resident("Name:\ta\n"), None);
    }

    #[test]
    fn this_process_takes_something_of_what_it_may() {
        let memory = Memory::of_this_process(Some(1 << 40));
        let usage = memory.usage().unwrap().unwrap();
        assert!(usage.used_bytes > 100_000, "{usage:?}");
        assert!(usage.limit_bytes <= 1 << 40, "{usage:?}");
    }
}
