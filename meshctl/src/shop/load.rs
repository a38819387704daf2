//! The load generator: sends requests at a rate, or as fast as answers come, and counts exactly what
//! became of each. A request succeeded only if its status is 200 and its whole body arrived.

pub mod connection;
pub mod latency;
pub mod ledger;
pub mod plan;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::shop::listen::{self, ListenAddress};
use crate::shop::load::connection::Client;
use crate::shop::load::ledger::Ledger;
use crate::shop::load::plan::Plan;
use crate::shop::load::report::Report;
use crate::shop::serve;

/// How long to wait before the target is asked again, while it does not answer yet.
const NEXT_ATTEMPT: Duration = Duration::from_millis(100);

/// Runs a plan to its end, or until SIGTERM, and says what became of every request.
pub async fn run(plan: Plan, stats: Option<ListenAddress>) -> Result<Report, Failure> {
    let tasks = Tasks::new();
    let plan = Arc::new(plan);
    let ledger = Arc::new(Ledger::new(plan.pace()));
    let stop = CancellationToken::new();
    stop_when_terminated(&stop, &tasks);
    if let Some(address) = stats {
        let listener = listen::bind(address).await?;
        let ledger = Arc::clone(&ledger);
        serve::accept(listener, move |request| answer(Arc::clone(&ledger), request), &tasks);
    }
    let first = wait_for_target(&plan, &ledger, &stop, &tasks).await?;
    send_everything(&plan, &ledger, &stop, &tasks, first).await;
    let report = ledger.report(Instant::now());
    tasks.shutdown(Duration::from_secs(1)).await;
    Ok(report)
}

fn stop_when_terminated(stop: &CancellationToken, tasks: &Tasks) {
    let stop = stop.clone();
    let drain = tasks.drain().clone();
    let terminated = signals::terminated();
    tasks.spawn("load.signals", async move {
        tokio::select! {
            _ = terminated => stop.cancel(),
            () = drain.cancelled() => {}
        }
    });
}

/// Asks until the target answers as it should; that answer is the first that counts. Keeps the
/// connection it came on. Without a wait in the plan, nothing is asked.
async fn wait_for_target(
    plan: &Arc<Plan>,
    ledger: &Ledger,
    stop: &CancellationToken,
    tasks: &Tasks,
) -> Result<Option<Client>, Failure> {
    let Some(limit) = plan.wait_for_target else { return Ok(None) };
    let deadline = Instant::now() + limit;
    let mut client = Client::new(Arc::clone(plan), tasks.clone());
    loop {
        let began = Instant::now();
        let outcome = client.exchange().await;
        if outcome.is_success() {
            ledger.count_first(began, outcome, Instant::now());
            return Ok(Some(client));
        }
        ledger.count_attempt();
        if stop.is_cancelled() {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            let remedy = "check that the target is up and its name resolves, or give a longer \
                          --wait-for-target";
            return Err(Failure::new(
                format!("{} did not answer 200 within {limit:?}", plan.target.uri),
                remedy,
            )
            .because_of(outcome.describe()));
        }
        tokio::time::sleep(NEXT_ATTEMPT).await;
    }
}

/// Runs one worker per connection until the ledger has no turns left or `stop` is cancelled, and
/// until every request that was begun has its outcome.
async fn send_everything(
    plan: &Arc<Plan>,
    ledger: &Arc<Ledger>,
    stop: &CancellationToken,
    tasks: &Tasks,
    first: Option<Client>,
) {
    ledger.start(Instant::now());
    if let Some(duration) = plan.duration {
        let stop = stop.clone();
        let drain = tasks.drain().clone();
        tasks.spawn("load.clock", async move {
            tokio::select! {
                () = tokio::time::sleep(duration) => stop.cancel(),
                () = drain.cancelled() => {}
            }
        });
    }
    let workers = Tasks::new();
    let mut first = first;
    for _ in 0..plan.connections.get() {
        let client = first.take().unwrap_or_else(|| Client::new(Arc::clone(plan), tasks.clone()));
        workers.spawn("load.worker", work(client, Arc::clone(ledger), stop.clone()));
    }
    // Every request has its own time limit, so this ends soon after the last turn.
    workers.shutdown(Duration::MAX).await;
}

async fn work(mut client: Client, ledger: Arc<Ledger>, stop: CancellationToken) {
    loop {
        let now = Instant::now();
        let Some(due) = ledger.take_turn(now) else { return };
        tokio::select! {
            // Stopping comes first, or a plan without pauses would never see it.
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => {}
        }
        // A worker that is behind counts from when the request was due: a slow answer that holds up
        // the next request is felt by that one too. One that waited for its turn counts from when it
        // woke, which is up to a millisecond late.
        let since = if due > now { Instant::now() } else { due };
        let number = ledger.begin();
        let outcome = client.exchange().await;
        ledger.finish(number, since, outcome, Instant::now());
    }
}

async fn answer(
    ledger: Arc<Ledger>,
    request: http::Request<hyper::body::Incoming>,
) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    if request.uri().path() == "/stats" {
        return serve::json(StatusCode::OK, &ledger.report(Instant::now()));
    }
    serve::json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": "only /stats is here" }))
}
