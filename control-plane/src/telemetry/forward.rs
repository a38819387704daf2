//! What proxies export goes on to a collector, if one is named. Proxies do not wait for it: their exports wait encoded,
//! within a bound, and what finds no room is dropped and counted. All that they count is in the next export, too.

use std::fmt;
use std::sync::Arc;

use heddle_runtime::logging::Chain;
use heddle_runtime::throttle::Throttle;
use heddle_telemetry::collector::{Collector, CollectorError, SendError};
use heddle_telemetry::exporter::{self, Outcome};
use heddle_telemetry::settings::Signal;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use prost::bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::collector::ForwardSettings;
use crate::metrics::Metrics;
use crate::telemetry::proxy::Origin;
use crate::telemetry::resource::correct;

/// Where exports are handed over. Clones share the queue.
#[derive(Clone)]
pub struct Forwarder {
    queue: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    of_all: Arc<[(String, String)]>,
    metrics: Metrics,
}

/// The other end, which takes them to the collector.
pub struct Forwarding {
    collector: Collector,
    queue: mpsc::Receiver<Parcel>,
    metrics: Metrics,
    warnings: Throttle,
}

/// One export, encoded, and its room.
struct Parcel {
    message: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Both ends. Fails if there can be no way to the collector.
pub fn channel(
    settings: ForwardSettings,
    metrics: &Metrics,
) -> Result<(Forwarder, Forwarding), CollectorError> {
    let ForwardSettings { collector, resource } = settings;
    let (sender, queue) = mpsc::channel(WAITING_LIMIT);
    let forwarder = Forwarder {
        queue: sender,
        room: Arc::new(Semaphore::new(WAITING_LIMIT_BYTES)),
        of_all: resource.into(),
        metrics: metrics.clone(),
    };
    let collector = Collector::new(collector, None)?;
    let (metrics, warnings) = (metrics.clone(), Throttle::default());
    Ok((forwarder, Forwarding { collector, queue, metrics, warnings }))
}

impl Forwarder {
    /// Hands an export over, with what is proven of whose it is. Does not wait.
    pub fn forward(&self, mut export: ExportMetricsServiceRequest, origin: &Origin) {
        for resource in &mut export.resource_metrics {
            let claimed = resource.resource.take();
            resource.resource = Some(correct(claimed, origin, &self.of_all));
        }
        let parcel = self.parcel(&export);
        let is_queued = parcel.is_some_and(|parcel| self.queue.try_send(parcel).is_ok());
        if !is_queued {
            self.metrics.export_forwarded(DROPPED, 1);
        }
    }

    /// `None`: there is no room for it.
    fn parcel(&self, export: &ExportMetricsServiceRequest) -> Option<Parcel> {
        let length = u32::try_from(export.encoded_len()).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(length).ok()?;
        Some(Parcel { message: export.encode_to_vec().into(), _room: room })
    }
}

impl Forwarding {
    /// Takes exports to the collector, one message at a time, until drained; what waits then goes, too, unless the collector
    /// does not take it.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut next = None;
        loop {
            let is_last = drain.is_cancelled();
            if is_last {
                self.queue.close();
            }
            let first = match next.take() {
                Some(parcel) => Some(parcel),
                None => tokio::select! {
                    parcel = self.queue.recv() => parcel,
                    () = drain.cancelled(), if !is_last => continue,
                },
            };
            let Some(first) = first else { return };
            let (parcels, rest) = self.batch(first);
            next = rest;
            let is_taken = self.send(&parcels).await;
            if is_last && !is_taken {
                return;
            }
        }
    }

    /// What waits, as far as it makes one message; and the one that did not fit.
    fn batch(&mut self, first: Parcel) -> (Vec<Parcel>, Option<Parcel>) {
        let mut length = first.message.len();
        let mut parcels = vec![first];
        while let Ok(parcel) = self.queue.try_recv() {
            length += parcel.message.len();
            if length > MESSAGE_LIMIT_BYTES {
                return (parcels, Some(parcel));
            }
            parcels.push(parcel);
        }
        (parcels, None)
    }

    /// Whether the collector took them.
    async fn send(&self, parcels: &[Parcel]) -> bool {
        // An export is a list: one after the other, several are one.
        let mut message = BytesMut::new();
        for parcel in parcels {
            message.extend_from_slice(&parcel.message);
        }
        let answer = self.collector.send(Signal::Metrics, message.freeze()).await;
        let answer = answer.map(|answer| self.rejected(answer));
        let outcome = exporter::judge(&answer);
        let count = u64::try_from(parcels.len()).unwrap_or(u64::MAX);
        self.metrics.export_forwarded(outcome.as_str(), count);
        if let Outcome::Partial { rejected } = outcome {
            self.metrics.telemetry_forwarded_points_rejected.inc_by(rejected);
        }
        match answer {
            Ok(_) => true,
            Err(error) => {
                self.warn(&error);
                false
            }
        }
    }

    fn rejected(&self, answer: ExportMetricsServiceResponse) -> u64 {
        let Some(partial) = answer.partial_success else { return 0 };
        if !partial.error_message.is_empty() {
            debug!(error = %partial.error_message, "metrics passed on with a remark");
        }
        partial.rejected_data_points.unsigned_abs()
    }

    fn warn(&self, error: &SendError) {
        if self.warnings.is_due() {
            warn!(error = %Chain(error), "metrics of proxies not taken by the collector");
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding").field("collector", &self.collector).finish_non_exhaustive()
    }
}

/// The word in metrics for what found no room.
pub const DROPPED: &str = "dropped";
/// What waits for the collector at most: what a thousand proxies of twenty busy series each export at once.
const WAITING_LIMIT_BYTES: usize = 16 << 20;
/// In so many exports.
const WAITING_LIMIT: usize = 4096;
/// Of a message to the collector: an eighth of what collectors take. Only an export that is longer is a longer message.
const MESSAGE_LIMIT_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests;
