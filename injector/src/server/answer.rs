//! Answers one request of the webhook, whatever it is. How connections come and go is in server.rs, what a
//! review is answered in review.rs.

use std::sync::Arc;

use bytes::Bytes;
use heddle_runtime::logging::Chain;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::review::{self, Answered, Asked, Outcome, Unanswerable};
use crate::server::body::{self, BodyRefusal};
use crate::server::places::{Caller, Places, Weight};
use crate::settings::MeshSettings;
use crate::structure::{Measured, STRUCTURE_LIMIT};

/// What answers. Clones share it.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) settings: watch::Receiver<Arc<MeshSettings>>,
    pub(crate) namespaces: Namespaces,
    pub(crate) metrics: Metrics,
    pub(crate) places: Places,
}

impl Webhook {
    /// Answers by these settings, of the moment.
    pub(crate) fn new(
        settings: watch::Receiver<Arc<MeshSettings>>,
        namespaces: Namespaces,
        metrics: Metrics,
    ) -> Self {
        Self { settings, namespaces, metrics, places: Places::default() }
    }

    /// Answers one request of this caller.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "there is /inject\n".to_owned());
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only POST\n".to_owned());
        }
        match self.read_and_review(request.into_body(), caller).await {
            Ok(response) => response,
            Err(refusal) => {
                if refusal == BodyRefusal::Overloaded {
                    self.metrics.overloaded.inc();
                }
                self.metrics.count_unanswered(refusal.label());
                plain(refusal.status(), format!("{refusal}\n"))
            }
        }
    }

    /// The place of a review is taken when all of it is there: who is slow keeps nobody waiting.
    async fn read_and_review(
        &self,
        body: Incoming,
        caller: &Caller,
    ) -> Result<Response<Full<Bytes>>, BodyRefusal> {
        let mut whole = body::read(body, &self.places, caller).await?;
        let measured = Measured::new(&whole.bytes);
        if measured.structure() > STRUCTURE_LIMIT {
            // It is refused without being parsed.
            return Ok(self.review(measured).await);
        }
        let weight = Weight::of(measured.structure());
        if weight == Weight::Heavy && whole.place.is_none() {
            whole.place = Some(self.places.long(caller).await.ok_or(BodyRefusal::Overloaded)?);
        }
        // Held until it is answered: what a body is parsed into is larger than the body.
        let _place = self.places.review(weight).await.ok_or(BodyRefusal::Overloaded)?;
        Ok(self.review(measured).await)
    }

    async fn review(&self, body: Measured<'_>) -> Response<Full<Bytes>> {
        let asked = match review::read(body) {
            Ok(asked) => asked,
            Err(unanswerable) => return self.refuse(&unanswerable),
        };
        let answered = match asked {
            Asked::Other(response) => Answered { response: *response, outcome: Outcome::Foreign },
            Asked::Pod(pod) => {
                let namespace = pod.namespace.clone();
                let said = if pod.says_itself() {
                    Ok(self.namespaces.for_proxies(&namespace))
                } else {
                    self.namespaces.said(&namespace).await
                };
                let said = match said {
                    Ok(said) => said,
                    Err(error) => {
                        // Without an answer the webhook's failurePolicy decides.
                        warn!(error = %Chain(&error), "a pod is not decided on");
                        self.metrics.count_unanswered("unknown_namespace");
                        let text = format!("{}\n", Chain(&error));
                        return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
                    }
                };
                let mesh = Arc::clone(&self.settings.borrow());
                pod.answer(&said, &mesh)
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

/// Whoever gets something else than a review is not kept: API servers get reviews.
fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = with_type(status, "text/plain; charset=utf-8", Bytes::from(text));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
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
