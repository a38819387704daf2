//! Load on a service, from inside of a workload: `meshctl shop load` and its report.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::metrics::Metrics;
use crate::world::World;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    arguments: Vec<String>,
}

impl Load {
    /// Requests for this URL.
    pub fn on(url: &str) -> Self {
        let words = ["meshctl", "shop", "load", "--output", "json", "--target", url];
        Self { arguments: words.map(ToOwned::to_owned).to_vec() }
    }

    /// Exactly this many.
    #[must_use]
    pub fn requests(self, number: u64) -> Self {
        self.with("--requests", &number.to_string())
    }

    /// For this long.
    #[must_use]
    pub fn seconds(self, seconds: u64) -> Self {
        self.with("--duration", &format!("{seconds}s"))
    }

    /// This many per second.
    #[must_use]
    pub fn rate(self, per_second: u64) -> Self {
        self.with("--rate", &per_second.to_string())
    }

    /// Over this many connections.
    #[must_use]
    pub fn connections(self, number: u64) -> Self {
        self.with("--connections", &number.to_string())
    }

    /// Over HTTP/2.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.arguments.push("--http2".to_owned());
        self
    }

    /// Sends them from a workload.
    pub async fn run(&self, world: &World, workload: &str) -> Result<Report> {
        let output = world.run(workload, &self.arguments).await?;
        let mut report: Report = serde_json::from_slice(&output.stdout).with_context(|| {
            let (stdout, stderr) = (output.stdout_text(), output.stderr_text());
            format!("load ended with {}: {stdout}{stderr}", output.code)
        })?;
        if report.failed > 0 {
            // Where the failures came from; a workload without a proxy has nothing to say.
            let metrics = Metrics::of(world, workload).await;
            report.errors =
                metrics.map(|metrics| metrics.show("heddle_http_errors")).unwrap_or_default();
        }
        Ok(report)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }
}

/// What became of the requests.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// All that were begun.
    pub sent: u64,
    /// Status 200 and the whole body.
    pub succeeded: u64,
    /// All others.
    pub failed: u64,
    /// Why they failed.
    pub failures: BTreeMap<String, u64>,
    /// How many each version answered.
    pub versions: BTreeMap<String, u64>,
    /// How long it took.
    pub seconds: f64,
    /// How long the answers took.
    pub latency_ms: Latency,
    /// What the workload's own proxy counts as errors, if anything failed.
    #[serde(skip)]
    pub errors: String,
}

/// Milliseconds; absent when nothing succeeded.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Latency {
    /// 99 of 100 stay within this.
    pub p99: Option<f64>,
    /// The longest.
    pub longest: Option<f64>,
}

impl Report {
    /// Fails when a request was lost.
    pub fn nothing_lost(&self) -> Result<()> {
        ensure!(self.sent > 0, "nothing was sent");
        ensure!(
            self.failed == 0 && self.succeeded == self.sent,
            "{} of {} requests were lost: {:?}\n{}",
            self.sent - self.succeeded,
            self.sent,
            self.failures,
            self.errors
        );
        Ok(())
    }

    /// How many one version answered.
    pub fn of(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or_default()
    }

    /// The share of one version in percent.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn percent(&self, version: &str) -> f64 {
        100.0 * self.of(version) as f64 / self.sent as f64
    }
}
