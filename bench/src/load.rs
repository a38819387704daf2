//! Makes load and measures it: the counts, the latencies, and what the watched processes used meanwhile. Runs inside of
//! the client's network namespace; what to do is in `plan`.

pub mod client;
pub mod http1;
pub mod http2;
pub mod plan;
pub mod rate;
pub mod recorder;
pub mod tcp;

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_runtime::tasks::Tasks;
use tokio::time::Instant;

use crate::processes::{self, CpuTime};
use crate::statistics::quantile;
use crate::system::Service;
use client::Client;
use plan::{Extent, Outcome, Plan, Shape, Usage};
use recorder::{Phase, Recorder, Window};

/// Carries out a plan and prints what came of it.
pub async fn print(plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("the plan")?;
    let outcome = Box::pin(run(plan)).await?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&outcome)?)?;
    Ok(())
}

async fn run(plan: Plan) -> Result<Outcome> {
    let tasks = Tasks::new();
    let window = Arc::new(Window::new(plan.extent));
    let address = resolve(&plan.host, plan.shape.service())?;
    let target = Arc::new(Target { address, host: plan.host.clone(), marker: plan.marker.clone() });
    let clients = Box::pin(connect_all(plan.shape, &target, &tasks)).await?;
    let mut recorders = Vec::new();
    match plan.shape {
        Shape::Idle { .. } => {}
        Shape::Http1AtRate { per_second, .. } => {
            recorders = rate::start(clients, per_second, plan.extent, &window, &tasks)?;
            return finish(&plan, &window, recorders).await;
        }
        Shape::Http1 { .. }
        | Shape::Http1Connect { .. }
        | Shape::Http2 { .. }
        | Shape::Grpc { .. }
        | Shape::TcpConnect { .. }
        | Shape::TcpPingPong
        | Shape::TcpBulk => {
            for client in clients {
                recorders.push(start_worker(client, &window, &tasks));
            }
            return finish(&plan, &window, recorders).await;
        }
    }
    // The connections have to stay open until the memory was looked at.
    let outcome = finish(&plan, &window, recorders).await;
    drop(clients);
    outcome
}

/// Where the load goes.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    host: String,
    /// Text that each request carries somewhere, to be looked for on the wire.
    marker: String,
}

/// The first IPv4 address of a name.
fn resolve(host: &str, service: Service) -> Result<SocketAddr> {
    (host, service.port())
        .to_socket_addrs()
        .with_context(|| format!("the address of {host}"))?
        .find(SocketAddr::is_ipv4)
        .with_context(|| format!("{host} has no IPv4 address"))
}

/// One after the other, since a thousand at once would overrun a listener's backlog.
async fn connect_all(shape: Shape, target: &Arc<Target>, tasks: &Tasks) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..shape.connections() {
        let connecting = Client::connect(shape, target, tasks);
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
        clients.extend(connected.context("no connection in time")??);
    }
    if matches!(shape, Shape::Idle { .. }) {
        for client in &mut clients {
            client.exchange().await?;
        }
    }
    Ok(clients)
}

/// What a worker will have done.
pub type Recording = tokio::sync::oneshot::Receiver<Recorder>;

/// Exchanges until the window closes.
fn start_worker(mut client: Client, window: &Arc<Window>, tasks: &Tasks) -> Recording {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let window = Arc::clone(window);
    tasks.spawn_quiet(async move {
        let mut recorder = Recorder::default();
        while window.may_begin() {
            let began = Instant::now();
            let bytes = client.exchange().await;
            let failed = bytes.is_err();
            recorder.note(window.phase(), began, bytes);
            if recorder.completed + recorder.failed == 1 {
                window.count_warm();
            }
            // A connection that broke is made anew; if that fails too, this worker has nothing to do any more.
            if failed && client.reconnect().await.is_err() {
                break;
            }
        }
        // Nobody waits for it after a timeout.
        let _ = sender.send(recorder);
    });
    receiver
}

/// Opens and closes the window, and puts everything together.
async fn finish(plan: &Plan, window: &Window, recordings: Vec<Recording>) -> Result<Outcome> {
    let mut before = Vec::new();
    let mut began = Instant::now();
    match plan.extent {
        Extent::Time { warm, measured } => {
            if !matches!(plan.shape, Shape::Http1AtRate { .. }) {
                wait_until_warm(window, recordings.len()).await;
            }
            tokio::time::sleep(warm).await;
            before = cpu_times(&plan.watched)?;
            began = Instant::now();
            window.enter(Phase::Measured);
            tokio::time::sleep(measured).await;
            window.enter(Phase::Over);
        }
        Extent::Requests(_) => {}
    }
    let elapsed = began.elapsed();
    let after = cpu_times(&plan.watched)?;
    let usage = plan.watched.iter().zip(&after).enumerate().map(|(index, (pid, after))| {
        let cpu = before.get(index).map(|before| after.since(before)).unwrap_or_default();
        Ok(Usage { cpu, resident_bytes: processes::resident_bytes(*pid)? })
    });
    let usage = usage.collect::<Result<Vec<_>>>()?;
    let mut all = Recorder::default();
    let limit = match plan.extent {
        Extent::Time { .. } => FINISH_WITHIN,
        Extent::Requests(_) => ALL_WITHIN,
    };
    for recording in recordings {
        let recorded = tokio::time::timeout(limit, recording).await;
        all.add(recorded.context("a request never ended")?.context("a worker broke")?);
    }
    outcome(all, elapsed, usage)
}

/// Until every worker has had an answer: a thousand connections do not all have their handshakes behind them after a
/// time that is enough for sixty. Those that still have none after a while never will.
async fn wait_until_warm(window: &Window, workers: usize) {
    let deadline = Instant::now() + WARM_WITHIN;
    while window.warm() < u64::try_from(workers).unwrap_or(u64::MAX) && Instant::now() < deadline {
        tokio::time::sleep(WARM_PAUSE).await;
    }
}

fn outcome(mut all: Recorder, elapsed: Duration, usage: Vec<Usage>) -> Result<Outcome> {
    ensure!(
        all.failed == 0 || all.completed > 0,
        "nothing succeeded; the first failure: {}",
        all.first_failure.as_deref().unwrap_or_default()
    );
    all.latencies.sort_unstable();
    let at = |permille| {
        quantile(&all.latencies, permille)
            .map(|nanoseconds| Duration::from_nanos(nanoseconds.into()))
    };
    Ok(Outcome {
        completed: all.completed,
        failed: all.failed,
        first_failure: all.first_failure.clone(),
        measured: all.measured,
        measured_bytes: all.measured_bytes,
        elapsed,
        p50: at(500),
        p99: at(990),
        usage,
    })
}

fn cpu_times(pids: &[u32]) -> Result<Vec<CpuTime>> {
    pids.iter().map(|pid| CpuTime::of(*pid)).collect()
}

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const WARM_WITHIN: Duration = Duration::from_secs(10);
const WARM_PAUSE: Duration = Duration::from_millis(10);
/// After the window is closed; a request that takes longer counts as one that never ends.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// Where a number of requests is to be sent, all of them: under valgrind a few hundred a second are answered.
const ALL_WITHIN: Duration = Duration::from_secs(300);
