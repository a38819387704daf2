//! The server: HTTP/1.1, HTTP/2 without TLS, gRPC, both HTTPs over TLS, and plain bytes, each on ports of its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use crate::echo::tls::{self, Files};
use crate::echo::{Place, address, grpc, lines, text};

/// What is served where. The names of the arguments are those that the suite's manifests use.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Ports of HTTP, of either version
    #[arg(long = "port", default_values_t = [8080])]
    pub ports: Vec<u16>,
    /// Which of them speak TLS
    #[arg(long)]
    pub tls: Vec<u16>,
    /// Ports of gRPC without TLS
    #[arg(long, default_values_t = [7070])]
    pub grpc: Vec<u16>,
    /// Ports on which bytes come back
    #[arg(long, default_values_t = [9090])]
    pub tcp: Vec<u16>,
    /// The certificate
    #[command(flatten)]
    pub files: Files,
}

/// How a port is served.
#[derive(Clone)]
enum Speech {
    Http,
    HttpOverTls(TlsAcceptor),
    Bytes,
}

impl Settings {
    /// Every port with how it is served: those of HTTP, then gRPC, then bytes.
    fn speeches(&self) -> Result<Vec<(u16, Speech)>> {
        for port in &self.tls {
            ensure!(self.ports.contains(port), "--tls={port} is not among the ports of --port");
        }
        let mut found = Vec::new();
        for port in &self.ports {
            let speech = match self.tls.contains(port) {
                true => Speech::HttpOverTls(tls::acceptor(&self.files)?),
                false => Speech::Http,
            };
            found.push((*port, speech));
        }
        found.extend(self.grpc.iter().map(|port| (*port, Speech::Http)));
        found.extend(self.tcp.iter().map(|port| (*port, Speech::Bytes)));
        Ok(found)
    }
}

/// Begins to serve on all ports, in tasks; returns where, in the order of HTTP, gRPC, bytes. Fails if one of
/// the ports cannot be had.
pub async fn serve(settings: &Settings, hostname: &str, tasks: &Tasks) -> Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for (port, speech) in settings.speeches()? {
        let listener = listen(port).await.with_context(|| format!("port {port}"))?;
        bound.push(listener.local_addr()?);
        listeners.push((listener, speech));
    }
    let hostname: Arc<str> = hostname.into();
    for (listener, speech) in listeners {
        let accept = accept(listener, speech, Arc::clone(&hostname), tasks.clone());
        tasks.spawn("echo.listener", accept);
    }
    Ok(bound)
}

/// For both families, or for IPv4 where there is no IPv6.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

async fn accept(listener: TcpListener, speech: Speech, hostname: Arc<str>, tasks: Tasks) {
    let drain = tasks.drain().clone();
    let port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, client)) = accepted else {
            // Most likely there are no descriptors left; connections that end give some back.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let place = Place { hostname: hostname.to_string(), port, client };
        let speech = speech.clone();
        // What goes wrong on a connection is its client's to notice.
        tasks.spawn_quiet(async move { drop(converse(stream, speech, place).await) });
    }
}

async fn converse(stream: TcpStream, speech: Speech, place: Place) -> Result<()> {
    stream.set_nodelay(true)?;
    match speech {
        Speech::Http => serve_http(stream, place).await,
        Speech::HttpOverTls(acceptor) => serve_http(acceptor.accept(stream).await?, place).await,
        Speech::Bytes => return_bytes(stream, place).await,
    }
}

async fn serve_http<S>(stream: S, place: Place) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::new(place);
    let service = service_fn(move |request: Request<Incoming>| {
        let place = Arc::clone(&place);
        async move { Ok::<_, Infallible>(answer(request, &place).await) }
    });
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    served.map_err(|error| anyhow::anyhow!(error))
}

async fn answer(request: Request<Incoming>, place: &Place) -> Response<Body> {
    let lines = lines(&request, place);
    let media_type = text(request.headers(), CONTENT_TYPE.as_str());
    if media_type.is_some_and(|media_type| media_type.starts_with(grpc::MEDIA_TYPE)) {
        return grpc::answer(request, lines).await;
    }
    let mut response = Response::new(Body::new(Full::new(Bytes::from(lines + "\n"))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Says who answers once the client has said something, and then returns what it says.
async fn return_bytes(mut stream: TcpStream, place: Place) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut greeting = Some(format!(
        "Hostname={}\nServicePort={}\nIP={}\n",
        place.hostname,
        place.port,
        address(place.client)
    ));
    loop {
        let count = stream.read(&mut buffer).await?;
        let Some(said) = buffer.get(..count).filter(|said| !said.is_empty()) else { break };
        if let Some(greeting) = greeting.take() {
            stream.write_all(greeting.as_bytes()).await?;
        }
        stream.write_all(said).await?;
    }
    Ok(stream.shutdown().await?)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 16 * 1024;
