//! Tells the control plane which trust anchors and which certificate this proxy goes by. A rotation waits
//! for it.

use std::time::{Duration, SystemTime};

use heddle_proto::identity as wire;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_runtime::backoff::Backoff;
use heddle_tls::credentials::Held;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;
use tracing::debug;

use crate::identity::{CertificateClient, changed};

impl CertificateClient {
    /// Tells it once over each connection, and whenever it changes. Never returns.
    pub(super) async fn keep_acknowledged(&self, mut connection: watch::Receiver<Option<Channel>>) {
        let mut credentials = self.writer.subscribe();
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            let open = connection.borrow_and_update().clone();
            // Read before a change is waited for, so that none is missed.
            let held = credentials.held();
            let retry = match (open, held) {
                (Some(channel), Some(held)) => match acknowledge(channel, held).await {
                    Ok(()) => {
                        backoff.reset();
                        None
                    }
                    Err(status) => {
                        debug!(error = %status, "what this proxy goes by could not be told");
                        Some(backoff.next_delay())
                    }
                },
                (Some(_) | None, _) => None,
            };
            let retry = async {
                match retry {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = retry => {}
                () = credentials.changed() => {}
                () = changed(&mut connection) => {}
            }
        }
    }
}

async fn acknowledge(channel: Channel, held: Held) -> Result<(), tonic::Status> {
    let since = held.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let request = wire::AcknowledgeRequest {
        trust_bundle_digest: held.bundle.to_bytes(),
        issuer_digest: held.issuer.map(|issuer| issuer.to_bytes()).unwrap_or_default(),
        not_after: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
    };
    let mut client = IdentityClient::new(channel);
    match tokio::time::timeout(ANSWER_TIMEOUT, client.acknowledge(request)).await {
        Ok(Ok(_)) => Ok(()),
        // An older control plane does not want to know.
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(()),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(tonic::Status::deadline_exceeded("no answer came in time")),
    }
}

/// The ceiling of the first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The ceiling of all waits.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// The control plane only takes note.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
