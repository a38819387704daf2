//! Serves the webhook over HTTPS: connections, handshakes, one request after the other, within limits that
//! strangers meet too, since whoever reaches the port may call. What is answered is in review.rs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::logging::Chain;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::https::HttpsAcceptor;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::review::{self, Answered, Asked, Outcome, Unanswerable};
use crate::settings::MeshSettings;

/// What answers. Clones share it.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) settings: watch::Receiver<Arc<MeshSettings>>,
    pub(crate) namespaces: Namespaces,
    pub(crate) metrics: Metrics,
    reviews: Arc<Semaphore>,
}

impl Webhook {
    /// Answers by these settings, of the moment.
    pub(crate) fn new(
        settings: watch::Receiver<Arc<MeshSettings>>,
        namespaces: Namespaces,
        metrics: Metrics,
    ) -> Self {
        let reviews = Arc::new(Semaphore::new(REVIEWS_LIMIT));
        Self { settings, namespaces, metrics, reviews }
    }

    /// Answers one request, whatever it is.
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "there is /inject\n".to_owned());
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only POST\n".to_owned());
        }
        // Held until it is answered: what a body is parsed into is larger than the body.
        let (body, _place) = match self.read_body(request.into_body()).await {
            Ok(read) => read,
            Err(refusal) => {
                self.metrics.count_unanswered(refusal.label());
                return plain(refusal.status(), format!("{refusal}\n"));
            }
        };
        self.review(&body).await
    }

    /// All that is read at once is bounded: by the number of bodies, and the size of each.
    async fn read_body(&self, body: Incoming) -> Result<(Bytes, SemaphorePermit<'_>), BodyRefusal> {
        if body.size_hint().lower() > BODY_LIMIT_BYTES {
            return Err(BodyRefusal::TooLong);
        }
        let waiting = tokio::time::timeout(PLACE_TIMEOUT, self.reviews.acquire());
        let Ok(Ok(place)) = waiting.await else {
            self.metrics.overloaded.inc();
            return Err(BodyRefusal::Overloaded);
        };
        let limit = usize::try_from(BODY_LIMIT_BYTES).unwrap_or(usize::MAX);
        let collecting = Limited::new(body, limit).collect();
        match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
            Ok(Ok(collected)) => Ok((collected.to_bytes(), place)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefusal::TooLong),
            Ok(Err(_)) => Err(BodyRefusal::Broken),
            Err(_) => Err(BodyRefusal::Slow),
        }
    }

    async fn review(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let asked = match review::read(body) {
            Ok(asked) => asked,
            Err(unanswerable) => return self.refuse(&unanswerable),
        };
        let answered = match asked {
            Asked::Other(response) => Answered { response: *response, outcome: Outcome::Foreign },
            Asked::Pod(pod) => {
                let namespace = pod.namespace.clone();
                let labels = if pod.says_itself() {
                    Ok(Default::default())
                } else {
                    self.namespaces.labels(&namespace).await
                };
                let labels = match labels {
                    Ok(labels) => labels,
                    Err(error) => {
                        // Without an answer the webhook's failurePolicy decides.
                        warn!(error = %Chain(&error), "a pod is not decided on");
                        self.metrics.count_unanswered("unknown_namespace");
                        let text = format!("{}\n", Chain(&error));
                        return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
                    }
                };
                let mesh = Arc::clone(&self.settings.borrow());
                pod.answer(&labels, &mesh)
            }
        };
        self.answer(answered)
    }

    fn refuse(&self, unanswerable: &Unanswerable) -> Response<Full<Bytes>> {
        debug!(error = %Chain(unanswerable), "a review cannot be read");
        match review::refuse(unanswerable) {
            Some(answered) => self.answer(answered),
            None => {
                self.metrics.count_unanswered("not_a_review");
                plain(StatusCode::BAD_REQUEST, format!("{}\n", Chain(unanswerable)))
            }
        }
    }

    fn answer(&self, answered: Answered) -> Response<Full<Bytes>> {
        let (outcome, reason) = answered.outcome.labels();
        let error = (!answered.response.allowed).then_some(&answered.response.result.message);
        info!(outcome, reason, uid = answered.response.uid, error, "admission");
        self.metrics.count_admission(answered.outcome);
        match review::write(answered) {
            Ok(body) => with_type(StatusCode::OK, "application/json", Bytes::from(body)),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BodyRefusal {
    #[error("the body is longer than {BODY_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("the body did not come within {} seconds", BODY_TIMEOUT.as_secs())]
    Slow,
    #[error("the body broke off")]
    Broken,
    #[error("too many reviews at once")]
    Overloaded,
}

impl BodyRefusal {
    fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Overloaded => "overloaded",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Takes connections until `stop`; those that are open end with the drain of `tasks`, their requests done.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: HttpsAcceptor,
    webhook: Webhook,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    let warnings = Arc::new(Throttle::default());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            webhook.metrics.overloaded.inc();
            if warnings.is_due() {
                warn!("too many connections; one turned away");
            }
            continue;
        };
        let (acceptor, webhook) = (acceptor.clone(), webhook.clone());
        let (drain, warnings) = (tasks.drain().clone(), Arc::clone(&warnings));
        tasks.spawn_quiet(async move {
            let _slot = slot;
            serve_connection(stream, acceptor, webhook, drain, &warnings).await;
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: HttpsAcceptor,
    webhook: Webhook,
    drain: CancellationToken,
    warnings: &Throttle,
) {
    let stream = match acceptor.accept(stream, HANDSHAKE_TIMEOUT).await {
        Ok(stream) => stream,
        Err(error) => {
            webhook.metrics.handshakes_failed.inc();
            if warnings.is_due() {
                warn!(error = %Chain(&error), "handshake failed");
            }
            return;
        }
    };
    let service = service_fn(move |request| {
        let webhook = webhook.clone();
        async move { Ok::<_, Infallible>(webhook.handle(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_LIMIT)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection failed");
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from(text))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// Where the API server asks.
const PATH: &str = "/inject";
/// The API server takes objects of 3 MiB; a review holds one, and a little more.
const BODY_LIMIT_BYTES: u64 = 4 << 20;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many bodies are read, parsed and answered at once.
const REVIEWS_LIMIT: usize = 32;
/// How long a request waits for its turn.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);
/// API servers keep few connections; more are somebody else's.
const CONNECTIONS_LIMIT: usize = 512;
/// How many requests may be open in one connection.
const STREAMS_LIMIT: u32 = 128;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
