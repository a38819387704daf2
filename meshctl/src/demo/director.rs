//! Plays the demo: adds the load, moves the canary step by step, ends the load and sums up. Shows
//! nothing: see screen.rs and lines.rs.

use std::future::Future;
use std::io;
use std::time::Duration;

use heddle_local::mesh::Mesh;
use heddle_local::protocol::{Signal, Target};
use heddle_report::status::StatusReport;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::demo::files::Files;
use crate::demo::observe::{Observer, WORKLOADS};
use crate::demo::progress::{Phase, STEPS};
use crate::demo::summary::{Counters, StepSummary, Summary};
use crate::failure::Failure;
use crate::local;
use crate::shop::load::report::Report;

/// How long anything in the demo may take to become true.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often it is asked whether it has.
const POLL: Duration = Duration::from_millis(50);
/// The load's workload.
const LOAD: &str = "load";

/// Plays the demo in one mesh.
pub struct Director<'a> {
    /// Where it plays.
    pub mesh: &'a Mesh,
    /// What the mesh follows.
    pub files: &'a Files,
    /// Who is told where it is.
    pub phase: &'a watch::Sender<Phase>,
    /// How long each step counts.
    pub step: Duration,
    /// Whether the load goes on afterwards.
    pub keep: bool,
}

impl Director<'_> {
    /// From the first request to the summary.
    pub async fn play(&self) -> Result<Summary, Failure> {
        let observer = Observer::new(self.mesh);
        let mut counters = Counters::default();
        self.phase.send_replace(Phase::Opening);
        self.start_load(&observer).await?;
        let mut steps = Vec::new();
        for (index, percent) in STEPS.into_iter().enumerate() {
            steps.push(self.play_step(&observer, index + 1, percent).await?);
            // Before the next change, after which proxies may drop what is no longer routed to.
            collect(&observer, &mut counters).await?;
        }
        self.phase.send_replace(Phase::Finishing);
        let load = self.end_load().await?;
        collect(&observer, &mut counters).await?;
        let status = observer.status().await?;
        if self.keep {
            let load = Target::Application(LOAD.to_owned());
            self.mesh.start_again(load).await.map_err(|error| local::not_asked(&error))?;
        }
        Ok(Summary::new(&load, steps, &counters, &status))
    }

    /// The load comes last, so that its first request finds everything there.
    async fn start_load(&self, observer: &Observer<'_>) -> Result<(), Failure> {
        self.files.add_load().map_err(|error| not_written(&error))?;
        until("the first answer to the load generator", || async {
            let load = observer.load().await?;
            Ok((load.succeeded > 0).then_some(()).ok_or_else(|| format!("so far: {load:?}")))
        })
        .await
    }

    async fn play_step(
        &self,
        observer: &Observer<'_>,
        step: usize,
        percent: u8,
    ) -> Result<StepSummary, Failure> {
        self.phase.send_replace(Phase::Changing { step, percent });
        let before = observer.status().await?.version;
        let changed = self.files.set_canary(percent);
        changed.map_err(|error| not_written(&error))?;
        // The first step is what the file says already.
        let version = if step == 1 { before } else { before + 1 };
        until("every proxy's acknowledgement of canary.yaml", || async {
            Ok(is_applied(&observer.status().await?, version))
        })
        .await?;
        let first = self.first_report(observer).await?;
        let began = Instant::now();
        let until = began + self.step;
        self.phase.send_replace(Phase::Counting { step, percent, until });
        tokio::time::sleep_until(until).await;
        let last = observer.load().await?;
        Ok(StepSummary::between(percent, &first, &last, began.elapsed().as_secs_f64()))
    }

    /// The load's counts once every request has ended that may have been on its way before the change.
    async fn first_report(&self, observer: &Observer<'_>) -> Result<Report, Failure> {
        let sent = observer.load().await?.sent;
        until("the answers to the requests before the change", || async {
            let report = observer.load().await?;
            let through = report.completed_through;
            Ok(if through >= sent { Ok(report) } else { Err(format!("{through} of {sent} ended")) })
        })
        .await
    }

    /// Ends the load in good order and reads its last line.
    async fn end_load(&self) -> Result<Report, Failure> {
        let load = Target::Application(LOAD.to_owned());
        let stopped = self.mesh.stop(load, Signal::Terminate).await;
        stopped.map_err(|error| local::not_asked(&error))?;
        until("the load generator's last line", || async {
            let status = self.mesh.status().await.map_err(|error| local::not_asked(&error))?;
            let process = status.workload(LOAD).and_then(|workload| {
                workload.processes.iter().find(|process| process.name == LOAD)
            });
            let Some(process) = process else {
                return Ok(Err("there is no such process".to_owned()));
            };
            if process.running {
                return Ok(Err("it still runs".to_owned()));
            }
            let log = std::fs::read_to_string(&process.log).map_err(|error| {
                let what = format!("cannot read {}", process.log.display());
                Failure::new(what, "run the demo as one user throughout").because(&error)
            })?;
            Ok(last_report(&log).ok_or_else(|| format!("its log has none: {log}")))
        })
        .await
    }
}

