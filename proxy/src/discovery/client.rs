//! The discovery stream: opens it, keeps it open, and carries messages between it and the writer.
//! What the messages mean is in writer.rs.

use std::pin::pin;
use std::time::Duration;

use heddle_proto::discovery as wire;
use heddle_proto::discovery::discovery_client::DiscoveryClient;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::logging::Chain;
use heddle_tls::credentials::Credentials;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use crate::control_plane::{ConnectError, ControlPlane};
use crate::discovery::store::Ask;
use crate::discovery::writer::{SWEEP_INTERVAL, Verdict, Writer};

/// Carries messages between the control plane and the writer, for as long as the process runs.
pub struct Client {
    control_plane: ControlPlane,
    credentials: Credentials,
    writer: Writer,
    asks: mpsc::Receiver<Ask>,
    /// The connection of the open stream, which the trust bundle is watched over, too.
    connection: watch::Sender<Option<Channel>>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnded {
    #[error("there is no certificate that is valid now")]
    NoCertificate,
    #[error("cannot connect to the control plane")]
    Connect(#[from] ConnectError),
    #[error("the control plane did not open the stream within {} s", OPEN_TIMEOUT.as_secs())]
    OpenTimeout,
    #[error("the stream failed: {:?}: {}", .0.code(), .0.message())]
    Failed(tonic::Status),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("nothing came over the stream for {} s", SILENCE_LIMIT.as_secs())]
    Silent,
    #[error("the control plane believes that this proxy holds something else")]
    Resync,
}

impl From<tonic::Status> for StreamEnded {
    /// Not a source: a status prints its own, and the connection's errors say everything twice.
    fn from(status: tonic::Status) -> Self {
        Self::Failed(status)
    }
}

impl Client {
    /// Takes the writer, the asks it answers, and where to say which connection is open.
    pub fn new(
        control_plane: ControlPlane,
        credentials: Credentials,
        writer: Writer,
        asks: mpsc::Receiver<Ask>,
        connection: watch::Sender<Option<Channel>>,
    ) -> Self {
        Self { control_plane, credentials, writer, asks, connection }
    }

    /// Runs until drained, or until nobody can ask any more.
    pub async fn run(mut self, drain: CancellationToken) {
        tokio::select! {
            () = self.keep_streaming() => {}
            () = drain.cancelled() => {}
        }
    }

    async fn keep_streaming(&mut self) {
        let mut reconnect = Reconnect::new(Instant::now());
        while !self.asks.is_closed() {
            let mut opened_at = None;
            let outcome = self.stream(&mut opened_at).await;
            // An attempt that failed closes nothing: whoever waits for a connection goes on waiting.
            self.connection.send_if_modified(|open| open.take().is_some());
            self.writer.closed();
            let now = Instant::now();
            if opened_at.is_some_and(|at| now.duration_since(at) > STABLE_AFTER) {
                reconnect = Reconnect::new(now);
            }
            let delay = reconnect.next_delay(now);
            match outcome {
                Ok(()) => return,
                // Expected while the first certificate is on its way; identity.rs tells of failures.
                Err(StreamEnded::NoCertificate) => {}
                Err(error) if reconnect.is_worth_a_warning(now) => {
                    warn!(error = %Chain(&error), "discovery stream ended, reconnecting");
                }
                Err(error) => debug!(error = %Chain(&error), "discovery stream ended again"),
            }
            self.pause(delay).await;
        }
    }

    /// One stream, from connecting to its end. Ends without an error when nobody can ask any more.
    async fn stream(&mut self, opened_at: &mut Option<Instant>) -> Result<(), StreamEnded> {
        if !has_valid_certificate(&self.credentials) {
            return Err(StreamEnded::NoCertificate);
        }
        self.writer.opening();
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        while sender.capacity() > 0
            && let Some(message) = self.writer.take_outgoing()
        {
            // There is room, and the receiver is in this function.
            let _ = sender.try_send(message);
        }
        let (channel, stream) = {
            let opening = open(self.control_plane.clone(), self.credentials.clone(), receiver);
            let mut opening = pin!(tokio::time::timeout(OPEN_TIMEOUT, opening));
            loop {
                tokio::select! {
                    opened = &mut opening => break opened.map_err(|_| StreamEnded::OpenTimeout)??,
                    ask = self.asks.recv() => match ask {
                        Some(ask) => self.writer.ask(ask, Instant::now()),
                        None => return Ok(()),
                    },
                }
            }
        };
        *opened_at = Some(Instant::now());
        self.connection.send_replace(Some(channel));
        self.writer.opened();
        info!(control_plane = %self.control_plane.address(), "discovery stream open");
        self.converse(sender, stream).await
    }

