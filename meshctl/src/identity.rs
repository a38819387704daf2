//! `meshctl identity`: what identities rest on, and its rotation.

pub mod arguments;
pub mod render;
pub mod report;

use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use heddle_proto::admin::{self, GetIdentityRequest, RotateIdentityRequest};
use heddle_runtime::clock;

use crate::failure::Failure;
use crate::identity::arguments::{IdentityArguments, IdentityCommand, Look, RotateArguments};
use crate::identity::render::Width;
use crate::identity::report::{IdentityReport, Rotation};
use crate::output::{self, Colour, Output};
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
    let report = read(&options.target.find().await?).await?;
    let now = seconds(clock::now());
    match options.output {
        Output::Table => output::print(&render::text(&report, now, Width::Usual, colour))?,
        Output::Wide => output::print(&render::text(&report, now, Width::Wide, colour))?,
        Output::Json => output::print_json(&report)?,
        Output::Yaml => output::print_yaml(&report)?,
        Output::Name => output::print(&names(&report))?,
    }
    Ok(if report.is_troubled(now) { Ending::CheckFailed } else { Ending::Good })
}

fn names(report: &IdentityReport) -> String {
    let anchors = report.anchors.iter().map(|anchor| &anchor.certificate);
    anchors
        .map(|anchor| format!("anchor/{}\n", anchor.fingerprint))
        .chain([format!("issuer/{}\n", report.issuer.fingerprint)])
        .collect()
}

async fn read(target: &Target) -> Result<IdentityReport, Failure> {
    let asked = target.ask_all(|mut client| {
        async move { Ok(client.get_identity(GetIdentityRequest {}).await?.into_inner()) }.boxed()
    });
    Ok(IdentityReport::new(target::heard(asked.await?)))
}

async fn rotate(options: RotateArguments) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let kind = if options.root { admin::RotationKind::Root } else { admin::RotationKind::Issuer };
    let began = seconds(clock::now());
    let asked = target.ask_any(move |mut client| {
        let request = RotateIdentityRequest { kind: kind.into() };
        async move { client.rotate_identity(request).await.map(drop) }.boxed()
    });
    asked.await?;
    if !options.wait {
        output::print("the rotation has begun: `meshctl identity` shows how far it is\n")?;
        return Ok(Ending::Good);
    }
    follow(&target, began).await
}

/// Prints each step when it comes, and what it waits for when that is another, until it is over.
async fn follow(target: &Target, began: i64) -> Result<Ending, Failure> {
    let mut told: Option<Rotation> = None;
    loop {
        let report = read(target).await?;
        let now = seconds(clock::now());
        match (report.rotation, report.last_rotation) {
            (Some(rotation), _) => {
                let news = told.as_ref().is_none_or(|told| told.step != rotation.step);
                if news {
                    output::print(&format!("{}\n", render::rotation(&rotation, now)))?;
                }
                told = Some(rotation);
            }
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

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A rotation takes as long as a certificate lives.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
