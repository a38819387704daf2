//! `meshctl trace`: the way of one request through the mesh, as its proxies saw it.

pub mod arguments;
pub mod gather;
pub mod render;
pub mod report;
pub mod tree;

use heddle_model::tap::{Follow, Mark, Tap, TapRequest};
use heddle_proto::tap::event::Event;
use heddle_proto::tap::{Ended, Standing};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{self, Colour, Format};
use crate::run::Ending;
use crate::tap::render::silence;
use crate::tap::source::Events;
use crate::target::Target;
use crate::trace::arguments::{TraceArguments, TraceSubject};
use crate::trace::gather::Gathered;
use crate::trace::report::TraceReport;
use heddle_report::tap::hex;

/// Waits for a request, and shows its way.
pub async fn run(options: TraceArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.which.target.find().await?;
    let request = request(&options, &target)?;
    let account = options.which.as_service_account.as_ref();
    let mut events = Events::open(&target, &request, account).await?;
    let Some(found) = wait(&mut events, &request).await? else {
        return Ok(Ending::Good);
    };
    // Nothing is tapped any more while it is shown.
    drop(events);
    let Found { gathered, standing } = found;
    let (trace, exchanges) = gathered.into_chosen().unwrap_or_default();
    let calls = tree::build(exchanges);
    let report = TraceReport {
        namespaces: standing.namespaces.clone(),
        left_out: standing.left_out,
        ..TraceReport::new(hex(&trace), &calls)
    };
    match options.output {
        Format::Json => output::print_json(&report)?,
        Format::Table => output::print(&render::text(&report.trace_id, &calls, colour))?,
    }
    hints(&standing);
    Ok(Ending::Good)
}

fn request(options: &TraceArguments, target: &Target) -> Result<TapRequest, Failure> {
    let namespace = target.default_namespace();
    let (resource, follow) = match &options.subject {
        None => (None, Follow::Mark(mark())),
        Some(TraceSubject::Next(resource)) => (Some(resource), Follow::Mark(mark())),
        Some(TraceSubject::Trace(trace)) => (None, Follow::Trace(*trace)),
    };
    let request = options.which.request(resource, namespace)?;
    Ok(TapRequest { tap: Tap { follow: Some(follow), ..request.tap }, ..request })
}

/// Nobody else's.
fn mark() -> Mark {
    let mark: Mark = rand::random();
    if mark == [0; 8] { [1; 8] } else { mark }
}

struct Found {
    gathered: Gathered,
    standing: Standing,
}

/// Until a trace is whole; `None`: interrupted.
async fn wait(events: &mut Events, request: &TapRequest) -> Result<Option<Found>, Failure> {
    let mut gathered = Gathered::default();
    let mut standing = Standing::default();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut waits = true;
    loop {
        let whole_at = gathered.whole_at();
        let whole = tokio::time::sleep_until(whole_at.unwrap_or_else(Instant::now));
        tokio::select! {
            event = events.next() => match event? {
                Event::Exchange(told) => gathered.take(told, Instant::now()),
                Event::Standing(now) => standing = now,
                Event::Ended(Ended { reason }) if whole_at.is_none() => {
                    return Err(not_seen(&standing, request).because_of(reason));
                }
                Event::Ended(_) => return Ok(Some(Found { gathered, standing })),
            },
            () = whole, if whole_at.is_some() => {
                return Ok(Some(Found { gathered, standing }));
            }
            _interrupted = &mut interrupted => {
                output::hint("no request was followed: interrupted");
                return Ok(None);
            }
            () = &mut patience, if waits => {
                waits = false;
                if whole_at.is_none() {
                    output::hint(&silence(&standing, true));
                }
            }
        }
    }
}

fn not_seen(standing: &Standing, request: &TapRequest) -> Failure {
    let remedy = match request.tap.follow {
        Some(Follow::Trace(_)) => {
            "begin before the request is sent: nothing is kept of what is over"
        }
        Some(Follow::Mark(_)) | None => "send one that matches, or leave out a filter",
    };
    Failure::new(silence(standing, true), remedy)
}

/// What may be missing.
fn hints(standing: &Standing) {
    let Standing { left_out, silent_replicas, namespaces, .. } = standing;
    if *left_out > 0 {
        output::hint(&format!("warning: {left_out} requests were left out: use a higher --rate"));
    }
    if !silent_replicas.is_empty() {
        output::hint(&format!(
            "warning: what proxies tell the control plane at {} is missing: it does not answer",
            silent_replicas.join(", ")
        ));
    }
    if !namespaces.is_empty() {
        output::hint(&format!(
            "only calls in namespace {} are seen: the account may not create taps.heddle.dev in all",
            namespaces.join(", ")
        ));
    }
}

/// Before it is said that nothing comes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