async fn collect(observer: &Observer<'_>, counters: &mut Counters) -> Result<(), Failure> {
    for workload in WORKLOADS {
        counters.add(workload, observer.metrics(workload).await?);
    }
    Ok(())
}

/// The last line that is a report: the log has everything that the process wrote, also to standard
/// error.
fn last_report(log: &str) -> Option<Report> {
    log.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// Whether a configuration of at least this version is in force everywhere; otherwise what is missing.
fn is_applied(status: &StatusReport, version: u64) -> Result<(), String> {
    if status.version < version {
        return Err(format!("the control plane is at version {} still", status.version));
    }
    let split = status.objects.iter().find(|object| object.kind == "TrafficSplit");
    let Some(split) = split else {
        return Err("the control plane knows no TrafficSplit".to_owned());
    };
    match split.conditions.iter().find(|condition| condition.status != "True") {
        None if split.is("Programmed") => Ok(()),
        None => Err("it is not programmed yet".to_owned()),
        Some(condition) => Err(format!(
            "{} is {}, {}: {}",
            condition.kind, condition.status, condition.reason, condition.message
        )),
    }
}

/// Asks until it is so, and says what was missing if it is not in time. An answer that fails is asked
/// again too: what is asked may not have started yet.
async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Result<T, String>, Failure>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        let missing = match ask().await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => missing,
            Err(failure) => failure.headline(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::new(
                format!("waited {DEADLINE:?} in vain for {what}"),
                "run `meshctl demo --keep` and look with `meshctl status` and `meshctl local status`",
            )
            .because_of(missing));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn not_written(error: &io::Error) -> Failure {
    Failure::new(
        "cannot write the shop's YAML",
        "make room in the temporary directory, or set TMPDIR",
    )
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::admin;

    fn status(version: u64, conditions: &[(&str, &str)]) -> StatusReport {
        let condition = |(kind, status): &(&str, &str)| admin::Condition {
            r#type: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: "Waiting".to_owned(),
            message: "1 of 2 proxies".to_owned(),
        };
        let conditions = conditions.iter().map(condition).collect();
        let split =
            admin::Object { kind: "TrafficSplit".to_owned(), conditions, ..Default::default() };
        StatusReport::from(admin::Status { version, objects: vec![split], ..Default::default() })
    }

    #[test]
    fn a_change_is_applied_when_its_version_is_programmed() {
        let good = [("Accepted", "True"), ("Programmed", "True")];
        assert_eq!(is_applied(&status(4, &good), 4), Ok(()));
        assert!(is_applied(&status(3, &good), 4).unwrap_err().contains("version 3 still"));
        let waiting = status(4, &[("Accepted", "True"), ("Programmed", "Unknown")]);
        assert_eq!(
            is_applied(&waiting, 4).unwrap_err(),
            "Programmed is Unknown, Waiting: 1 of 2 proxies"
        );
        assert!(is_applied(&status(4, &[("Accepted", "True")]), 4).is_err());
    }

    #[test]
    fn the_last_report_is_found_among_other_lines() {
        let line = |sent| serde_json::to_string(&Report { sent, ..Report::default() }).unwrap();
        let log = format!("listening on [::]:9900\n{}\n{}\nbye\n", line(1), line(2));
        assert_eq!(last_report(&log).map(|report| report.sent), Some(2));
        assert_eq!(last_report("listening\n"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_in_vain_says_what_was_missing() {
        let waited = until::<(), _>("rain", || async { Ok(Err("no cloud".to_owned())) }).await;
        let text = waited.unwrap_err().to_string();
        assert!(text.contains("in vain for rain") && text.contains("no cloud"), "{text}");
    }
}
