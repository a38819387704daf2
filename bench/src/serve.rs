//! The application that all load goes to. It does as little as it can, and counts.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use heddle_runtime::tasks::Tasks;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::system::{COUNTS_PORT, Service};

/// What the application has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// HTTP requests, and messages of `Echo` and `Once`.
    pub exchanges: u64,
    /// Bytes that went into `Sink`.
    pub sunk_bytes: u64,
}

/// Serves until it is killed.
pub async fn serve() -> Result<()> {
    let counters = Arc::new(Counters::default());
    let tasks = Tasks::new();
    let services =
        Service::ALL.map(|service| accept(service, Arc::clone(&counters), tasks.clone()));
    let counted = tell_counts(&counters);
    tokio::try_join!(try_join_all(services), counted)?;
    Ok(())
}

/// Prints what the application of this network namespace has counted.
pub async fn print_counts() -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, COUNTS_PORT)).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// A message with gRPC's prefix: not compressed, and its length.
pub fn grpc_message(content: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(content);
    message.into()
}

#[derive(Debug, Default)]
struct Counters {
    exchanges: AtomicU64,
    sunk_bytes: AtomicU64,
}

impl Counters {
    fn exchange(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }
}

async fn accept(service: Service, counters: Arc<Counters>, tasks: Tasks) -> Result<()> {
    let listener = listen(service)?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let counters = Arc::clone(&counters);
        tasks.spawn_quiet(async move {
            // A client that leaves early is no fault of the application.
            let _ = converse(service, stream, &counters).await;
        });
    }
}

fn listen(service: Service) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, service.port()));
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("listen on {address}"))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn converse(service: Service, stream: TcpStream, counters: &Arc<Counters>) -> Result<()> {
    let answer = service_fn(|request| {
        counters.exchange();
        answer(request)
    });
    match service {
        Service::Http1 => {
            let http1 = hyper::server::conn::http1::Builder::new();
            http1.serve_connection(TokioIo::new(stream), answer).await?;
        }
        Service::Http2 => {
            let counters = Arc::clone(counters);
            let answer = service_fn(move |request| {
                counters.exchange();
                self::answer(request)
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.max_concurrent_streams(STREAMS_LIMIT);
            http2.serve_connection(TokioIo::new(stream), answer).await?;
        }
        Service::Echo => echo(stream, counters).await?,
        Service::Once => once(stream, counters).await?,
        Service::Sink => sink(stream, counters).await?,
    }
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>> {
    if request.method() == Method::GET {
        return Ok(Response::new(Full::new(Bytes::from_static(BODY)).boxed()));
    }
    let limited = http_body_util::Limited::new(request.into_body(), MESSAGE_LIMIT_BYTES);
    let message = limited.collect().await.map_err(|error| anyhow::anyhow!(error))?;
    anyhow::ensure!(message.to_bytes().len() > GRPC_PREFIX_BYTES, "an empty call");
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(grpc_message(BODY)).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    Ok(response)
}

async fn echo(mut stream: TcpStream, counters: &Counters) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        counters.exchange();
        stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
    }
}

async fn once(mut stream: TcpStream, counters: &Counters) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let length = stream.read(&mut buffer).await?;
    if length > 0 {
        counters.exchange();
    }
    stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn sink(mut stream: TcpStream, counters: &Counters) -> Result<()> {
    let mut buffer = vec![0; SINK_BUFFER_BYTES];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        counters.sunk_bytes.fetch_add(u64::try_from(length)?, Ordering::Relaxed);
    }
}

async fn tell_counts(counters: &Counters) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, COUNTS_PORT)).await?;
    loop {
        let (mut stream, _peer) = listener.accept().await?;
        let counts = Counts {
            exchanges: counters.exchanges.load(Ordering::Relaxed),
            sunk_bytes: counters.sunk_bytes.load(Ordering::Relaxed),
        };
        // Whoever asked may have left.
        let _ = stream.write_all(&serde_json::to_vec(&counts)?).await;
    }
}

/// What every answer carries.
const BODY: &[u8] = &[b'b'; 128];
const BACKLOG: u32 = 4096;
/// Of one connection: more than any scenario asks for.
const STREAMS_LIMIT: u32 = 1024;
const GRPC_PREFIX_BYTES: usize = 5;
const MESSAGE_LIMIT_BYTES: usize = 64 * 1024;
const BUFFER_BYTES: usize = 4 * 1024;
const SINK_BUFFER_BYTES: usize = 256 * 1024;
