//! The two ports: accepts connections within a limit and hands each to outbound.rs or inbound.rs.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::identity::PodUid;
use heddle_model::policy::KeepAlive;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::credentials::Credentials;
use heddle_tls::handshake::HANDSHAKE_TIMEOUT;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::access_log::AccessLog;
use crate::connect::{Dialer, is_local, reset_on_close, tune};
use crate::discovery::store::Store;
use crate::http::witness::Witnesses;
use crate::inbound::Inbound;
use crate::metrics::{Direction, Metrics};
use crate::outbound::Outbound;
use crate::pressure::Pressure;
use crate::warm::dial::PeerStream;
use crate::warm::pool::{KEPT_FOR_PEER, Pool};

/// All that the data path works with.
pub struct DataPath {
    /// What addresses mean, and the own workload.
    pub store: Store,
    /// For connections from and to other proxies.
    pub credentials: Credentials,
    /// The own pod.
    pub own: PodUid,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Who wants to know of single requests.
    pub witnesses: Witnesses,
    /// Where requests and connections are written down.
    pub access_log: AccessLog,
    /// Runs connections.
    pub tasks: Tasks,
    /// Whether there is memory for more of them.
    pub pressure: Pressure,
    /// Limits.
    pub settings: DataPathSettings,
    /// Connections to other proxies, between two of the application's.
    pub warm: Arc<Pool<PeerStream>>,
}

/// Limits on time and number; each default is the named constant beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPathSettings {
    /// The socket mark of every connection that the proxy opens, which the redirect exempts;
    /// `None`: none, and the redirect goes by uid.
    pub mark: Option<u32>,
    /// Connections open at once in one direction; more are reset.
    pub connection_limit: usize,
    /// How much memory there is, if less than what the container's limit says; see pressure.rs.
    pub memory_limit_bytes: Option<u64>,
    /// Requests and connections that one endpoint may have at once; more are answered 503.
    pub requests_per_endpoint: usize,
    /// Idle connections to one endpoint that are kept for later connections of the application; zero:
    /// each has a handshake of its own, in both directions.
    pub warm_connections: usize,
    /// How long an address may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a client may say nothing before the server is asked to speak first.
    pub silence: Duration,
    /// How long a client may take from its first byte to one that tells the protocol.
    pub detection_timeout: Duration,
    /// How long a caller may take for its handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to finish its request's body, or to make room for the response's,
    /// from one piece to the next. See http/progress.rs and http/gate/timers.rs.
    pub body_idle: Duration,
    /// How long an HTTP/2 stream may stand still while it is nobody's turn in particular.
    pub stream_idle: Duration,
    /// How long a connection that is carried as bytes may be silent in both directions.
    pub opaque_idle: Duration,
    /// How long an inbound HTTP connection may be without a request.
    pub inbound_idle: Duration,
    /// How long an outbound HTTP connection may be without a request.
    pub outbound_idle: Duration,
    /// How long the head of a request may take, from its first byte, of HTTP/1.
    pub request_head_timeout: Duration,
    /// How often an HTTP/2 peer is asked whether it is there, while requests are open.
    pub http2_ping_interval: Duration,
    /// How long it may take to answer that.
    pub http2_ping_timeout: Duration,
    /// How long no connection of either direction must have been open, after draining has begun,
    /// before the outbound port closes.
    pub drain_quiet: Duration,
}

impl Default for DataPathSettings {
    fn default() -> Self {
        Self {
            mark: None,
            connection_limit: CONNECTION_LIMIT,
            memory_limit_bytes: None,
            requests_per_endpoint: REQUESTS_PER_ENDPOINT,
            warm_connections: KEPT_FOR_PEER,
            connect_timeout: CONNECT_TIMEOUT,
            silence: SILENCE,
            detection_timeout: DETECTION_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            body_idle: BODY_IDLE_TIMEOUT,
            stream_idle: STREAM_IDLE_TIMEOUT,
            opaque_idle: OPAQUE_IDLE_TIMEOUT,
            inbound_idle: INBOUND_IDLE_TIMEOUT,
            outbound_idle: OUTBOUND_IDLE_TIMEOUT,
            request_head_timeout: REQUEST_HEAD_TIMEOUT,
            http2_ping_interval: HTTP2_PING_INTERVAL,
            http2_ping_timeout: HTTP2_PING_TIMEOUT,
            drain_quiet: DRAIN_QUIET,
        }
    }
}

/// One port on the wildcard addresses of IPv4 and, if the machine has it, IPv6.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<TcpListener>,
}

impl Listeners {
    /// Where they listen.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.all.iter().map(TcpListener::local_addr).collect()
    }
}

