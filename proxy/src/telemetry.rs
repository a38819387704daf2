//! What leaves the proxy as telemetry: who it is, what it says in OpenTelemetry's terms, and to whom.
//! What is counted is in metrics.rs.

pub mod calls;
pub mod gather;
pub mod metrics;
pub mod owner;
pub mod resource;
pub mod spans;
pub mod traces;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use heddle_telemetry::collector::{Collector, CollectorError};
use heddle_telemetry::exporter::{self, Receiver};
use heddle_telemetry::settings::TelemetrySettings;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::metrics::Metrics;
use crate::telemetry::gather::Gatherer;
use crate::telemetry::metrics::ExportMetrics;
use crate::telemetry::resource::Resource;

/// Begins to export metrics, if that is not turned off: to the control plane, over whatever connection to it is
/// open, and to the collector that the settings name.
///
/// Fails if there can be no way to the collector.
pub fn start(
    settings: &ExportSettings,
    resource: Resource,
    (metrics, registry, exports): (Arc<Metrics>, Arc<Mutex<Registry>>, ExportMetrics),
    connection: watch::Receiver<Option<Channel>>,
    tasks: &Tasks,
) -> Result<(), CollectorError> {
    let ExportSettings { telemetry, interval, mark } = settings;
    if !telemetry.is_enabled {
        return Ok(());
    }
    let gatherer = Arc::new(Gatherer::new(metrics, registry, resource));
    let mut receivers =
        vec![(Receiver::ControlPlane { connection, timeout: CONTROL_PLANE_TIMEOUT }, *interval)];
    if let Some(collector) = telemetry.metrics.clone() {
        let collector = Collector::new(collector, *mark)?;
        receivers.push((Receiver::Collector(collector), telemetry.interval));
    }
    for (receiver, interval) in receivers {
        let (gatherer, exports) = (Arc::clone(&gatherer), exports.clone());
        let word = receiver.as_str();
        let name = match receiver {
            Receiver::ControlPlane { .. } => "telemetry.control_plane",
            Receiver::Collector(_) => "telemetry.collector",
        };
        let gather = move || gatherer.gather();
        let tell = move |outcome| exports.count(word, outcome);
        tasks.spawn(name, exporter::run(receiver, interval, gather, tell, tasks.drain().clone()));
    }
    Ok(())
}

/// Where telemetry goes.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// What OpenTelemetry's variables say.
    pub telemetry: TelemetrySettings,
    /// How often the control plane is told.
    pub interval: Duration,
    /// Put on sockets, so that the redirect lets them pass.
    pub mark: Option<u32>,
}

/// How long the control plane may take to take an export.
const CONTROL_PLANE_TIMEOUT: Duration = Duration::from_secs(5);
