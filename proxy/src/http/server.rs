//! Serves HTTP on one connection, until it is idle for long, ends, or the process drains.

mod http2;
pub mod open;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::seldom::Seldom;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::connect::Dialer;
use crate::http::body::Body;
use crate::http::breaker::{Breakable, Breaker, ByteStream};
use crate::http::expect;
use crate::http::frames::Budgets;
use crate::http::gate::exchanges::{Answer, Exchanges};
use crate::http::gate::io::{Gated, RESPONSE_UNREAD};
use crate::http::gate::timers::Limits;
use crate::http::headers::wants_tunnel;
use crate::http::lane::{self, Left};
use crate::http::respond::{Asked, Cause, ProxyError, Teller, respond};
use crate::http::stack::Answering;
use crate::http::{HttpService, HttpVersion};
use crate::listen::HEADERS_LIMIT_BYTES;
use crate::metrics::{Direction, Metrics};
use crate::rewind::Rewind;

/// How to serve a connection.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Which way it goes, for metrics and for answers to errors.
    pub direction: Direction,
    /// What it speaks.
    pub version: HttpVersion,
    /// How long it may be without a request. What a request may take is in the settings.
    pub idle: Duration,
    /// What may be under way on the whole connection, of HTTP/2.
    pub window_bytes: u32,
    /// What frames the client may send, of HTTP/2.
    pub budgets: Budgets,
    /// When to end after what is in flight; `None`: not before it is aborted.
    pub drain: Option<CancellationToken>,
    /// When to take no new request, since the certificate that authenticates the client ends;
    /// `None`: never. What is in flight finishes, and what became a tunnel goes on.
    pub until: Option<Instant>,
}

impl Serving {
    /// Whether what is answered now is the last of its connection.
    pub fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Serves until the connection ends; fails if it breaks.
pub fn serve(
    io: impl ByteStream + 'static,
    answering: impl Into<Answering>,
    serving: Serving,
    dialer: &Dialer,
) -> impl Future<Output = Result<(), Cause>> + Send {
    serve_any(Box::new(io), answering.into(), serving, dialer)
}

async fn serve_any(
    io: Box<dyn ByteStream>,
    Answering { general, express }: Answering,
    serving: Serving,
    dialer: &Dialer,
) -> Result<(), Cause> {
    match (serving.version, express) {
        // Each in a box, so that none takes the room of the largest.
        (HttpVersion::Http2, express) => {
            let answering = Answering { general, express };
            Ok(Box::pin(http2::serve(io, answering, serving, dialer)).await?)
        }
        (HttpVersion::Http1, None) => {
            let io = Rewind::new(Bytes::new(), io);
            Ok(Box::pin(serve_http1(io, general, serving, dialer)).await?)
        }
        (HttpVersion::Http1, Some(express)) => {
            match Box::pin(lane::serve(io, &express, &serving, dialer)).await? {
                Left::Ended => Ok(()),
                Left::General(io) => Ok(Box::pin(serve_http1(io, general, serving, dialer)).await?),
            }
        }
    }
}

async fn serve_http1(
    io: Rewind<Box<dyn ByteStream>>,
    service: HttpService,
    serving: Serving,
    dialer: &Dialer,
) -> Result<(), hyper::Error> {
    let exchanges = Exchanges::default();
    let breaker = Breaker::default();
    let limits = Limits {
        idle: serving.idle,
        head: dialer.settings.request_head_timeout,
        body: dialer.settings.body_idle,
        answer: dialer.settings.body_idle,
    };
    let io = Gated::new(Breakable::new(io, breaker.clone()), exchanges.clone(), limits);
    let answerer = Answerer {
        service,
        exchanges: exchanges.clone(),
        breaker: breaker.clone(),
        direction: serving.direction,
        drain: serving.drain.clone(),
        metrics: Arc::clone(&dialer.metrics),
    };
    let service = service_fn(move |request| answerer.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Never reached, as the gate's own limits are over before. With it, hyper looks for the
        // next request as soon as it has answered one, and the gate knows since when it is idle.
        .header_read_timeout(limits.idle.saturating_add(limits.head).saturating_mul(2))
        // Not half_close: hyper would not read while a request is in flight, so that a client that
        // gave up would not be noticed, and its request hold its place for as long as the backend
        // is silent. The price: who closes its sending side after a request gets no answer.
        .preserve_header_case(true)
        .max_buf_size(HEADERS_LIMIT_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let called_off = Seldom::new(called_off(&serving, dialer));
    let ended = tokio::select! {
        biased;
        result = connection.as_mut() => Some(result),
        () = called_off => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Some(limit) = exchanges.limit() {
        dialer.metrics.count_limit(serving.direction, limit);
        if limit == RESPONSE_UNREAD {
            // The kernel would keep what nobody takes, and try for minutes.
            breaker.trip();
        }
    }
    ended
}

/// Waits until a connection of HTTP/1 is to end after what is in flight.
pub(super) async fn called_off(serving: &Serving, dialer: &Dialer) {
    let drained = async {
        drained(serving.drain.clone()).await;
        // Connections that had a request since then were told to close with its response. Those that
        // are still idle had time to be found gone by their clients.
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    tokio::select! {
        () = drained => {}
        () = expired(serving.until) => {}
        () = dialer.pressure.critical() => {
            dialer.metrics.count_limit(serving.direction, "memory");
        }
    }
}

/// Answers the requests of one HTTP/1 connection.
#[derive(Clone)]
struct Answerer {
    service: HttpService,
    exchanges: Exchanges,
    breaker: Breaker,
    direction: Direction,
    drain: Option<CancellationToken>,
    metrics: Arc<Metrics>,
}

impl Answerer {
    async fn answer(mut self, request: Request<Incoming>) -> Result<Response<Body>, ProxyError> {
        let (exchange, refusal) = self.exchanges.call();
        let asked = Asked::new(&request);
        let is_connect = request.method() == Method::CONNECT;
        let breaker = self.breaker.clone();
        let mut request = request.map(|incoming| Body::of_connection(incoming, breaker));
        let consent = expect::consent(&mut request);
        if let Some(consent) = &consent {
            request = request.map(|body| body.held(consent.clone()));
        }
        if wants_tunnel(&request) {
            request.extensions_mut().insert(self.breaker.clone());
            request.extensions_mut().insert(exchange.permit());
        }
        if let Some(refusal) = refusal {
            request.extensions_mut().insert(refusal);
        }
        let response = self.service.call(request).await?;
        let agrees = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || is_connect && response.status().is_success();
        let mut response = match exchange.answer(agrees) {
            Answer::Pass => response,
            Answer::PassAndClose => closing(response),
            Answer::Unasked => {
                let error = ProxyError::Internal { reason: "a tunnel that nobody asked for" };
                self.metrics.count_error(&error);
                closing(respond(&error, asked, Teller::to_anybody(self.direction)))
            }
        };
        // A client that was not asked for its body may send it or not: nothing can follow.
        let mut is_last = self.drain.is_some_and(|drain| drain.is_cancelled());
        if let Some(consent) = consent {
            is_last |= consent.is_awaited();
            response = response.map(|body| body.ending_wait(consent));
        }
        if is_last && !response.headers().contains_key(CONNECTION) {
            response = closing(response);
        }
        Ok(response.map(|body| body.breaking(self.breaker).serving(exchange)))
    }
}

/// The last one on its connection.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn drained(drain: Option<CancellationToken>) {
    match drain {
        Some(drain) => drain.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn expired(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// How long idle HTTP/1 connections are still served while draining.
const DRAIN_IDLE: Duration = Duration::from_secs(2);
