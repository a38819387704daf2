//! What leaves the proxy as telemetry: who it is, what it says in OpenTelemetry's terms, and to whom.
//! What is counted is in metrics.rs.

pub mod calls;
pub mod gather;
pub mod logs;
pub mod metrics;
pub mod owner;
pub mod resource;
pub mod spans;
pub mod traces;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use heddle_telemetry::collector::{Collector, CollectorError};
use heddle_telemetry::exporter::{self, EXPORTS_ITSELF, Receiver};
use heddle_telemetry::settings::TelemetrySettings;
use http::HeaderValue;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::metrics::Metrics;
use crate::telemetry::gather::Gatherer;
use crate::telemetry::metrics::ExportMetrics;
use crate::telemetry::resource::{OwnWorkload, Resource};

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
    let own = resource.own.clone();
    let gatherer = Arc::new(Gatherer::new(metrics, registry, resource));
    // What goes to a collector from here is not to go there once more by way of the control plane.
    let exports_itself = (EXPORTS_ITSELF, HeaderValue::from_static("true"));
    let headers = telemetry.metrics.iter().map(|_| exports_itself.clone()).collect();
    let quiet = (*interval * QUIET_INTERVALS).min(QUIET_LIMIT);
    let timeout = CONTROL_PLANE_TIMEOUT;
    let control_plane = Receiver::ControlPlane { connection, timeout, headers, quiet };
    let mut receivers = vec![(control_plane, *interval)];
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
        let (drain, own) = (tasks.drain().clone(), own.clone());
        tasks.spawn(name, async move {
            // The control plane knows by the certificate whom it is told of; a collector by what is said.
            if let Receiver::Collector(_) = receiver {
                named(&own, &drain).await;
            }
            exporter::run(receiver, interval, gather, tell, drain).await;
        });
    }
    Ok(())
}

/// Waits until it is known whose proxy this is, so that nobody is told of a pod without a name. Not for ever: whoever looks
/// for a proxy that does not get so far finds it.
async fn named(own: &OwnWorkload, drain: &CancellationToken) {
    let known = async {
        while own.workload().is_none() {
            tokio::time::sleep(NAME_INTERVAL).await;
        }
    };
    tokio::select! {
        () = known => {}
        () = tokio::time::sleep(NAME_TIMEOUT) => {}
        () = drain.cancelled() => {}
    }
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

/// How often it is looked whether the workload is known,
const NAME_INTERVAL: Duration = Duration::from_millis(100);
/// and how long.
const NAME_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the control plane may take to take an export.
const CONTROL_PLANE_TIMEOUT: Duration = Duration::from_secs(5);
/// For how many intervals the control plane is told nothing while there is no traffic to tell of: most of a thousand proxies
/// have nothing to say at most times.
const QUIET_INTERVALS: u32 = 5;
/// And how long at most: with the interval that follows, half of the time after which the control plane takes a proxy for gone
/// (`AWAY_LIMIT` there).
const QUIET_LIMIT: Duration = Duration::from_secs(50);
