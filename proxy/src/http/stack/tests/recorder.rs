//! A server that remembers what it was asked, a client that sends bodies, and rules to put between
//! them.

use std::convert::Infallible;

use bytes::Bytes;
use heddle_model::endpoint::Endpoint;
use heddle_model::filter::HttpFilter;
use heddle_model::names::ObjectReference;
use heddle_model::route::{HttpBackend, HttpRule, RuleOrigin};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;

use super::*;
use crate::testing::{Answered, routed, service};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) target: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

/// Answers `text` with the statuses of its script, one after the other, and the last for ever.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Recorder {
    pub(super) async fn new(text: &'static str, script: &'static [u16]) -> Self {
        Self::slow(text, script, Duration::ZERO).await
    }

    /// The same, which takes so long for each answer.
    pub(super) async fn slow(text: &'static str, script: &'static [u16], delay: Duration) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let recording = Arc::clone(&seen);
        let address = listen(loopback(), move |stream, _number| {
            let recording = Arc::clone(&recording);
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let recording = Arc::clone(&recording);
                    async move {
                        let number = record(&recording, request).await;
                        tokio::time::sleep(delay).await;
                        let status = script.get(number).or(script.last()).unwrap_or(&200);
                        let response = Response::builder().status(*status).header("x-by", text);
                        let body = Full::new(Bytes::from_static(text.as_bytes()));
                        Ok::<_, Infallible>(response.body(body).unwrap())
                    }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { address, seen }
    }

    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        vec![plain(self.address)]
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

async fn record(recording: &Mutex<Vec<Seen>>, request: Request<Incoming>) -> usize {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut all = recording.lock();
    all.push(Seen { target: parts.uri.to_string(), headers: parts.headers, body });
    all.len() - 1
}

pub(super) fn backend(name: &str, weight: u32, filters: Vec<HttpFilter>) -> HttpBackend {
    HttpBackend { backend: service(name), weight, filters }
}

/// A rule of an object, for every request.
pub(super) fn rule(filters: Vec<HttpFilter>, backends: Vec<HttpBackend>) -> HttpRule {
    let object = ObjectReference {
        kind: "HTTPRoute".to_owned(),
        namespace: "default".to_owned(),
        name: "api".to_owned(),
    };
    let origin = RuleOrigin::Object { object, field: "spec.rules[0]".to_owned() };
    HttpRule { filters, ..HttpRule::to(backends, origin) }
}

impl Proxy {
    pub(super) fn routing(rules: Vec<HttpRule>, endpoints: Vec<(&str, Vec<Endpoint>)>) -> Self {
        Self::new(routed(rules, Vec::new(), endpoints))
    }

    /// Sends one request on a connection of its own.
    pub(super) async fn ask(&self, request: http::request::Builder) -> Answered {
        self.client().await.send(request).await.unwrap()
    }

    /// Sends one request with a body.
    pub(super) async fn upload(
        &self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Answered {
        let stream = self.connection(HttpVersion::Http1).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        spawn(async move {
            let _ = connection.await;
        });
        let request = request.header("host", "api").body(Full::new(body.into())).unwrap();
        answered(sender.send_request(request).await.unwrap()).await.unwrap()
    }
}
