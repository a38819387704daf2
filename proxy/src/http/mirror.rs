//! Mirrors: copies of requests, whose responses are thrown away. A copy never holds up its original,
//! nor fails it: it is sent by a task of its own, after all of the original's body has passed. Its
//! headers are those of the original, also the host. Source: Gateway API v1, HTTPRequestMirrorFilter.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::balance::balancer::Balancer;
use crate::connect::Dialer;
use crate::http::HttpVersion;
use crate::http::body::Body;
use crate::http::kept::{Kept, NotKept};
use crate::http::send::{Failure, Outgoing, send};
use crate::metrics::Direction;
use crate::metrics::routes::MirrorOutcome;

/// How many copies may be under way. Clones share the places.
#[derive(Clone, Debug)]
pub struct MirrorPlaces(Arc<Semaphore>);

impl Default for MirrorPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MIRROR_LIMIT)))
    }
}

impl MirrorPlaces {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Sends a copy of what was kept to each of `backends`, as far as there are places.
pub fn mirror(
    dialer: &Arc<Dialer>,
    places: &MirrorPlaces,
    version: HttpVersion,
    kept: &Kept,
    backends: Vec<Arc<Balancer>>,
) {
    for backend in backends {
        let Some(place) = places.take() else {
            dialer.metrics.routes.count_mirrored(MirrorOutcome::TooMany);
            continue;
        };
        let (dialer, kept) = (Arc::clone(dialer), kept.clone());
        dialer.tasks.clone().spawn_quiet(async move {
            let label = Arc::clone(backend.label());
            let copying = Box::pin(copy(Arc::clone(&dialer), version, kept, backend));
            let outcome = tokio::time::timeout(MIRROR_TIMEOUT, copying).await;
            let outcome = outcome.unwrap_or(MirrorOutcome::TimedOut);
            debug!(backend = %label, outcome = outcome.as_str(), "request mirrored");
            dialer.metrics.routes.count_mirrored(outcome);
            drop(place);
        });
    }
}

async fn copy(
    dialer: Arc<Dialer>,
    version: HttpVersion,
    kept: Kept,
    backend: Arc<Balancer>,
) -> MirrorOutcome {
    let request = match kept.whole().await {
        Ok(request) => request,
        Err(NotKept::TooLong) => return MirrorOutcome::BodyTooLong,
        Err(NotKept::BrokenOff) => return MirrorOutcome::BrokenOff,
    };
    let outgoing = Outgoing {
        request,
        version,
        backend,
        session: None,
        avoid: Vec::new(),
        attempt_limit: None,
        direction: Direction::Outbound,
    };
    match send(dialer, outgoing).await {
        Ok(answer) => {
            discard(answer.response.into_body()).await;
            MirrorOutcome::Answered
        }
        Err(Failure { error, .. }) => {
            debug!(reason = error.reason(), "mirrored request failed");
            MirrorOutcome::Failed
        }
    }
}

/// Reads a response that nobody wants, if it is short, so that its connection can be used again.
pub async fn discard(mut body: Body) {
    let reading = async {
        let mut read_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read_bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if read_bytes > DISCARD_LIMIT_BYTES {
                break;
            }
        }
    };
    // One that takes longer is cut off with its connection.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// Copies that one proxy may have under way. Each holds a body of
/// [`crate::http::kept::KEPT_LIMIT_BYTES`] at most.
pub const MIRROR_LIMIT: usize = 256;
/// How long a copy may take, from the original's head on. Envoy's default for any request.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);
/// More is not worth a connection.
const DISCARD_LIMIT_BYTES: usize = 64 * 1024;
/// As above.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
