//! What was found, as it is kept in `results/control-plane.json`, and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::control_plane::plan::Scale;
use crate::machine::{Machine, Noise};
use crate::render::table::number;
use crate::statistics::{median, quantile};

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When, `YYYY-MM-DD`.
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// Of which sources.
    pub versions: BTreeMap<String, String>,
    /// How the programs were built: the folder that they are in.
    pub profile: String,
    /// How busy the machine was, before and after.
    pub noise: Vec<Noise>,
    /// How large the mesh was.
    pub scale: Scale,
    /// All proxies start at once.
    pub start: Start,
    /// Nothing changes.
    pub idle: Idle,
    /// The readiness of one endpoint changes, and another's, and so on.
    pub changes: Changes,
    /// The control plane is killed and started again, while an endpoint changes that all are to know of.
    pub restart: Restart,
    /// Certificates.
    pub certificates: Certificates,
}

/// All proxies start at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// From the program's start until it says that it is ready, in milliseconds.
    pub ready_ms: f64,
    /// From the first proxy's start until the last one holds all it asked for.
    pub in_sync_ms: f64,
    /// CPU time of the control plane in that time, in seconds.
    pub cpu_seconds: f64,
    /// What a proxy received for it: the median.
    pub bytes_each: f64,
    /// Memory of the control plane before the first proxy.
    pub resident_before_mb: f64,
    /// And with all of them in sync.
    pub resident_mb: f64,
}

/// Nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// For so long.
    pub seconds: f64,
    /// CPU time of the control plane, in milliseconds for each second.
    pub cpu_ms_per_second: f64,
    /// What a proxy received, each second: the mean.
    pub bytes_per_second: f64,
}

/// Endpoints change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// How many.
    pub count: usize,
    /// How often a proxy was to be told, in all.
    pub expected: usize,
    /// How often one was told that had to be.
    pub received: usize,
    /// How often one was told that it was none of its business.
    pub strays: usize,
    /// Updates that were refused.
    pub refused: usize,
    /// From the file's replacement until a proxy acts on it, over all of them.
    pub delay: Spread,
    /// The same of the service that all proxies call.
    pub widest: Spread,
    /// From when the control plane has read it and knows what follows until a proxy acts on it.
    pub delay_from_published: Spread,
    /// From the file's replacement until then.
    pub until_published: Spread,
    /// What a subscriber received of one change: the median. An endpoint that comes,
    pub bytes_added: f64,
    /// one that goes,
    pub bytes_removed: f64,
    /// one that comes to a service that has ten times as many.
    pub bytes_added_to_large: f64,
    /// What others received meanwhile: the median.
    pub bytes_to_others: f64,
    /// CPU time of the control plane for each change, in milliseconds.
    pub cpu_ms: f64,
    /// The same of a change that all proxies are told of,
    pub widest_cpu_ms: f64,
    /// and of all proxies together, which share the machine with it.
    pub widest_proxies_cpu_ms: f64,
    /// Memory of the control plane after all of them,
    pub resident_mb: f64,
    /// and at most so far.
    pub peak_mb: f64,
}

/// The control plane is killed and started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// How long there was none.
    pub down_ms: f64,
    /// From its start until it says that it is ready.
    pub ready_ms: f64,
    /// From its start until the last proxy's stream was open,
    pub connected_ms: f64,
    /// and until the last proxy acted on what it had missed.
    pub in_sync_ms: f64,
    /// How many proxies did.
    pub in_sync: usize,
    /// CPU time of the control plane until then, with its own start, in seconds.
    pub cpu_seconds: f64,
    /// Its memory then,
    pub resident_mb: f64,
    /// and at most.
    pub peak_mb: f64,
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificates {
    /// How many.
    pub count: usize,
    /// For each second of the control plane's CPU time, over connections that are open.
    pub per_cpu_second: f64,
    /// The same, each over a connection of its own, with its handshake.
    pub per_cpu_second_connecting: f64,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle.
    pub p50_ms: f64,
    /// One in a hundred takes longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Spread {
    /// Of samples in microseconds.
    pub fn of(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        let at = |permille| quantile(&samples, permille).map_or(0.0, |it| f64::from(it) / 1e3);
        Self { p50_ms: at(500), p99_ms: at(990), max_ms: at(1000) }
    }
}

/// The median of counts of bytes; zero of nothing.
pub fn median_bytes(samples: &[u64]) -> f64 {
    let small = |bytes: &u64| f64::from(u32::try_from(*bytes).unwrap_or(u32::MAX));
    median(&samples.iter().map(small).collect::<Vec<_>>()).unwrap_or_default()
}

