//! What a run has found, as it is kept in `results/latest.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::machine::{Machine, Noise};
use crate::scenario::Scenario;
use crate::statistics::{Median, median};
use crate::system::System;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When, `YYYY-MM-DD`.
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// What was compared.
    pub versions: BTreeMap<String, String>,
    /// How often everything was measured.
    pub rounds: u32,
    /// How long each load was measured.
    pub measured_seconds: f64,
    /// How long the one at a fixed rate was.
    pub measured_seconds_at_rate: f64,
    /// How busy the machine was, before each round and at the end.
    pub noise: Vec<Noise>,
    /// Systems that could not take part, and why.
    pub absent: BTreeMap<System, String>,
    /// Measurements that failed, in words.
    pub failures: Vec<String>,
    /// Every figure.
    pub medians: BTreeMap<Scenario, BTreeMap<System, BTreeMap<Figure, Median>>>,
    /// Heddle's figure divided by another's: the median of the rounds' own ratios, in each of which the two were measured
    /// within seconds of each other.
    pub ratios: BTreeMap<String, f64>,
}

/// What was measured, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<(Scenario, System, Figure), BTreeMap<u32, f64>>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, round: u32, of: (Scenario, System, Figure), value: f64) {
        self.0.entry(of).or_default().insert(round, value);
    }

    /// Medians of them all.
    pub fn medians(&self) -> BTreeMap<Scenario, BTreeMap<System, BTreeMap<Figure, Median>>> {
        let mut all: BTreeMap<Scenario, BTreeMap<System, BTreeMap<Figure, Median>>> =
            BTreeMap::new();
        for ((scenario, system, figure), samples) in &self.0 {
            if let Some(median) = Median::of(samples.values().copied().collect()) {
                let systems = all.entry(*scenario).or_default();
                systems.entry(*system).or_default().insert(*figure, median);
            }
        }
        all
    }

    /// All of `RATIOS` that were measured.
    pub fn ratios(&self) -> BTreeMap<String, f64> {
        let found = RATIOS.iter().flat_map(|ratio| {
            ratio.others.iter().filter_map(|other| {
                let name = format!("{}_vs_{}", ratio.name, other.name());
                Some((name, self.ratio(ratio, *other)?))
            })
        });
        found.collect()
    }

    fn ratio(&self, ratio: &Ratio, other: System) -> Option<f64> {
        let sum = |system, round| {
            let figures = ratio.figures.iter();
            figures
                .map(|figure| self.0.get(&(ratio.scenario, system, *figure))?.get(&round).copied())
                .sum::<Option<f64>>()
        };
        let cost = |system, round| {
            let free = if ratio.is_added { sum(System::NoMesh, round)? } else { 0.0 };
            Some(sum(system, round)? - free)
        };
        let first = ratio.figures.first()?;
        let rounds = self.0.get(&(ratio.scenario, System::Heddle, *first))?.keys();
        let ratios: Vec<f64> = rounds
            .filter_map(|round| Some(cost(System::Heddle, *round)? / cost(other, *round)?))
            .filter(|ratio| ratio.is_finite())
            .collect();
        median(&ratios)
    }
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

    /// One median.
    pub fn median(&self, scenario: Scenario, system: System, figure: Figure) -> Option<f64> {
        Some(self.medians.get(&scenario)?.get(&system)?.get(&figure)?.median)
    }
}

/// What is divided.
struct Ratio {
    name: &'static str,
    scenario: Scenario,
    /// Which are added up before.
    figures: &'static [Figure],
    others: &'static [System],
    /// Of both, only what is more than without a mesh in the same round.
    is_added: bool,
}

const PROXIES: &[System] = &[System::Envoy, System::Haproxy, System::BareLoop];
const EVERYBODY: &[System] = &[System::NoMesh, System::Envoy, System::Haproxy, System::BareLoop];
const CLIENT: &[Figure] = &[Figure::ClientCpuUs];
const BOTH_SIDES: &[Figure] = &[Figure::ClientCpuUs, Figure::ServerCpuUs];
const RATE: &[Figure] = &[Figure::PerSecond];