    async fn converse(
        &mut self,
        sender: mpsc::Sender<wire::ProxyMessage>,
        mut stream: tonic::Streaming<wire::ControlMessage>,
    ) -> Result<(), StreamEnded> {
        let mut sweep = sweep_timer();
        let mut silent_at = Instant::now() + SILENCE_LIMIT;
        loop {
            tokio::select! {
                permit = sender.reserve(), if self.writer.has_outgoing() => {
                    let permit = permit.map_err(|_| StreamEnded::Closed)?;
                    if let Some(message) = self.writer.take_outgoing() {
                        permit.send(message);
                    }
                }
                message = stream.message(), if self.writer.takes_more() => {
                    let message = message?.ok_or(StreamEnded::Closed)?;
                    silent_at = Instant::now() + SILENCE_LIMIT;
                    if self.writer.receive(message) == Verdict::Resync {
                        return Err(StreamEnded::Resync);
                    }
                }
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.writer.ask(ask, Instant::now()),
                    None => return Ok(()),
                },
                _ = sweep.tick() => self.writer.sweep(Instant::now()),
                () = tokio::time::sleep_until(silent_at) => return Err(StreamEnded::Silent),
            }
        }
    }

    /// Waits before the next stream, or until there is a new certificate to open it with.
    async fn pause(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        self.writer.sweep(Instant::now());
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.credentials.changed() => return,
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.writer.ask(ask, Instant::now()),
                    None => return,
                },
            }
        }
    }
}

/// How long to wait before a stream is opened again. When a control plane comes back its proxies must
/// hear of what they missed within two seconds; one that stays away for long is better not tried by
/// every proxy of the cluster each second. A thousand proxies that wait for up to a second each are
/// two thousand refused connections a second, which cost nothing, and then a thousand handshakes
/// spread over one second.
struct Reconnect {
    since: Instant,
    warned_at: Option<Instant>,
    soon: Backoff,
    later: Backoff,
}

impl Reconnect {
    fn new(since: Instant) -> Self {
        Self {
            since,
            warned_at: None,
            soon: Backoff::new(FIRST_DELAY, LONGEST_DELAY_AT_FIRST),
            later: Backoff::new(LONGEST_DELAY_AT_FIRST, LONGEST_DELAY),
        }
    }

    fn next_delay(&mut self, now: Instant) -> Duration {
        if now.duration_since(self.since) < AT_FIRST {
            self.soon.next_delay()
        } else {
            self.later.next_delay()
        }
    }

    /// True for the first failure of an outage, and then now and again.
    fn is_worth_a_warning(&mut self, now: Instant) -> bool {
        let due = self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL);
        if due {
            self.warned_at = Some(now);
        }
        due
    }
}

async fn open(
    control_plane: ControlPlane,
    credentials: Credentials,
    receiver: mpsc::Receiver<wire::ProxyMessage>,
) -> Result<(Channel, tonic::Streaming<wire::ControlMessage>), StreamEnded> {
    let channel = control_plane.connect(&credentials).await?;
    let response = DiscoveryClient::new(channel.clone())
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .stream(ReceiverStream::new(receiver))
        .await?;
    Ok((channel, response.into_inner()))
}

fn has_valid_certificate(credentials: &Credentials) -> bool {
    credentials.leaf_not_after().is_some_and(|not_after| not_after > heddle_runtime::clock::now())
}

fn sweep_timer() -> tokio::time::Interval {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    sweep
}

/// The ceiling of the first wait; see [`Backoff`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The ceiling of waits while [`AT_FIRST`] lasts.
const LONGEST_DELAY_AT_FIRST: Duration = Duration::from_secs(1);
/// Longer than a restart, an upgrade or the replacement of a machine takes.
const AT_FIRST: Duration = Duration::from_secs(600);
/// The ceiling of waits after that.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A stream that lasted this long was a good one, so that the waits start over.
const STABLE_AFTER: Duration = Duration::from_secs(2);
/// How often an outage is warned of.
const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// How long connecting, the handshake and the first answer may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The control plane sends a digest every 30 seconds: three are missing then.
const SILENCE_LIMIT: Duration = Duration::from_secs(100);
/// How many messages wait inside the stream.
const STREAM_BUFFER: usize = 128;
/// Room for the endpoints of the largest service.
const MESSAGE_LIMIT_BYTES: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restarted_control_plane_is_found_within_a_second_at_first() {
        let start = Instant::now();
        let mut reconnect = Reconnect::new(start);
        for attempt in 0..20 {
            let delay = reconnect.next_delay(start + Duration::from_secs(attempt));
            assert!(delay <= LONGEST_DELAY_AT_FIRST, "attempt {attempt} waits {delay:?}");
        }
        let longest = (0..200).map(|_| reconnect.next_delay(start + AT_FIRST)).max().unwrap();
        assert!(longest > LONGEST_DELAY_AT_FIRST && longest <= LONGEST_DELAY, "{longest:?}");
    }
}
