//! The application behind a proxy under attack: it waits for whole requests, for as long as they take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Serves HTTP/1 and HTTP/2: `/bytes/N` answers with so many bytes, `/slow/N` after so many milliseconds.
pub async fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("::", port)).await?;
    let mut serving = JoinSet::new();
    loop {
        let (stream, _) = accept(&listener, &mut serving).await?;
        serving.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let served = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
            // Whatever ends a connection is what the test is about.
            drop(served.await);
        });
    }
}

/// Forgets those that have ended meanwhile.
async fn accept(
    listener: &TcpListener,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    while tasks.try_join_next().is_some() {}
    listener.accept().await
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
    let whole = request.into_body().collect().await;
    let mut body = Bytes::from_static(b"ok");
    if let Some(length) = number("/bytes/") {
        let length = usize::try_from(length).unwrap_or_default().min(LARGEST.len());
        body = Bytes::from_static(LARGEST).slice(..length);
    }
    if let Some(millis) = number("/slow/") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut response = Response::new(Full::new(body));
    if whole.is_err() {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

/// Takes connections, reads what comes, and never says or closes anything.
pub async fn mute(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("::", port)).await?;
    let mut hearing = JoinSet::new();
    loop {
        let (stream, _) = accept(&listener, &mut hearing).await?;
        hearing.spawn(hear(stream));
    }
}

async fn hear(mut stream: TcpStream) {
    let mut heard = [0; 4096];
    while let Ok(1..) = stream.read(&mut heard).await {}
    // The client has closed its side: this one stays open until the connection breaks.
    while stream.ready(tokio::io::Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
}

/// Shared by all responses, of which there may be hundreds.
static LARGEST: &[u8] = &[b'x'; 20_000_000];
