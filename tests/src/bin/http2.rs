//! HTTP/2 by hand: a server that breaks off, answers early and opens tunnels, and a client that asks for
//! tunnels. What common clients and servers cannot be made to do. The server speaks HTTP/1 too, and when it
//! is terminated it finishes what is in flight, so that it can stand for a well-behaved replica.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::Protocol;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

#[derive(Debug, Parser)]
enum Arguments {
    /// Serves until it is killed
    Serve {
        #[arg(long)]
        port: u16,
        /// Whether to take extended CONNECT (RFC 8441)
        #[arg(long)]
        extended_connect: bool,
        /// What to send as `x-shop-version`, by which the load generator counts.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Asks for a tunnel, speaks through it, and prints what it saw, as JSON
    Tunnel {
        /// `host:port`
        #[arg(long)]
        target: String,
        /// The `:protocol` of an extended CONNECT; a plain one without it
        #[arg(long)]
        protocol: Option<String>,
    },
}

type Body = BoxBody<Bytes, io::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Serve { port, extended_connect, name } => {
            serve(port, Arc::new(Settings { extended_connect, name })).await
        }
        Arguments::Tunnel { target, protocol } => {
            let tunnel = tunnel(&target, protocol.as_deref());
            let said = match tokio::time::timeout(LIMIT, tunnel).await? {
                Ok((status, said)) => json!({ "status": status.as_u16(), "said": said }),
                Err(error) => json!({ "error": format!("{error:#}") }),
            };
            Ok(writeln!(io::stdout(), "{said}")?)
        }
    }
}

#[derive(Debug)]
struct Settings {
    extended_connect: bool,
    name: String,
}

/// What may happen to a connection while it is served.
#[derive(Clone, Debug)]
struct Ending {
    /// All that is on it ends at once.
    cut: watch::Sender<bool>,
    /// It finishes what is in flight.
    stopped: watch::Receiver<bool>,
}

