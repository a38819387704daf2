//! A probe by HTTPS where only proxies come in otherwise. The proxy takes the node's TLS itself, reads the request, and
//! asks the application the same inside the application's TLS. So the node learns how the application is, and nobody
//! at the node's addresses speaks with it otherwise. Which requests pass is decided in probes.rs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use heddle_model::policy::KeepAlive;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::application;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use tracing::debug;

use crate::connect::{ConnectError, Dialer};
use crate::http::HttpVersion;
use crate::http::body::Body;
use crate::http::frames::Budgets;
use crate::http::gate::admitted::Admitted as Passed;
use crate::http::respond::{Asked, ProxyError, Teller, respond};
use crate::http::server::{Serving, serve};
use crate::http::stack::admit_probe;
use crate::inbound::probes::ProbeRequests;
use crate::inbound::refusal::Refusal;
use crate::inbound::{Admitted, Inbound};
use crate::listen::{HEADERS_LIMIT_BYTES, HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES};
use crate::metrics::Direction;
use crate::rewind::Rewind;

/// What it takes to answer a probe.
#[derive(Clone)]
struct Prober {
    dialer: Arc<Dialer>,
    original: SocketAddr,
    application: Arc<str>,
    probes: ProbeRequests,
}

impl Inbound {
    /// Serves a connection of the node's probes to its end.
    pub(super) async fn https(
        &self,
        client: Rewind<TcpStream>,
        admitted: Admitted,
        probes: ProbeRequests,
    ) {
        let Admitted { passage, original, application, .. } = admitted;
        let made = async || application::ProbeAcceptor::create(clock::now());
        let acceptor = match self.probe_tls.get_or_try_init(made).await {
            Ok(acceptor) => acceptor,
            Err(error) => return self.tell(&passage, &Refusal::ProbeCertificate(error)),
        };
        let stream = match acceptor.accept(client, self.dialer.settings.handshake_timeout).await {
            Ok(stream) => stream,
            Err(error) => return self.tell(&passage, &Refusal::ProbeTls(error)),
        };
        let serving = Serving {
            direction: Direction::Inbound,
            version: HttpVersion::Http1,
            idle: self.dialer.settings.inbound_idle,
            window_bytes: HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES,
            budgets: Budgets::PLAINTEXT,
            drain: Some(self.dialer.tasks.drain().clone()),
            until: None,
        };
        let dialer = Arc::clone(&self.dialer);
        let application = Arc::clone(application.label());
        let prober = Prober { dialer, original, application, probes };
        let service = service_fn(move |request| {
            let prober = prober.clone();
            async move { Ok(prober.answer(request).await) }
        });
        let service = BoxCloneSyncService::new(service);
        if let Err(error) = Box::pin(serve(stream, service, serving, &self.dialer)).await {
            debug!(error = %Chain(&*error), dst = %original, "connection of a probe ended");
        }
    }
}

impl Prober {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let asked = Asked::new(&request);
        match Box::pin(self.ask(request)).await {
            Ok(response) => response,
            Err(error) => {
                self.dialer.metrics.count_error(&error);
                debug!(error = %Chain(&error), dst = %self.original, "probe failed");
                respond(&error, asked, Teller::to_anybody(Direction::Inbound))
            }
        }
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, ProxyError> {
        let version = HttpVersion::Http1;
        let passed = Passed::new(Box::new(request), version, self.original)?;
        let request = admit_probe(&self.probes, version, passed)?.into_request();
        let failed = |source| ProxyError::Connect {
            backend: self.application.to_string(),
            source: Box::new(source),
        };
        let mut sender = self.open().await.map_err(failed)?;
        let asking = async {
            let (head, body) = sender.send_request(*request).await?.into_parts();
            Ok::<_, hyper::Error>((head, beginning(body).await?))
        };
        let answered = tokio::time::timeout(ANSWER_LIMIT, asking).await;
        let answered =
            answered.map_err(|_elapsed| ProxyError::BackendTimeout { limit: ANSWER_LIMIT })?;
        let (head, body) = answered.map_err(|source| ProxyError::BackendLost {
            backend: self.application.to_string(),
            source: source.into(),
        })?;
        let mut response = Response::new(Body::text(body));
        *response.status_mut() = head.status;
        for name in [CONTENT_TYPE, LOCATION] {
            if let Some(value) = head.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    /// A connection for one request, which ends with its sender.
    async fn open(&self) -> Result<http1::SendRequest<Body>, ConnectError> {
        let address = self.original;
        let stream = self.dialer.tcp(address, &KeepAlive::default()).await?;
        let limit = self.dialer.settings.handshake_timeout;
        let stream = application::connect(stream, address.ip(), limit)
            .await
            .map_err(|source| ConnectError::ApplicationTls { address, source })?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEADERS_LIMIT_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Http { address, source })?;
        self.dialer.tasks.spawn_quiet(async move {
            if let Err(error) = connection.await {
                debug!(%error, backend = %address, "connection ended");
            }
        });
        Ok(sender)
    }
}

/// As much of an answer as who probes reads.
async fn beginning(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() >= BODY_LIMIT_BYTES {
            read.truncate(BODY_LIMIT_BYTES);
            break;
        }
    }
    Ok(read.freeze())
}

/// Source: `maxRespBodyLength` of the kubelet's HTTP probes.
const BODY_LIMIT_BYTES: usize = 10 * 1024;
/// Who probes gives up before, and its request with it: this bounds what an application that never answers can hold.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
