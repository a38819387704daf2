//! Mirrors: copies of requests, whose responses are thrown away. A copy never holds up its original,
//! nor fails it: it is sent by a task of its own, after all of the original's body has passed. Its
//! headers are those of the original, also the host. Source: Gateway API v1, HTTPRequestMirrorFilter.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
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

/// How many copies may wait for their originals, and how many may be under way: who sends slowly
/// takes no place of those that could be sent. Clones share the places.
#[derive(Clone, Debug)]
pub struct MirrorPlaces {
    waiting: Arc<Semaphore>,
    sending: Arc<Semaphore>,
}

impl Default for MirrorPlaces {
    fn default() -> Self {
        Self::new(MIRROR_WAITING_LIMIT, MIRROR_LIMIT)
    }
}

impl MirrorPlaces {
    /// Of so many each.
    pub(crate) fn new(waiting: usize, sending: usize) -> Self {
        let places = |limit| Arc::new(Semaphore::new(limit));
        Self { waiting: places(waiting), sending: places(sending) }
    }
}

fn take(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, MirrorOutcome> {
    Arc::clone(places).try_acquire_owned().map_err(|_full| MirrorOutcome::TooMany)
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
        // One whose original has passed has nothing to wait for.
        let first = if kept.has_passed() { &places.sending } else { &places.waiting };
        let place = match take(first) {
            Ok(place) => place,
            Err(outcome) => {
                dialer.metrics.routes.count_mirrored(outcome);
                continue;
            }
        };
        let (dialer, kept, places) = (Arc::clone(dialer), kept.clone(), places.clone());
        dialer.tasks.clone().spawn_quiet(async move {
            let label = Arc::clone(backend.label());
            let copying = async {
                let (request, _place) = wait(kept, place, &places).await?;
                Ok(Box::pin(copy(Arc::clone(&dialer), version, request, backend)).await)
            };
            let outcome = tokio::time::timeout(MIRROR_TIMEOUT, copying).await;
            let outcome = outcome.unwrap_or(Ok(MirrorOutcome::TimedOut));
            let outcome = outcome.unwrap_or_else(|not_sent| not_sent);
            debug!(backend = %label, outcome = outcome.as_str(), "request mirrored");
            dialer.metrics.routes.count_mirrored(outcome);
        });
    }
}

/// Waits for the original to pass, and gives the place of one that waits for one of those under way.
async fn wait(
    kept: Kept,
    place: OwnedSemaphorePermit,
    places: &MirrorPlaces,
) -> Result<(Request<Body>, OwnedSemaphorePermit), MirrorOutcome> {
    let request = kept.whole().await.map_err(|not_kept| match not_kept {
        NotKept::TooLong => MirrorOutcome::BodyTooLong,
        NotKept::BrokenOff => MirrorOutcome::BrokenOff,
    })?;
    let is_waiting = Arc::ptr_eq(place.semaphore(), &places.waiting);
    let place = if is_waiting { take(&places.sending)? } else { place };
    Ok((request, place))
}

async fn copy(
    dialer: Arc<Dialer>,
    version: HttpVersion,
    request: Request<Body>,
    backend: Arc<Balancer>,
) -> MirrorOutcome {
    let outgoing = Outgoing {
        request: Box::new(request),
        version,
        backend,
        session: None,
        avoid: Vec::new(),
        attempt_limit: None,
        direction: Direction::Outbound,
        place: None,
    };
    match send(&dialer, outgoing).await {
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

/// Copies that may wait, in one proxy, for their originals to pass. They are cheap: a head each, as the
/// body is held by the original until it is whole. Beyond this, those with a body are not copied.
pub const MIRROR_WAITING_LIMIT: usize = 4096;
/// Copies that one proxy may have under way. Each holds a body of
/// [`crate::http::kept::KEPT_LIMIT_BYTES`] at most.
pub const MIRROR_LIMIT: usize = 256;
/// How long a copy may take, from the original's head on. Envoy's default for any request.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);
/// More is not worth a connection.
const DISCARD_LIMIT_BYTES: usize = 64 * 1024;
/// As above.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