impl Results {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is of another version", path.display()))
    }

    /// Writes a file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let Scale { proxies, services, endpoints, subscriptions } = self.scale;
        let loads: Vec<String> =
            self.noise.iter().map(|it| format!("{:.1}", it.load_average)).collect();
        let count =
            |number: usize| self::number(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
        let mut text = format!(
            "{}: {} with {} cores{}, Linux {}. Heddle {}, built with profile `{}`. Load average before and after: {}.\n\n\
             {} proxies with {subscriptions} destinations each, {} services, {} endpoints.\n\n| | | wanted |\n|---|---:|---:|\n",
            self.date,
            self.machine.cpu,
            self.machine.cores,
            if self.machine.is_virtual { " (virtual)" } else { "" },
            self.machine.kernel,
            self.versions.get("heddle").map_or("?", String::as_str),
            self.profile,
            loads.join(", "),
            count(proxies),
            count(services),
            count(endpoints),
        );
        for (title, value, wanted) in self.rows() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {title} | {value} | {wanted} |");
        }
        text
    }

    fn rows(&self) -> Vec<(&'static str, String, &'static str)> {
        let Self { start, idle, changes, restart, certificates, .. } = self;
        let spread = |it: Spread| {
            format!("{} / {} / {}", number(it.p50_ms), number(it.p99_ms), number(it.max_ms))
        };
        let of = |part: usize, all: usize| format!("{part} of {all}");
        let peak = changes.peak_mb.max(restart.peak_mb);
        vec![
            ("**all start at once**: in sync after, ms", number(start.in_sync_ms), ""),
            ("CPU of the control plane for it, s", number(start.cpu_seconds), ""),
            ("received by a proxy, bytes", number(start.bytes_each), ""),
            ("**an endpoint changes**, so many times", changes.count.to_string(), ""),
            ("told of those to be told", of(changes.received, changes.expected), "all"),
            ("told of others", changes.strays.to_string(), "0"),
            (
                "file replaced to in use, ms: p50 / p99 / longest",
                spread(changes.delay),
                "p99 ≤ 200",
            ),
            ("the same, of the service that all call", spread(changes.widest), "p99 ≤ 200"),
            ("of it, until it is published", spread(changes.until_published), ""),
            ("from published to in use", spread(changes.delay_from_published), ""),
            ("bytes to a subscriber: one more endpoint", number(changes.bytes_added), ""),
            (
                "one more, where there are ten times as many",
                number(changes.bytes_added_to_large),
                "the same",
            ),
            ("one fewer", number(changes.bytes_removed), ""),
            ("bytes to others", number(changes.bytes_to_others), "0"),
            ("CPU of the control plane for each change, ms", number(changes.cpu_ms), ""),
            ("where all are told, ms", number(changes.widest_cpu_ms), ""),
            ("and of all proxies, on the same cores", number(changes.widest_proxies_cpu_ms), ""),
            ("**memory**: without proxies, MB", number(start.resident_before_mb), ""),
            ("with all of them", number(start.resident_mb), "≤ 300"),
            ("after all changes", number(changes.resident_mb), "≤ 300"),
            ("at most", number(peak), "≤ 300"),
            (
                "**nothing changes**: CPU, ms for each second",
                number(idle.cpu_ms_per_second),
                "idle",
            ),
            ("received by a proxy, bytes for each second", number(idle.bytes_per_second), ""),
            ("**killed and started again**: ready after, ms", number(restart.ready_ms), ""),
            ("the last proxy is connected after, ms", number(restart.connected_ms), ""),
            ("the last proxy is in sync after, ms", number(restart.in_sync_ms), "≤ 10,000"),
            ("in sync", of(restart.in_sync, self.scale.proxies), "all"),
            ("CPU of the control plane for it, s", number(restart.cpu_seconds), ""),
            (
                "**certificates** for each second of CPU",
                number(certificates.per_cpu_second),
                "≥ 1,000",
            ),
            (
                "the same, with a connection for each",
                number(certificates.per_cpu_second_connecting),
                "≥ 1,000",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_in_milliseconds() {
        let spread = Spread::of((1..=1000).rev().map(|it| it * 1000).collect());
        assert_eq!((spread.p50_ms, spread.p99_ms, spread.max_ms), (500.0, 990.0, 1000.0));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        assert_eq!((median_bytes(&[9, 1, 5]), median_bytes(&[])), (5.0, 0.0));
    }

    #[test]
    fn the_table_has_what_was_found() {
        let changes = Changes { received: 7, expected: 9, ..Changes::default() };
        let results = Results { changes, profile: "counting".into(), ..Results::default() };
        let text = results.markdown();
        assert!(text.contains("| told of those to be told | 7 of 9 | all |"), "{text}");
        assert!(text.contains("profile `counting`"), "{text}");
    }
}
