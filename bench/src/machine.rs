//! What the figures were measured on and with.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// How many of its cores this system has.
    pub cores: usize,
    /// Whether a hypervisor shares it out.
    pub is_virtual: bool,
    /// Memory.
    pub memory_mb: u64,
    /// The kernel's release.
    pub kernel: String,
}

/// How busy the machine was with other things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Runnable tasks, mean of the last minute.
    pub load_average: f64,
    /// The share of time that the hypervisor gave to others since the system started, in percent.
    pub steal_percent: f64,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags").unwrap_or_default();
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
            memory_mb: memory_mb(&read("/proc/meminfo")).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl Noise {
    /// At this moment.
    pub fn now() -> Self {
        let load_average = read("/proc/loadavg");
        Self {
            load_average: load_average
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or_default(),
            steal_percent: steal_percent(&read("/proc/stat")).unwrap_or_default(),
        }
    }
}

/// The date in UTC, `YYYY-MM-DD`.
pub fn today() -> String {
    let now = time::OffsetDateTime::from(heddle_runtime::clock::now());
    let (year, month, day) = now.to_calendar_date();
    format!("{year:04}-{:02}-{day:02}", u8::from(month))
}

/// What was compared, in which version.
pub fn versions(envoy: Option<&Path>) -> BTreeMap<String, String> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let commit = output(Command::new("git").args(["-C", folder, "rev-parse", "--short", "HEAD"]));
    let changed = output(Command::new("git").args(["-C", folder, "status", "--porcelain", "-uno"]));
    let mark = if changed.is_empty() { "" } else { ", with changes" };
    let envoy = envoy.map(|envoy| output(Command::new(envoy).arg("--version")));
    let haproxy = output(Command::new("haproxy").arg("-v"));
    let versions = [
        ("heddle", format!("{} ({commit}{mark})", env!("CARGO_PKG_VERSION"))),
        ("envoy", envoy_version(&envoy.unwrap_or_default())),
        ("haproxy", haproxy.split(' ').nth(2).unwrap_or("absent").to_owned()),
        ("rustc", output(Command::new("rustc").arg("--version"))),
    ];
    versions.map(|(name, version)| (name.to_owned(), version)).into()
}

/// The size of a program without symbols; `None` where there is no `strip`.
pub fn stripped_bytes(program: &Path, scratch: &Path) -> Option<u64> {
    let stripped = scratch.join("stripped");
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(program).status().ok()?;
    let length = std::fs::metadata(&stripped).ok()?.len();
    done.success().then_some(length)
}

/// Where a program is, by `PATH` and where administrators' programs are.
pub fn find(program: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| anyhow::anyhow!("there is no {program} on this machine"))
}

/// `envoy  version: commit/1.40.0/Clean/RELEASE/BoringSSL`.
fn envoy_version(text: &str) -> String {
    text.split('/').rev().nth(3).unwrap_or("absent").to_owned()
}

fn memory_mb(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024 / 1_000_000)
}

/// The eighth field of the first line is what was stolen. Source: proc(5).
fn steal_percent(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<f64> =
        line.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    let all: f64 = fields.iter().take(8).sum();
    Some(100.0 * fields.get(7)? / all.max(1.0))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_print_is_read() {
        let envoy = "/venv/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(envoy_version(envoy), "1.40.0");
        assert_eq!(envoy_version(""), "absent");
        assert_eq!(memory_mb("MemTotal:       1000 kB\n"), Some(1));
        assert_eq!(steal_percent("cpu  10 0 10 60 0 0 0 20 0 0\n"), Some(20.0));
    }
}