/// CPU is the client's proxy's, unless the name says `pair`.
const RATIOS: &[Ratio] = &[
    ratio("http1_c64_cpu", Scenario::Http1C64, CLIENT, PROXIES),
    ratio("http1_c64_pair_cpu", Scenario::Http1C64, BOTH_SIDES, PROXIES),
    ratio("http1_c64_per_second", Scenario::Http1C64, RATE, EVERYBODY),
    ratio("http1_c256_cpu", Scenario::Http1C256, CLIENT, PROXIES),
    ratio("http1_c1000_cpu", Scenario::Http1C1000, CLIENT, PROXIES),
    ratio("http1_rate1000_cpu", Scenario::Http1Rate1000, CLIENT, PROXIES),
    ratio("http1_rate1000_p50", Scenario::Http1Rate1000, &[Figure::P50Us], EVERYBODY),
    ratio("http1_rate1000_p99", Scenario::Http1Rate1000, &[Figure::P99Us], EVERYBODY),
    added("http1_rate1000_added_p50", Scenario::Http1Rate1000, &[Figure::P50Us], PROXIES),
    added("http1_rate1000_added_p99", Scenario::Http1Rate1000, &[Figure::P99Us], PROXIES),
    ratio("grpc_cpu", Scenario::Grpc, CLIENT, PROXIES),
    ratio("grpc_pair_cpu", Scenario::Grpc, BOTH_SIDES, PROXIES),
    added("grpc_added_p50", Scenario::Grpc, &[Figure::P50Us], PROXIES),
    ratio("http2_4x100_cpu", Scenario::Http2, CLIENT, PROXIES),
    ratio("http2_4x100_per_second", Scenario::Http2, RATE, EVERYBODY),
    ratio("http_connect_cpu", Scenario::HttpConnect, CLIENT, PROXIES),
    ratio("http_connect_per_second", Scenario::HttpConnect, RATE, EVERYBODY),
    ratio("tcp_connect_cpu", Scenario::TcpConnect, CLIENT, PROXIES),
    ratio("tcp_connect_per_second", Scenario::TcpConnect, RATE, EVERYBODY),
    ratio("tcp_bulk_cpu", Scenario::TcpBulk, &[Figure::ClientCpuSecondsPerGb], PROXIES),
    ratio("tcp_bulk_gbit", Scenario::TcpBulk, &[Figure::GbitPerSecond], EVERYBODY),
    ratio("tcp_pingpong_cpu", Scenario::TcpPingPong, CLIENT, PROXIES),
    ratio("tcp_pingpong_p50", Scenario::TcpPingPong, &[Figure::P50Us], EVERYBODY),
    ratio("memory_idle", Scenario::Memory, &[Figure::IdleMb], PROXIES),
    ratio("memory_256_busy", Scenario::Memory, &[Figure::Busy256Mb], PROXIES),
    ratio("memory_1000_idle", Scenario::Memory, &[Figure::Idle1000Mb], PROXIES),
    ratio("start_ready", Scenario::Start, &[Figure::ReadyMs], PROXIES),
    ratio("binary_size", Scenario::Start, &[Figure::BinaryMb], PROXIES),
];

const fn ratio(
    name: &'static str,
    scenario: Scenario,
    figures: &'static [Figure],
    others: &'static [System],
) -> Ratio {
    Ratio { name, scenario, figures, others, is_added: false }
}

const fn added(
    name: &'static str,
    scenario: Scenario,
    figures: &'static [Figure],
    others: &'static [System],
) -> Ratio {
    Ratio { name, scenario, figures, others, is_added: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_beyond_the_same_round_without_a_mesh() {
        let mut samples = Samples::default();
        for (round, free, heddle, envoy) in
            [(0, 100.0, 150.0, 200.0), (1, 1000.0, 1100.0, 1400.0), (2, 100.0, 200.0, 900.0)]
        {
            for (system, p99) in
                [(System::NoMesh, free), (System::Heddle, heddle), (System::Envoy, envoy)]
            {
                samples.add(round, (Scenario::Http1Rate1000, system, Figure::P99Us), p99);
            }
        }
        let ratios = samples.ratios();
        assert_eq!(ratios.get("http1_rate1000_added_p99_vs_envoy"), Some(&0.25));
        assert_eq!(ratios.get("http1_rate1000_added_p99_vs_haproxy"), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut samples = Samples::default();
        // The machine is half as fast in the second round; the ratio is not touched by it.
        for (round, heddle, envoy) in [(0, 10.0, 20.0), (1, 20.0, 40.0), (2, 12.0, 20.0)] {
            let of = |system| (Scenario::Http1C64, system, Figure::ClientCpuUs);
            samples.add(round, of(System::Heddle), heddle);
            samples.add(round, of(System::Envoy), envoy);
        }
        let ratios = samples.ratios();
        assert_eq!(ratios.get("http1_c64_cpu_vs_envoy"), Some(&0.5));
        assert_eq!(ratios.get("http1_c64_cpu_vs_haproxy"), None);
        assert_eq!(ratios.get("http1_c64_pair_cpu_vs_envoy"), None, "half of the pair is missing");
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let mut samples = Samples::default();
        samples.add(0, (Scenario::TcpBulk, System::BareLoop, Figure::GbitPerSecond), 6.5);
        let results = Results { medians: samples.medians(), ..Results::default() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results.json");
        results.write(&file).unwrap();
        assert_eq!(Results::read(&file).unwrap(), results);
    }
}
