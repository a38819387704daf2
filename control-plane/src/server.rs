//! Serves gRPC over TLS: accepts connections, makes handshakes beside one another, and hands them on
//! with the name of who is there. What is answered is in `discovery.rs` and `identity.rs`; what those may
//! hold who have no name is in `server/strangers.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use heddle_runtime::logging::Chain;
use heddle_runtime::sources::{Place, Sources};
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::control_plane;
use heddle_tls::credentials::Credentials;
use heddle_tls::peer::PeerIdentity;
use heddle_tls::stream::{self, TlsStream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, Router};
use tracing::{debug, error, warn};

use crate::metrics::Metrics;
use crate::server::strangers::{Stranger, Strangers};

pub mod strangers;

/// Who is at the other end of a request's connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// By its certificate; `None`: it has none (yet).
    pub peer: Option<PeerIdentity>,
    /// When that certificate expires. The connection may outlive it.
    pub not_after: Option<SystemTime>,
    /// Where it calls from.
    pub address: IpAddr,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    /// What bounds it while there is no certificate.
    stranger: Option<Stranger>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.stranger.as_mut().map_or(Ok(()), |stranger| stranger.check(context))
    }
}

/// The settings of every gRPC server over TCP.
pub fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_LIMIT))
}

/// Serves until the drain, and then until the open requests are done.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    credentials: Credentials,
    metrics: Metrics,
    tasks: Tasks,
) {
    let drain = tasks.drain().clone();
    let (ready, connections) = mpsc::channel(CONNECTIONS_QUEUED);
    let acceptor = Acceptor {
        credentials,
        metrics,
        tasks: tasks.clone(),
        ready,
        sources: strangers::sources(),
        strangers: Strangers::default(),
        warnings: Throttle::default(),
    };
    tasks.spawn("server.acceptor", acceptor.run(listener));
    let served = router
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(error = %Chain(&error), "serving ended");
    }
}

struct Acceptor {
    credentials: Credentials,
    metrics: Metrics,
    tasks: Tasks,
    ready: mpsc::Sender<io::Result<Connection>>,
    sources: Sources,
    strangers: Strangers,
    warnings: Throttle,
}

/// What a connection holds while its handshake lasts.
struct Entry {
    slot: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
    place: Place,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_LIMIT));
        let drain = self.tasks.drain().clone();
        loop {
            // Those who wait for a handshake wait in the listener's backlog.
            let handshake = tokio::select! {
                () = drain.cancelled() => return,
                handshake = Arc::clone(&handshakes).acquire_owned() => handshake,
            };
            let Ok(handshake) = handshake else { return };
            let accepted = tokio::select! {
                () = drain.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    // A listener for both families has IPv4 callers in IPv6 addresses.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        self.turn_away(address, "too many connections; one turned away");
                        continue;
                    };
                    let Some(place) = self.sources.enter(address.ip()) else {
                        self.turn_away(
                            address,
                            "too many connections of strangers from one address",
                        );
                        continue;
                    };
                    self.begin(stream, address, Entry { slot, handshake, place });
                }
                Err(error) => {
                    warn!(%error, "connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn turn_away(&self, address: SocketAddr, message: &'static str) {
        self.metrics.connections_refused.inc();
        if self.warnings.is_due() {
            warn!(src = %address, "{message}");
        }
    }

    fn begin(&self, stream: TcpStream, address: SocketAddr, entry: Entry) {
        let credentials = self.credentials.clone();
        let ready = self.ready.clone();
        let metrics = self.metrics.clone();
        let strangers = self.strangers.clone();
        self.tasks.spawn("server.handshake", async move {
            let Entry { slot, handshake, place } = entry;
            tune(&stream);
            if !strangers::says_hello(&stream).await {
                metrics.handshakes_failed.inc();
                debug!(src = %address, "connection without a handshake closed");
                return;
            }
            let accepted = control_plane::accept(stream, &credentials).await;
            drop(handshake);
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    metrics.handshakes_failed.inc();
                    debug!(src = %address, error = %Chain(&error), "handshake failed");
                    return;
                }
            };
            let stranger = match peer {
                Some(_) => None,
                None => match strangers.admit(place) {
                    Some(stranger) => Some(stranger),
                    None => {
                        metrics.connections_refused.inc();
                        debug!(src = %address, "too many connections without a certificate");
                        return;
                    }
                },
            };
            let not_after = stream::peer_not_after(&stream);
            let caller = Caller { peer, not_after, address: address.ip() };
            // Fails when the server has ended; then the connection ends too.
            let _ = ready.send(Ok(Connection { stream, caller, stranger, _slot: slot })).await;
        });
    }
}

/// What every connection gets: answers are small, and each is waited for; and the kernel looks whether the other machine is
/// there, of which thousands cost nothing while they say something themselves. A socket that has ended already needs neither.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(GONE_AFTER));
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How long a machine may be silent before its kernel is asked for a sign of life; one that is gone is noticed within
/// twenty seconds.
const PROBE_AFTER: Duration = Duration::from_secs(10);
/// How long the answer may take before it is asked again,
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// and how often.
const PROBES: u32 = 2;
/// How long what was sent may be without an acknowledgement.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// How often a silent proxy itself is asked for a sign of life, and how long it may take. One that stands still loses
/// nothing by it and costs the control plane a connection, so that it need not be found out soon; and of thousands each is
/// asked.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// See [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests at once on one connection: a proxy has three.
const STREAMS_LIMIT: u32 = 16;
/// Connections at once.
const CONNECTIONS_LIMIT: usize = 20_000;
/// Handshakes at once: they cost the most of all that a stranger can ask for.
const HANDSHAKES_LIMIT: usize = 256;
/// Handshakes that are done and wait to be served.
const CONNECTIONS_QUEUED: usize = 64;
/// When the system has no more descriptors, asking again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