/// Listens on a port, zero for any that is free; fails if it is taken.
pub async fn bind(port: u16) -> io::Result<Listeners> {
    let first = listener((Ipv4Addr::UNSPECIFIED, port).into())?;
    let port = first.local_addr()?.port();
    let mut all = vec![first];
    match listener((Ipv6Addr::UNSPECIFIED, port).into()) {
        Ok(second) => all.push(second),
        Err(error) if is_without_ipv6(&error) => info!(port, "no IPv6 on this machine"),
        Err(error) => return Err(error),
    }
    Ok(Listeners { all })
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let known = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| known.contains(&code))
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Each family has its own, so that no address comes in two forms.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes what the workload sends, in tasks.
///
/// Draining does not end it, as the application may still be running and calling: it goes on until
/// no connection of either direction was open for [`DataPathSettings::drain_quiet`], or until it is
/// aborted.
pub fn serve_outbound(listeners: Listeners, path: Arc<DataPath>) {
    let outbound = Outbound::new(dialer(&path), path.store.clone());
    let accepting = Accepting::new(Direction::Outbound, &path);
    for listener in listeners.all {
        let (accepting, outbound) = (accepting.clone(), outbound.clone());
        let (tasks, metrics) = (path.tasks.clone(), Arc::clone(&path.metrics));
        let quiet = path.settings.drain_quiet;
        path.tasks.spawn("outbound.accept", async move {
            let end = async {
                tasks.drain().cancelled().await;
                until_quiet(&metrics, quiet).await;
            };
            let serve = move |stream| Arc::clone(&outbound).serve(stream);
            accepting.run(listener, serve, end).await;
        });
    }
}

/// Takes what is sent to the workload, in tasks. Draining ends it: connections that are open finish
/// what is in flight.
pub fn serve_inbound(listeners: Listeners, path: Arc<DataPath>) {
    let inbound = Inbound::new(dialer(&path), path.store.clone());
    let accepting = Accepting::new(Direction::Inbound, &path);
    for listener in listeners.all {
        let (accepting, inbound) = (accepting.clone(), inbound.clone());
        let tasks = path.tasks.clone();
        path.tasks.spawn("inbound.accept", async move {
            let serve = move |stream| Arc::clone(&inbound).serve(stream);
            accepting.run(listener, serve, tasks.drain().cancelled()).await;
        });
    }
}

fn dialer(path: &DataPath) -> Arc<Dialer> {
    Arc::new(Dialer {
        credentials: path.credentials.clone(),
        own: path.own.clone(),
        metrics: Arc::clone(&path.metrics),
        witnesses: path.witnesses.clone(),
        access_log: path.access_log.clone(),
        tasks: path.tasks.clone(),
        pressure: path.pressure.clone(),
        settings: path.settings,
        warm: Arc::clone(&path.warm),
        warnings: Throttle::default(),
        local_warnings: Throttle::default(),
    })
}

/// Completes when no connection was open for as long as `quiet`.
async fn until_quiet(metrics: &Metrics, quiet: Duration) {
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < quiet {
        tokio::time::sleep(QUIET_CHECK_INTERVAL.min(quiet)).await;
        let open = [Direction::Inbound, Direction::Outbound].map(|each| metrics.open.count(each));
        if open != [0, 0] {
            quiet_since = Instant::now();
        }
    }
}

/// Accepts connections of one direction.
#[derive(Clone)]
struct Accepting {
    direction: Direction,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    tasks: Tasks,
    pressure: Pressure,
    /// Closed where descriptors have run out.
    warm: Arc<Pool<PeerStream>>,
    /// Shared by the listeners of a port.
    places: Arc<Semaphore>,
    warnings: Arc<Throttle>,
}

impl Accepting {
    fn new(direction: Direction, path: &DataPath) -> Self {
        Self {
            direction,
            metrics: Arc::clone(&path.metrics),
            access_log: path.access_log.clone(),
            tasks: path.tasks.clone(),
            pressure: path.pressure.clone(),
            warm: Arc::clone(&path.warm),
            places: Arc::new(Semaphore::new(path.settings.connection_limit)),
            warnings: Arc::default(),
        }
    }

