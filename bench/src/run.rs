//! The run: every scenario on every system, round after round, so that what changes on the machine meanwhile changes all
//! of them alike.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use heddle_runtime::signals;

use crate::arguments::{ROUNDS, RunArguments};
use crate::figure::Figure;
use crate::load::plan::{Extent, Outcome, Shape};
use crate::machine::{self, Machine, Noise};
use crate::render;
use crate::results::{Results, Samples};
use crate::scenario::{Method, Scenario};
use crate::system::System;
use crate::world::World;
use crate::world::install::Programs;

/// Measures, prints a table and keeps the results. Ends early, and leaves nothing behind, when it is interrupted.
pub async fn run(arguments: RunArguments) -> Result<()> {
    let interrupted = signals::terminated();
    let results = tokio::select! {
        results = Box::pin(measure(&arguments)) => results?,
        interrupted = interrupted => {
            interrupted?;
            bail!("interrupted");
        }
    };
    print(&render::table::text(&results))?;
    match file(&arguments, &results) {
        Some(file) => {
            results.write(&file)?;
            print(&format!("kept as {}\n", file.display()))
        }
        None => print("not kept: not everything was measured, and --output names no file\n"),
    }
}

/// Where the results go. What is not whole does not replace what is.
fn file(arguments: &RunArguments, results: &Results) -> Option<PathBuf> {
    let all =
        arguments.only.is_empty() && arguments.systems.is_empty() && results.absent.is_empty();
    let whole = all && !arguments.quick && arguments.rounds >= ROUNDS;
    let latest = || Path::new(env!("CARGO_MANIFEST_DIR")).join(render::LATEST);
    arguments.output.clone().or_else(|| whole.then(latest))
}

async fn measure(arguments: &RunArguments) -> Result<Results> {
    if cfg!(debug_assertions) && !arguments.quick {
        bail!(
            "a debug build measures nothing: build with --release, or see that it works with --quick"
        );
    }
    let programs = Programs::find(&arguments.systems, arguments.envoy.as_deref());
    let absent = programs.absent();
    for (system, reason) in &absent {
        say(&format!("{} IS ABSENT: {reason}", system.title()));
    }
    say("starting the world");
    let world = Box::pin(World::start(&programs)).await?;
    let mut run = Run {
        scenarios: scenarios(arguments),
        systems: programs.systems(),
        quick: arguments.quick,
        world,
        samples: Samples::default(),
        failures: Vec::new(),
    };
    for system in run.systems.clone() {
        run.world.verify(system).await?;
        say(&format!("{}: every request arrives{}", system.title(), encrypted(system)));
    }
    let mut noise = Vec::new();
    for round in 0..arguments.rounds {
        noise.push(Noise::now());
        Box::pin(run.round(round, arguments.rounds)).await;
    }
    noise.push(Noise::now());
    run.sizes(&programs);
    let Run { systems, samples, mut failures, world, .. } = run;
    // What was measured is not lost by it.
    if let Err(error) = end(world, &systems).await {
        say(&format!("the end: {error:#}"));
        failures.push(format!("the end: {error:#}"));
    }
    Ok(Results {
        date: machine::today(),
        machine: Machine::this(),
        versions: machine::versions(programs.envoy().ok()),
        rounds: arguments.rounds,
        measured_seconds: measured_seconds(Scenario::Http1C64, arguments.quick),
        measured_seconds_at_rate: measured_seconds(Scenario::Http1Rate1000, arguments.quick),
        noise,
        absent,
        failures,
        medians: samples.medians(),
        ratios: samples.ratios(),
    })
}

async fn end(world: World, systems: &[System]) -> Result<()> {
    if systems.contains(&System::Heddle) {
        world.end_heddle().await?;
    }
    world.finish().await
}

fn scenarios(arguments: &RunArguments) -> Vec<Scenario> {
    if arguments.only.is_empty() { Scenario::ALL.to_vec() } else { arguments.only.clone() }
}

fn encrypted(system: System) -> &'static str {
    if system.has_proxies() { ", and none of them in plain text" } else { ", in plain text" }
}

fn measured_seconds(scenario: Scenario, quick: bool) -> f64 {
    match scenario.extent(quick) {
        Extent::Time { measured, .. } => measured.as_secs_f64(),
        Extent::Requests(_) => 0.0,
    }
}

struct Run {
    scenarios: Vec<Scenario>,
    systems: Vec<System>,
    quick: bool,
    world: World,
    samples: Samples,
    failures: Vec<String>,
}

impl Run {
    async fn round(&mut self, round: u32, rounds: u32) {
        for scenario in self.scenarios.clone() {
            say(&format!("round {} of {rounds}: {}", round + 1, scenario.name()));
            // Another one begins each time: none is always the one after the busiest.
            let mut systems = self.systems.clone();
            let first = usize::try_from(round).unwrap_or_default() % systems.len().max(1);
            systems.rotate_left(first);
            for system in systems {
                if let Err(error) = Box::pin(self.cell(round, scenario, system)).await {
                    self.fail(scenario, system, &format!("{error:#}"));
                }
            }
        }
    }

