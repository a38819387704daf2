//! Tells a receiver of metrics, again and again. Each export has all series with all that was counted
//! since they began, so that one that fails loses nothing but a moment: the next has it all. There is one
//! export at a time, and nothing is kept for later, so that a slow receiver costs no memory.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::logging::Chain;
use http::{HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::collector::{Collector, SendError, grpc};
use crate::parts::split;
use crate::settings::Signal;
use crate::traffic::Traffic;

/// Who is told.
#[derive(Clone)]
pub enum Receiver {
    /// The mesh's control plane, over the connection that there is.
    ControlPlane {
        /// The connection, while there is one.
        connection: watch::Receiver<Option<Channel>>,
        /// How long one export may take.
        timeout: Duration,
        /// Sent with each export.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// How long it may be told nothing while there is no traffic to tell of.
        quiet: Duration,
    },
    /// Any other.
    Collector(Collector),
}

impl Receiver {
    /// The word for it in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ControlPlane { .. } => "control_plane",
            Self::Collector(_) => "collector",
        }
    }

    async fn export(
        &self,
        request: ExportMetricsServiceRequest,
    ) -> Result<ExportMetricsServiceResponse, SendError> {
        let request = Bytes::from(request.encode_to_vec());
        match self {
            Self::ControlPlane { connection, timeout, headers, quiet: _ } => {
                let channel = connection.borrow().clone().ok_or(SendError::NotConnected)?;
                let call = grpc(channel, Signal::Metrics, request, headers);
                tokio::time::timeout(*timeout, call).await.map_err(|_| SendError::Timeout)?
            }
            Self::Collector(collector) => collector.send(Signal::Metrics, request).await,
        }
    }

    /// Whether there is another connection than when this was last asked, or none.
    fn is_another_connection(&mut self) -> bool {
        match self {
            Self::ControlPlane { connection, .. } => {
                let has_changed = connection.has_changed().unwrap_or_default();
                connection.mark_unchanged();
                has_changed
            }
            Self::Collector(_) => false,
        }
    }

    /// How long it may be told nothing while there is no traffic; `None`: it may not.
    fn quiet(&self) -> Option<Duration> {
        match self {
            Self::ControlPlane { quiet, .. } => Some(*quiet),
            Self::Collector(_) => None,
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Succeeded,
    /// It was taken, but for so many points.
    Partial {
        /// Of points.
        rejected: u64,
    },
    /// It was not: there was no connection to send it over.
    NotConnected,
    /// It was not taken in time.
    TimedOut,
    /// It was refused, or broke off.
    Failed,
}

impl Outcome {
    /// Of what was not taken.
    pub(crate) fn of(error: &SendError) -> Self {
        match error {
            SendError::NotConnected => Self::NotConnected,
            SendError::Timeout => Self::TimedOut,
            SendError::Connect { .. }
            | SendError::Refused(_)
            | SendError::Status { .. }
            | SendError::Http(_)
            | SendError::Unreadable(_) => Self::Failed,
        }
    }

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial { .. } => "partial",
            Self::NotConnected => "not_connected",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
        }
    }
}

/// What was told last, and when, over the connection that there is.
struct Told {
    traffic: Traffic,
    at: Instant,
}

/// Exports until drained, and once more then. `gather` is asked for all series each time, and `tell` is
/// told of each outcome. A control plane is not told the same again at once: an export that would say of traffic what the
/// last one said over this connection is left out for a while.
pub async fn run(
    mut receiver: Receiver,
    interval: Duration,
    gather: impl Fn() -> ExportMetricsServiceRequest,
    tell: impl Fn(Outcome),
    drain: CancellationToken,
) {
    let mut warned_at: Option<Instant> = None;
    let mut told: Option<Told> = None;
    // Proxies that were started together do not tell together.
    let mut next = Instant::now() + interval.mul_f64(rand::rng().random_range(0.0..1.0));
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep_until(next) => false,
            () = drain.cancelled() => true,
        };
        if receiver.is_another_connection() {
            told = None;
        }
        let request = gather();
        let traffic = receiver.quiet().map(|quiet| (Traffic::of(&request), quiet));
        if !is_last && is_told(told.as_ref(), traffic.as_ref()) {
            next = after(next, interval);
            continue;
        }
        told = None;
        let answer = export_all(&receiver, request).await;
        tell(judge(&answer));
        match answer {
            Ok(_rejected) => {
                told = traffic.map(|(traffic, _)| Told { traffic, at: Instant::now() });
            }
            // Told of elsewhere: it is the connection that everything else goes over.
            Err(SendError::NotConnected) => {}
            Err(error) => {
                let now = Instant::now();
                let is_due = warned_at.is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL);
                if is_due && !is_last {
                    warned_at = Some(now);
                    warn!(receiver = receiver.as_str(), error = %Chain(&error), "metrics not taken");
                }
            }
        }
        if is_last {
            return;
        }
        next = after(next, interval);
    }
}

/// Whether nothing is to be told of traffic that was not told a short while ago.
fn is_told(told: Option<&Told>, traffic: Option<&(Traffic, Duration)>) -> bool {
    told.zip(traffic).is_some_and(|(told, (traffic, quiet))| {
        told.traffic == *traffic && told.at.elapsed() < *quiet
    })
}

/// No two exports at once: what took longer than the interval is followed by one soon.
fn after(last: Instant, interval: Duration) -> Instant {
    let jitter = rand::rng().random_range(0.9..1.1);
    (last + interval.mul_f64(jitter)).max(Instant::now())
}

/// In as many messages as it takes, one after the other; how many points were rejected.
async fn export_all(
    receiver: &Receiver,
    request: ExportMetricsServiceRequest,
) -> Result<u64, SendError> {
    let mut rejected = 0;
    for part in split(request, PART_LIMIT_BYTES) {
        let Some(partial) = receiver.export(part).await?.partial_success else { continue };
        rejected += partial.rejected_data_points.unsigned_abs();
        if !partial.error_message.is_empty() {
            let error = partial.error_message;
            debug!(receiver = receiver.as_str(), %error, "metrics taken with a remark");
        }
    }
    Ok(rejected)
}

/// What became of an export, of which so many points were rejected.
pub fn judge(answer: &Result<u64, SendError>) -> Outcome {
    match answer {
        Ok(0) => Outcome::Succeeded,
        Ok(rejected) => Outcome::Partial { rejected: *rejected },
        Err(error) => Outcome::of(error),
    }
}

/// With this header a proxy tells the control plane that a collector has its metrics from itself.
pub const EXPORTS_ITSELF: HeaderName = HeaderName::from_static("heddle-exports-itself");
/// Of a message: half of what the control plane takes, and an eighth of what collectors do.
pub(crate) const PART_LIMIT_BYTES: usize = 512 * 1024;
/// How often it is warned of a receiver that does not take what it is sent.
pub(crate) const WARN_INTERVAL: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