#[expect(clippy::disallowed_methods, reason = "a test's own program has no tasks to name")]
async fn serve(port: u16, settings: Arc<Settings>) -> Result<()> {
    let address: SocketAddr = ("::".parse::<std::net::IpAddr>()?, port).into();
    let mut terminated = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(address).await?;
    let (stop, stopped) = watch::channel(false);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminated.recv() => break,
        };
        let (settings, stopped) = (Arc::clone(&settings), stopped.clone());
        tokio::spawn(async move {
            let ending = Ending { cut: watch::Sender::new(false), stopped };
            // What goes wrong on a connection is its client's to notice.
            let _ = serve_connection(stream, settings, ending).await;
        });
    }
    drop((listener, stopped));
    stop.send_replace(true);
    stop.closed().await;
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    settings: Arc<Settings>,
    ending: Ending,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let is_http2 = begins_as_http2(&stream).await?;
    let extended_connect = settings.extended_connect;
    let cut = ending.cut.clone();
    let service = hyper::service::service_fn(move |request| {
        let (settings, cut) = (Arc::clone(&settings), cut.clone());
        async move {
            let mut response = answer(request, cut).await?;
            if let (false, Ok(name)) = (settings.name.is_empty(), settings.name.parse()) {
                response.headers_mut().insert("x-shop-version", name);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let Ending { cut, mut stopped } = ending;
    let mut is_cut = cut.subscribe();
    let stream = TokioIo::new(stream);
    if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        if extended_connect {
            builder.enable_connect_protocol();
        }
        let serving = builder.timer(TokioTimer::new()).serve_connection(stream, service);
        let mut serving = pin!(serving);
        tokio::select! {
            served = serving.as_mut() => return Ok(served?),
            _ = is_cut.wait_for(|is_cut| *is_cut) => return Ok(()),
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        serving.as_mut().graceful_shutdown();
        return Ok(serving.await?);
    }
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
    let mut serving = pin!(serving);
    tokio::select! {
        served = serving.as_mut() => return Ok(served?),
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    serving.as_mut().graceful_shutdown();
    Ok(serving.await?)
}

/// Whether the client begins as HTTP/2 does: `PRI`, where HTTP/1 has `PUT` or `POST` at most.
async fn begins_as_http2(stream: &TcpStream) -> Result<bool> {
    let mut first = [0; 2];
    while stream.peek(&mut first).await? == 1 {
        tokio::task::yield_now().await;
    }
    Ok(&first == b"PR")
}

async fn answer(
    mut request: Request<Incoming>,
    cut: watch::Sender<bool>,
) -> Result<Response<Body>, Infallible> {
    if request.method() == Method::CONNECT {
        return Ok(connect(&mut request));
    }
    Ok(match request.uri().path() {
        "/reset" => broken(|| ()),
        "/cut" => broken(move || {
            let _ = cut.send(true);
        }),
        // Nothing of the body is read.
        "/early" => status(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        "/count" => {
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
            status(StatusCode::OK, &format!("{body:?}"))
        }
        "/wait" => {
            WAITING.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(LIMIT).await;
            WAITING.fetch_sub(1, Ordering::Relaxed);
            status(StatusCode::OK, "at last")
        }
        "/waiting" => status(StatusCode::OK, &WAITING.load(Ordering::Relaxed).to_string()),
        _ => status(StatusCode::OK, "an answer"),
    })
}

fn status(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}

/// A response that says something, and breaks off a moment after that has been sent.
fn broken(then: impl FnOnce() + Send + Sync + 'static) -> Response<Body> {
    let said = tokio_stream::once(Ok(Frame::data(Bytes::from_static(b"only these"))));
    let mut then = Some(then);
    let breaks = tokio_stream::once(()).then(move |()| {
        let then = then.take();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(then) = then {
                then();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(io::Error::other("broken on purpose"))
        }
    });
    let mut response = Response::new(StreamBody::new(said.chain(breaks)).boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

#[expect(clippy::disallowed_methods, reason = "a test's own program has no tasks to name")]
fn connect(request: &mut Request<Incoming>) -> Response<Body> {
    let protocol = request.extensions().get::<Protocol>().map(|found| found.as_str().to_owned());
    if protocol.as_deref() == Some("unknown") {
        return status(StatusCode::NOT_IMPLEMENTED, "no such protocol");
    }
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await?);
        let greeting = format!("tunnel for {}\n", protocol.as_deref().unwrap_or("bytes"));
        stream.write_all(greeting.as_bytes()).await?;
        let mut received = 0;
        let mut buffer = vec![0; 65536];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            received += read;
            let said = buffer.get(..read).unwrap_or_default();
            if said.starts_with(b"line") {
                stream.write_all(&[b"answered-", said].concat()).await?;
            }
        }
        stream.write_all(format!("ended after {received} bytes\n").as_bytes()).await?;
        stream.shutdown().await?;
        anyhow::Ok(())
    });
    let empty = Empty::new().map_err(|never| match never {});
    Response::new(empty.boxed())
}

#[expect(clippy::disallowed_methods, reason = "a test's own program has no tasks to name")]
async fn tunnel(target: &str, protocol: Option<&str>) -> Result<(StatusCode, String)> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let (tell, mut takes) = watch::channel(false);
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        // The connection's future is not woken by what its peer says, so it is looked at.
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = tokio::time::sleep(NEXT_LOOK) => {
                    tell.send_replace(connection.is_extended_connect_protocol_enabled());
                }
            }
        }
    });
    let mut request = Request::connect(target).version(Version::HTTP_2);
    if let Some(protocol) = protocol {
        takes.wait_for(|takes| *takes).await.context("extended CONNECT is not taken")?;
        request = Request::connect(format!("http://{target}/chat"))
            .version(Version::HTTP_2)
            .extension(Protocol::from(protocol));
    }
    let mut response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        return Ok((status, String::from_utf8_lossy(&body).into_owned()));
    }
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await?);
    let mut greeting = [0; 64];
    // The server speaks first.
    let read = stream.read(&mut greeting).await?;
    ensure!(read > 0, "the tunnel has ended");
    stream.write_all(b"line").await?;
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).await?;
    stream.write_all(&vec![b'x'; BULK_BYTES]).await?;
    stream.shutdown().await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    let said = [greeting.get(..read).unwrap_or_default(), &answer, b"\n", &rest].concat();
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Requests that wait for their answer.
static WAITING: AtomicU32 = AtomicU32::new(0);
const BULK_BYTES: usize = 3_000_000;
const NEXT_LOOK: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(20);
