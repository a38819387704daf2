//! Asks everybody in the demo's mesh how it goes. What the answers mean is decided in measure.rs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heddle_local::mesh::Mesh;
use heddle_report::status::StatusReport;
use tokio::time::Instant;

use crate::admin;
use crate::failure::Failure;
use crate::shop::load::report::Report;
use heddle_telemetry::prometheus::{self, Sample};

/// Every workload of the shop; each has a proxy.
pub const WORKLOADS: [&str; 5] = ["load", "frontend", "api-v1", "api-v2", "store"];
/// The proxies' admin port.
const ADMIN_PORT: u16 = 15190;
/// Where the load serves its counts; as in load.yaml.
const STATS_PORT: u16 = 9900;

/// What everybody said at one moment. Who did not answer is not in it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When the asking was done.
    pub at: Instant,
    /// Each proxy's metrics, by workload.
    pub proxies: BTreeMap<String, Vec<Sample>>,
    /// What the control plane said.
    pub status: Option<StatusReport>,
    /// What the load counted.
    pub load: Option<Report>,
}

/// Asks the parts of one mesh.
#[derive(Clone, Debug)]
pub struct Observer<'a> {
    mesh: &'a Mesh,
    admin_socket: PathBuf,
}

impl<'a> Observer<'a> {
    /// For this mesh.
    pub fn new(mesh: &'a Mesh) -> Self {
        Self { mesh, admin_socket: mesh.files().admin_socket() }
    }

    /// Asks everybody. Whoever does not answer is left out: while the demo runs, that is what the
    /// screen is to show.
    pub async fn observe(&self) -> Observation {
        let mut proxies = BTreeMap::new();
        for workload in WORKLOADS {
            if let Ok(samples) = self.metrics(workload).await {
                proxies.insert(workload.to_owned(), samples);
            }
        }
        let status = self.status().await.ok();
        let load = self.load().await.ok();
        Observation { at: Instant::now(), proxies, status, load }
    }

    /// What the control plane says.
    pub async fn status(&self) -> Result<StatusReport, Failure> {
        admin::status(&self.admin_socket).await.map(StatusReport::from)
    }

    /// What the load has counted so far.
    pub async fn load(&self) -> Result<Report, Failure> {
        let text = self.read("load", STATS_PORT, "/stats").await?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new("cannot read the counts of the load generator", SAME_BUILD).because(&error)
        })
    }

    /// The metrics of a workload's proxy.
    pub async fn metrics(&self, workload: &str) -> Result<Vec<Sample>, Failure> {
        let text = self.read(workload, ADMIN_PORT, "/metrics").await?;
        prometheus::parse(&text).map_err(|error| {
            Failure::new(format!("cannot read the metrics of {workload}'s proxy"), SAME_BUILD)
                .because(&error)
        })
    }

    async fn read(&self, workload: &str, port: u16, path: &str) -> Result<String, Failure> {
        let what = || format!("cannot read http://{workload}:{port}{path}");
        let remedy = "see whether it runs: `meshctl local status`";
        let answer = self.mesh.http_get(workload, port, path).await;
        let answer = answer.map_err(|error| Failure::new(what(), remedy).because(&error))?;
        if answer.status != 200 {
            return Err(Failure::new(what(), remedy).because_of(format!(
                "status {}: {}",
                answer.status,
                answer.text()
            )));
        }
        Ok(answer.text())
    }
}

const SAME_BUILD: &str = "build all programs from one source: `cargo build`";
