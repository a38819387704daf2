//! Serves HTTP on one connection, until it is idle for long, ends, or the process drains.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::connect::Dialer;
use crate::http::body::Body;
use crate::http::breaker::{Breakable, Breaker, Reset};
use crate::http::client::TaskExecutor;
use crate::http::respond::ProxyError;
use crate::http::{HttpService, HttpVersion};
use crate::listen::{
    HEADERS_LIMIT_BYTES, HTTP2_RESET_LIMIT, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_LIMIT,
    HTTP2_STREAM_WINDOW_BYTES,
};

/// How to serve a connection.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What it speaks.
    pub version: HttpVersion,
    /// How long it may be without a request.
    ///
    /// For HTTP/1 this also bounds how long the head of a request may take: hyper has one timer for
    /// both.
    pub idle: Duration,
    /// What may be under way on the whole connection, of HTTP/2.
    pub window_bytes: u32,
    /// When to end after what is in flight; `None`: not before it is aborted.
    pub drain: Option<CancellationToken>,
    /// When to take no new request, since the certificate that authenticates the client ends;
    /// `None`: never. What is in flight finishes, and what became a tunnel goes on.
    pub until: Option<Instant>,
}

/// Serves until the connection ends; fails if it breaks.
pub async fn serve<I>(
    io: I,
    service: HttpService,
    serving: Serving,
    dialer: &Dialer,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
{
    match serving.version {
        HttpVersion::Http1 => serve_http1(io, service, serving).await,
        HttpVersion::Http2 => serve_http2(io, service, serving, dialer).await,
    }
}

async fn serve_http1<I>(io: I, service: HttpService, serving: Serving) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
{
    let breaker = Breaker::default();
    let io = Breakable::new(io, breaker.clone());
    let drain = serving.drain.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut service, drain, breaker) = (service.clone(), drain.clone(), breaker.clone());
        async move {
            let mut request = request.map(Body::from);
            request.extensions_mut().insert(breaker.clone());
            let mut response = service.call(request).await?.map(|body| body.breaking(breaker));
            if drain.is_some_and(|drain| drain.is_cancelled())
                && !response.headers().contains_key(CONNECTION)
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response<Body>, ProxyError>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.idle)
        // Not half_close: hyper would not read while a request is in flight, so that a client that
        // gave up would not be noticed, and its request hold its place for as long as the backend
        // is silent. The price: who closes its sending side after a request gets no answer.
        .preserve_header_case(true)
        .max_buf_size(HEADERS_LIMIT_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let drained = async {
        drained(serving.drain).await;
        // Connections that had a request since then were told to close with its response. Those that
        // are still idle had time to be found gone by their clients.
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    tokio::select! {
        result = connection.as_mut() => return result,
        () = drained => {}
        () = expired(serving.until) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<I>(
    io: I,
    service: HttpService,
    serving: Serving,
    dialer: &Dialer,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&served);
    let until = serving.until;
    let service = service_fn(move |request: Request<Incoming>| {
        counting.fetch_add(1, Ordering::Relaxed);
        let mut service = service.clone();
        // A client may ignore that it was told to go away.
        let overdue = until.is_some_and(|until| Instant::now() > until + GO_AWAY_TIME);
        async move {
            if overdue {
                let reason = "the certificate of this connection has expired".to_owned();
                return Err(ProxyError::Refused { reason });
            }
            service.call(request.map(Body::from)).await
        }
    });
    let connection = http2::Builder::new(TaskExecutor(dialer.tasks.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(serving.window_bytes)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .max_concurrent_streams(HTTP2_STREAM_LIMIT)
        .max_header_list_size(u32::try_from(HEADERS_LIMIT_BYTES).unwrap_or(u32::MAX))
        // One client's many cancelled requests must not end the connection that it shares.
        .max_pending_accept_reset_streams(HTTP2_RESET_LIMIT)
        .max_local_error_reset_streams(HTTP2_RESET_LIMIT)
        .keep_alive_interval(dialer.settings.http2_ping_interval)
        .keep_alive_timeout(dialer.settings.http2_ping_timeout)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = drained(serving.drain) => {}
        () = expired(serving.until) => {}
        () = idle(&served, serving.idle) => {}
    }
    // GOAWAY: streams that are open finish, and no request can be lost to it.
    connection.as_mut().graceful_shutdown();
    connection.await
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

/// Completes after a whole period without a new request.
async fn idle(served: &AtomicU64, period: Duration) {
    let mut before = served.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(period).await;
        let now = served.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// How long idle HTTP/1 connections are still served while draining.
const DRAIN_IDLE: Duration = Duration::from_secs(2);
/// How long requests are still served after an HTTP/2 client was told to go away.
const GO_AWAY_TIME: Duration = Duration::from_secs(2);