    /// One scenario on one system.
    async fn cell(&mut self, round: u32, scenario: Scenario, system: System) -> Result<()> {
        let figures = match scenario.method() {
            Method::Load(shape) => {
                let outcome = self.world.load(system, shape, scenario.extent(self.quick)).await?;
                if outcome.failed > 0 {
                    let (failed, all) = (outcome.failed, outcome.failed + outcome.completed);
                    let first = outcome.first_failure.as_deref().unwrap_or_default();
                    self.fail(scenario, system, &format!("{failed} of {all} failed: {first}"));
                }
                figures(scenario, &outcome)
            }
            Method::Memory if system.has_proxies() => self.memory(system).await?,
            Method::Start if system.has_proxies() => {
                let took = self.world.restart(system).await?;
                vec![(Figure::ReadyMs, took.as_secs_f64() * 1e3)]
            }
            Method::Memory | Method::Start => Vec::new(),
        };
        for (figure, value) in figures {
            self.samples.add(round, (scenario, system, figure), value);
        }
        Ok(())
    }

    /// Of processes that have done nothing else before.
    async fn memory(&mut self, system: System) -> Result<Vec<(Figure, f64)>> {
        let extent = Scenario::Memory.extent(self.quick);
        self.world.restart(system).await?;
        let mut found = Vec::new();
        for (figure, shape) in [
            (Figure::IdleMb, Shape::Idle { connections: 0 }),
            (Figure::Busy256Mb, Shape::Http1 { connections: 256 }),
        ] {
            found.push((figure, resident_mb(&self.world.load(system, shape, extent).await?)?));
        }
        self.world.restart(system).await?;
        let idle = Shape::Idle { connections: 1000 };
        let outcome = self.world.load(system, idle, extent).await?;
        found.push((Figure::Idle1000Mb, resident_mb(&outcome)?));
        Ok(found)
    }

    /// The programs do not change from round to round.
    fn sizes(&mut self, programs: &Programs) {
        if !self.scenarios.contains(&Scenario::Start) {
            return;
        }
        for system in self.systems.clone() {
            let bytes = programs
                .binary(system)
                .and_then(|program| machine::stripped_bytes(&program, self.world.folder()));
            if let Some(bytes) = bytes {
                let of = (Scenario::Start, system, Figure::BinaryMb);
                self.samples.add(0, of, megabytes(bytes));
            }
        }
    }

    fn fail(&mut self, scenario: Scenario, system: System, reason: &str) {
        let failure = format!("{} on {}: {reason}", scenario.name(), system.title());
        say(&failure);
        if self.failures.len() < FAILURES_LIMIT {
            self.failures.push(failure);
        }
    }
}

/// What a load says of a scenario.
fn figures(scenario: Scenario, outcome: &Outcome) -> Vec<(Figure, f64)> {
    let of = |figure: &Figure| Some((*figure, figure_of(*figure, outcome)?));
    scenario.figures().iter().filter_map(of).filter(|(_, value)| value.is_finite()).collect()
}

fn figure_of(figure: Figure, outcome: &Outcome) -> Option<f64> {
    let count = as_float(outcome.measured);
    let gigabytes = as_float(outcome.measured_bytes) / 1e9;
    let seconds = outcome.elapsed.as_secs_f64();
    let microseconds = |latency: Option<Duration>| latency.map(|it| it.as_secs_f64() * 1e6);
    let cpu = |side: usize| outcome.usage.get(side).map(|usage| usage.cpu.as_secs_f64());
    match figure {
        Figure::PerSecond => Some(count / seconds),
        Figure::P50Us => microseconds(outcome.p50),
        Figure::P99Us => microseconds(outcome.p99),
        Figure::ClientCpuUs => Some(cpu(CLIENT)? * 1e6 / count),
        Figure::ServerCpuUs => Some(cpu(SERVER)? * 1e6 / count),
        Figure::GbitPerSecond => Some(gigabytes * 8.0 / seconds),
        Figure::ClientCpuSecondsPerGb => Some(cpu(CLIENT)? / gigabytes),
        Figure::ServerCpuSecondsPerGb => Some(cpu(SERVER)? / gigabytes),
        Figure::IdleMb
        | Figure::Busy256Mb
        | Figure::Idle1000Mb
        | Figure::ReadyMs
        | Figure::BinaryMb => None,
    }
}

fn resident_mb(outcome: &Outcome) -> Result<f64> {
    let usage = outcome.usage.get(CLIENT).context("no proxy was watched")?;
    Ok(megabytes(usage.resident_bytes))
}

fn megabytes(bytes: u64) -> f64 {
    as_float(bytes) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn as_float(number: u64) -> f64 {
    number as f64
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// To whoever watches.
fn say(text: &str) {
    // Nobody may be watching.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Where the client's proxy is among the watched processes.
const CLIENT: usize = 0;
/// Where the server's is.
const SERVER: usize = 1;
const FAILURES_LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Usage;

    #[test]
    fn figures_are_per_request_and_per_second() {
        let usage = |milliseconds| Usage {
            cpu: Duration::from_millis(milliseconds),
            resident_bytes: 30_000_000,
        };
        let outcome = Outcome {
            completed: 5000,
            failed: 0,
            first_failure: None,
            measured: 4000,
            measured_bytes: 2_000_000_000,
            elapsed: Duration::from_secs(2),
            p50: Some(Duration::from_micros(300)),
            p99: None,
            usage: vec![usage(100), usage(200)],
        };
        for (figure, expected) in [
            (Figure::PerSecond, Some(2000.0)),
            (Figure::ClientCpuUs, Some(25.0)),
            (Figure::ServerCpuUs, Some(50.0)),
            (Figure::P50Us, Some(300.0)),
            (Figure::P99Us, None),
            (Figure::GbitPerSecond, Some(8.0)),
            (Figure::ServerCpuSecondsPerGb, Some(0.1)),
        ] {
            let found = figure_of(figure, &outcome);
            let close = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-6,
                (found, expected) => found == expected,
            };
            assert!(close, "{figure:?}: {found:?} for {expected:?}");
        }
    }
}