    async fn run<S, F>(&self, listener: TcpListener, serve: S, end: impl Future<Output = ()>)
    where
        S: Fn(TcpStream) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut end = pin!(end);
        let mut spare = Spare::new();
        loop {
            let accepted = tokio::select! {
                () = end.as_mut() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.begin(stream, client, &serve),
                // Accepting again at once would only spin. A connection that was gone before it was
                // accepted is no reason to wait, but none to tell apart either.
                Err(error) => {
                    self.metrics.count_refused(self.direction, "accept_failed");
                    if self.warnings.is_due() {
                        warn!(direction = self.direction.as_str(), %error, "cannot accept");
                    }
                    if is_local(&error) {
                        // These are of use to nobody yet.
                        self.warm.clear();
                    }
                    if is_local(&error) && spare.give_up() {
                        // Whoever waits in the queue is told now, and not when its patience is over.
                        self.refuse_waiting(&listener).await;
                        spare = Spare::new();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes the one descriptor that there is, for one connection after the other.
    async fn refuse_waiting(&self, listener: &TcpListener) {
        for _connection in 0..BACKLOG {
            let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
            let Ok(Ok(accepted)) = accepted else { return };
            self.refuse(&accepted, "no_descriptors", "no descriptors for more connections");
        }
    }

    fn begin<F>(&self, stream: TcpStream, client: SocketAddr, serve: &impl Fn(TcpStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.pressure.admits(self.direction, || self.metrics.open.count(self.direction)) {
            return self.refuse(&(stream, client), "memory", "no memory for more connections");
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.refuse(&(stream, client), "connection_limit", "connection limit reached");
        };
        // A socket that cannot be tuned is gone; reading will tell.
        let _ = tune(&stream, &KeepAlive::default());
        let open = self.metrics.open.begin(self.direction);
        // Boxed: whoever spawns a task moves its future several times.
        let serving = Box::pin(serve(stream));
        self.tasks.spawn_quiet(async move {
            serving.await;
            drop((place, open));
        });
    }

    fn refuse(
        &self,
        (stream, client): &(TcpStream, SocketAddr),
        reason: &'static str,
        message: &'static str,
    ) {
        self.metrics.count_refused(self.direction, reason);
        self.access_log.turned_away(self.direction, *client, reason);
        if self.warnings.is_due() {
            warn!(direction = self.direction.as_str(), reason, "{message}");
        }
        reset_on_close(stream);
    }
}

/// A descriptor that is kept so that there is one when there is none.
struct Spare(Option<File>);

impl Spare {
    /// Without one if there is none to keep.
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// True if there is one more descriptor now.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

impl fmt::Debug for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPath").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Connections open at once in one direction.
pub const CONNECTION_LIMIT: usize = 10_000;
/// Requests and connections at once for one endpoint.
pub const REQUESTS_PER_ENDPOINT: usize = 4096;
/// Long enough for two lost SYNs (1 s and 2 s), short enough to try another endpoint.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Twice what a busy machine takes to schedule a client that has just connected.
pub const SILENCE: Duration = Duration::from_millis(50);
/// From the first byte to the one that tells the protocol.
pub const DETECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// As Envoy's `stream_idle_timeout`; but what counts here is only silence of a client whose turn it is.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Watches and subscriptions are silent for long. Whose other end has vanished is found by PING.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// As Envoy's `idle_timeout` of its TCP proxy. A peer that vanished is found by TCP's keep-alive.
pub const OPAQUE_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// More than [`crate::http::pool::IDLE_TIMEOUT_LIMIT`], for which other proxies keep connections at most.
pub const INBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// More than the pools of common HTTP clients keep connections for, so that the application closes
/// first, as it would without a mesh.
pub const OUTBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// As long as [`DETECTION_TIMEOUT`]: a head is one packet or two.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may be waited for, in all, for a body whose length it has said; as Apache's
/// mod_reqtimeout has it, `body=20,MinRate=500`.
pub const REQUEST_BODY_GRACE: Duration = Duration::from_secs(20);
/// How many bytes of such a body earn another second.
pub const REQUEST_BODY_RATE: u64 = 500;
/// Finds a peer that vanished without a word.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// As above.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than an application that is shutting down pauses between two calls.
pub const DRAIN_QUIET: Duration = Duration::from_secs(3);
/// The head of a request or response.
pub const HEADERS_LIMIT_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
pub const HTTP2_STREAM_LIMIT: u32 = 250;
/// What may be under way to us on one stream: 128 KiB fills 1 Gbit/s at a round trip of 1 ms. All streams
/// of a connection together bound its memory. Smaller windows are too slow between zones; with larger
/// ones a connection could carry fewer streams, and what is sent over more connections is batched less.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// What may be under way to us on one connection. Streams share it, so it is more than their windows
/// together: however many readers are slow, the others go on.
///
/// h2 makes half of it the budget for frames below 256 bytes that are not read yet, and ends the
/// connection when that is spent; each takes what it lacks to 256. One stream can spend its window on
/// frames of one byte, and must not end the connection that way.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
const _: () =
    assert!(HTTP2_STREAM_LIMIT * HTTP2_STREAM_WINDOW_BYTES <= HTTP2_CONNECTION_WINDOW_BYTES);
const _: () = assert!(HTTP2_STREAM_WINDOW_BYTES * 255 <= HTTP2_CONNECTION_WINDOW_BYTES / 2);
/// The same for callers that nobody authenticated: anybody can open many connections.
pub const HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What is kept of one stream that its receiver does not take; each direction has its own.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that one connection may have reset and not yet be rid of (CVE-2023-44487).
pub const HTTP2_RESET_LIMIT: usize = 1024;
const BACKLOG: i32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const QUIET_CHECK_INTERVAL: Duration = Duration::from_millis(100);
