//! The control plane at scale: the program itself, and a thousand proxies that are connected to it. What there is, is in
//! `control_plane/plan.rs`; what a proxy is here, in `control_plane/fleet.rs`; the figures, in `control_plane/figures.rs`.

pub mod figures;
pub mod fleet;
pub mod issue;
pub mod manifests;
pub mod plan;
pub mod process;
pub mod sightings;
pub mod steps;
pub mod tally;

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::arguments::ControlPlaneArguments;
use crate::control_plane::figures::Results;
use crate::control_plane::issue::{Askers, Connections};
use crate::control_plane::manifests::Files;
use crate::control_plane::plan::Plan;
use crate::control_plane::process::Program;
use crate::control_plane::sightings::Sightings;
use crate::control_plane::steps::Steps;
use crate::control_plane::tally::Tally;
use crate::machine::{self, Machine, Noise};

/// Measures, prints a table and keeps the results where the arguments say. Leaves nothing behind.
pub async fn measure(arguments: ControlPlaneArguments) -> Result<()> {
    let results = tokio::select! {
        results = Box::pin(run(&arguments)) => results?,
        interrupted = signals::terminated() => {
            interrupted?;
            bail!("interrupted");
        }
    };
    std::io::stdout().lock().write_all(results.markdown().as_bytes())?;
    match &arguments.output {
        Some(output) => results.write(output),
        None => Ok(()),
    }
}

async fn run(arguments: &ControlPlaneArguments) -> Result<Results> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let noise = Noise::now();
    let plan = Plan::new(arguments.scale())?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.as_deref().unwrap_or(temporary.path());
    let files = Files::write(folder, &plan)?;
    let sightings = Sightings::begin()?;
    let tasks = Tasks::new();
    let program = Program::find(&files).await?;
    let tallies = tallies(&plan)?;
    say("starting the control plane");
    let began = tokio::time::Instant::now();
    let mut control_plane = program.start()?;
    control_plane.ready().await?;
    let mut results = Results::default();
    results.start.ready_ms = milliseconds(began.elapsed());
    results.start.resident_before_mb = megabytes(control_plane.memory()?.resident_bytes);
    let askers = Askers::new(&files, program.address, &tallies)?;
    let mut steps = Steps { plan: &plan, files: &files, sightings, tasks: tasks.clone() };
    say("starting the proxies");
    let reached = (program.address, &control_plane);
    let starting = steps.start(&tallies, reached, &mut results.start);
    let mut fleet = Box::pin(starting).await?;
    say("changing endpoints");
    results.changes = steps.change(&mut fleet, &control_plane, arguments.changes).await?;
    say("leaving it alone");
    let pause = Duration::from_secs(arguments.idle_seconds);
    results.idle = steps.idle(&fleet, &control_plane, pause).await?;
    say("killing it, and starting it again");
    let (control_plane, restart) = steps.restart(&fleet, &program, control_plane).await?;
    results.restart = restart;
    say("asking for certificates");
    let count = usize::try_from(arguments.certificates)?;
    let each = askers.ask(count, Connections::Kept, &control_plane).await?;
    let connecting = askers.ask(count, Connections::One, &control_plane).await?;
    results.certificates.count = count;
    results.certificates.per_cpu_second = 1.0 / each;
    results.certificates.per_cpu_second_connecting = 1.0 / connecting;
    drop(fleet);
    tasks.shutdown(GRACE).await;
    control_plane.kill().await?;
    let mut versions = machine::versions(None);
    versions.retain(|name, _| matches!(name.as_str(), "heddle" | "rustc"));
    Ok(Results {
        date: machine::today(),
        machine: Machine::this(),
        versions,
        profile: profile()?,
        noise: vec![noise, Noise::now()],
        scale: plan.scale,
        ..results
    })
}

fn tallies(plan: &Plan) -> Result<Vec<Tally>> {
    let own = plan.proxies.iter().map(|proxy| Some(Tally::new(plan.pod(proxy)?.address)));
    own.collect::<Option<_>>().context("a proxy's pod")
}

/// The folder that the programs were built into is called by it.
fn profile() -> Result<String> {
    let program = std::env::current_exe()?;
    let name = program.parent().and_then(|folder| folder.file_name());
    Ok(name.unwrap_or_default().to_string_lossy().into_owned())
}

/// Microseconds since 1970, as versions of configuration are.
pub fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1e3
}

fn say(text: &str) {
    // Nobody may be watching.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

const GRACE: Duration = Duration::from_secs(2);
