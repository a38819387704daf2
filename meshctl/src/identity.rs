//! `meshctl identity`: what identities rest on, and its rotation.

pub mod arguments;
pub mod render;

use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{self, GetIdentityRequest, LeaveOutRequest, RotateIdentityRequest};
use heddle_report::identity::{self as report, IdentityReport, Rotation};
use heddle_runtime::clock;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::identity::arguments::{IdentityArguments, IdentityCommand, Look, RotateArguments};
use crate::output::{self, Colour, Output, Page};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::target::{self, Target};

/// Shows it, or begins to rotate.
pub async fn run(options: IdentityArguments, colour: Colour) -> Result<Ending, Failure> {
    match options.command {
        None => look(options.look, colour).await,
        Some(IdentityCommand::Rotate(options)) => rotate(options).await,
    }
}

async fn look(options: Look, colour: Colour) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    repeat::show(options.watch, async || {
        let report = read(&target).await?;
        let now = seconds(clock::now());
        let text = match options.output {
            Output::Table | Output::Wide => {
                let (wide, no_headers) = (options.output == Output::Wide, options.no_headers);
                render::text(&report, now, Page { wide, no_headers, colour })
            }
            Output::Json => output::json(&report, options.watch.watch)?,
            Output::Yaml => output::yaml(&report, options.watch.watch)?,
            Output::Name => names(&report),
        };
        let ending = if report.is_troubled(now) { Ending::CheckFailed } else { Ending::Good };
        Ok(Shown { text, hint: None, ending })
    })
    .await
}

fn names(report: &IdentityReport) -> String {
    let anchors = report.anchors.iter().map(|anchor| &anchor.certificate);
    anchors
        .map(|anchor| format!("anchor/{}\n", anchor.fingerprint))
        .chain([format!("issuer/{}\n", report.issuer.fingerprint)])
        .collect()
}

async fn read(target: &Target) -> Result<IdentityReport, Failure> {
    let asked = target.ask_all(|mut client: AdminClient<Channel>| {
        async move { Ok(client.get_identity(GetIdentityRequest {}).await?.into_inner()) }.boxed()
    });
    Ok(IdentityReport::new(target::heard(asked.await?)))
}

async fn rotate(options: RotateArguments) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let began = seconds(clock::now());
    if options.without.is_empty() {
        let kind =
            if options.root { admin::RotationKind::Root } else { admin::RotationKind::Issuer };
        let asked = target.ask_any(move |mut client: AdminClient<Channel>| {
            let request = RotateIdentityRequest { kind: kind.into() };
            async move { client.rotate_identity(request).await.map(drop) }.boxed()
        });
        asked.await?;
    } else {
        let pods = options.without;
        let asked = target.ask_any(move |mut client: AdminClient<Channel>| {
            let request = LeaveOutRequest { pods: pods.clone() };
            async move { client.leave_out(request).await.map(drop) }.boxed()
        });
        asked.await?;
    }
    if !options.wait {
        output::print("the rotation goes on: `meshctl identity` shows how far it is\n")?;
        return Ok(Ending::Good);
    }
    follow(&target, began).await
}

/// Prints each step when it comes, until it is over. Each that is waited for only a moment is told, too.
async fn follow(target: &Target, began: i64) -> Result<Ending, Failure> {
    let mut told: Vec<&'static str> = Vec::new();
    let mut heard_at = Instant::now();
    loop {
        let report = match read(target).await {
            Ok(report) => report,
            // A control plane that is replaced meanwhile is no reason to give up.
            Err(_) if heard_at.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        heard_at = Instant::now();
        let now = seconds(clock::now());
        match (&report.rotation, &report.last_rotation) {
            (Some(rotation), _) => output::print(&news(rotation, &mut told, now))?,
            (None, Some(last)) if last.ended >= began => {
                output::print(&format!("done after {} s\n", last.ended - last.started))?;
                return Ok(Ending::Good);
            }
            // Whoever was asked first has not heard of it yet.
            (None, _) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What was not told yet of a rotation.
fn news(rotation: &Rotation, told: &mut Vec<&'static str>, now: i64) -> String {
    let first = if rotation.kind == "root" { 0 } else { 1 };
    let steps = report::STEPS.iter().skip(first);
    let until = steps.clone().position(|step| *step == rotation.step).unwrap_or(0);
    let mut text = String::new();
    for &step in steps.take(until + 1) {
        if told.contains(&step) {
            continue;
        }
        told.push(step);
        text.push_str(&if step == rotation.step {
            render::rotation(rotation, now)
        } else {
            render::passed(rotation.kind, step)
        });
        text.push('\n');
    }
    text
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How long nobody may answer while a rotation is followed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A rotation takes as long as a certificate lives.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_was_over_before_anybody_looked_is_told_too() {
        let rotation = |kind, step| Rotation {
            kind,
            step,
            started: 100,
            since: 130,
            waiting_for: "9s until certificates of before have run out".to_owned(),
            without: Vec::new(),
        };
        let mut told = Vec::new();
        let mut all = String::new();
        for step in ["announced", "announced", "turning-over", "turning-over"] {
            all.push_str(&news(&rotation("root", step), &mut told, 132));
        }
        all.push_str(&news(&rotation("issuer", "turning-over"), &mut Vec::new(), 132));
        insta::assert_snapshot!(all, @"
        of the root, step 1 of 3: the new trust anchor is announced, since 2 s; waits for 9s until certificates of before have run out
        of the root, step 2 of 3: the issuer is switched to the new trust anchor
        of the root, step 3 of 3: certificates below the old trust anchor run out, since 2 s; waits for 9s until certificates of before have run out
        of the issuer, step 1 of 2: the issuer is switched
        of the issuer, step 2 of 2: certificates of the old issuer run out, since 2 s; waits for 9s until certificates of before have run out
        ");
    }
}
