//! Opens connections: to an address as it is, and to an endpoint as its peer demands. Pools of HTTP
//! connections are in http/pool.rs.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::identity::{PodUid, SpiffeId};
use heddle_model::names::Port;
use heddle_model::policy::KeepAlive;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::connect::{Connected, PeerTarget};
use heddle_tls::credentials::Credentials;
use heddle_tls::stream::peer_not_after;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tracing::warn;

use crate::access_log::AccessLog;
use crate::http::breaker::Reset as _;
use crate::http::witness::Witnesses;
use crate::listen::DataPathSettings;
use crate::metrics::{Metrics, Protection, Side};
use crate::multiplex::channel::Channel;
use crate::pressure::Pressure;
use crate::warm::dial::{PeerStream, Turn};
use crate::warm::pool::Pool;

/// What it takes to open connections.
#[derive(Debug)]
pub struct Dialer {
    /// For connections to other proxies.
    pub credentials: Credentials,
    /// The own pod, which is never called through TLS.
    pub own: PodUid,
    /// Where handshakes are counted.
    pub metrics: Arc<Metrics>,
    /// Who wants to know of single requests.
    pub witnesses: Witnesses,
    /// Where requests and connections are written down.
    pub access_log: AccessLog,
    /// Runs what drives a connection.
    pub tasks: Tasks,
    /// Whether idle connections are to be closed.
    pub pressure: Pressure,
    /// Limits, and the socket mark.
    pub settings: DataPathSettings,
    /// Connections to other proxies, between two of the application's.
    pub warm: Arc<Pool<PeerStream>>,
    /// Of peers that could not be authenticated.
    pub warnings: Throttle,
    /// Of what this machine or process has run out of.
    pub local_warnings: Throttle,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub transport: Transport,
    /// When it is to take no new requests, since one of the two certificates that authenticated it
    /// is near its end; `None`: never.
    ///
    /// Connections that are carried as bytes have no requests and are not ended by this: who they
    /// are with was checked at their beginning.
    pub retire_at: Option<Instant>,
}

impl Dialer {
    /// A TCP connection to the address itself, past our own redirect.
    pub async fn tcp(
        &self,
        address: SocketAddr,
        keep_alive: &KeepAlive,
    ) -> Result<TcpStream, ConnectError> {
        let limit = self.settings.connect_timeout;
        let opening = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            self.mark(&socket)?;
            let stream = socket.connect(address).await?;
            tune(&stream, keep_alive)?;
            Ok::<_, io::Error>(stream)
        };
        tokio::time::timeout(limit, opening)
            .await
            .map_err(|_elapsed| ConnectError::Timeout { address, limit })?
            .map_err(|source| {
                if !is_local(&source) {
                    return ConnectError::Tcp { address, source };
                }
                // If it has run out of descriptors, these are of use to nobody yet.
                self.warm.clear();
                if self.local_warnings.is_due() {
                    warn!(error = %source, dst = %address, "this machine lets no connection be opened");
                }
                ConnectError::Local { source }
            })
    }

    #[cfg(target_os = "linux")]
    fn mark(&self, socket: &TcpSocket) -> io::Result<()> {
        match self.settings.mark {
            Some(mark) => SockRef::from(socket).set_mark(mark),
            None => Ok(()),
        }
    }

    /// A connection to an endpoint, with exactly the peer that is expected there. If a proxy is
    /// expected there is no way back to plain text.
    pub async fn endpoint(
        &self,
        endpoint: &Endpoint,
        protocol: InnerProtocol,
        keep_alive: &KeepAlive,
    ) -> Result<Opened, ConnectError> {
        let address = endpoint.address;
        let Some(target) = self.peer_target(endpoint)? else {
            let transport = Transport::Plain(self.tcp(address, keep_alive).await?);
            return Ok(Opened { transport, retire_at: None });
        };
        // Boxed: a request's future would hold all of it, also where there is a connection already.
        let protocols = [protocol];
        let connecting = Box::pin(self.mutual(address, &target, &protocols, keep_alive));
        let (connected, ends) = connecting.await?;
        let transport = Transport::Mutual(Box::new(connected.stream));
        Ok(Opened { transport, retire_at: ends.map(retire_at) })
    }

    /// The same for HTTP/1, and whether it is for many connections at once, which is up to the peer.
    pub async fn endpoint_shared(
        &self,
        endpoint: &Endpoint,
        keep_alive: &KeepAlive,
    ) -> Result<(Opened, bool), ConnectError> {
        let Some(target) = self.peer_target(endpoint)? else {
            let opened = self.endpoint(endpoint, InnerProtocol::Http1, keep_alive).await?;
            return Ok((opened, false));
        };
        let protocols = [InnerProtocol::SharedHttp1, InnerProtocol::Http1];
        let (connected, ends) =
            self.mutual(endpoint.address, &target, &protocols, keep_alive).await?;
        let is_shared = connected.protocol == InnerProtocol::SharedHttp1;
        let transport = Transport::Mutual(Box::new(connected.stream));
        Ok((Opened { transport, retire_at: ends.map(retire_at) }, is_shared))
    }

    /// A new connection to another proxy, for one of `protocols`, and when the first of the two
    /// certificates ends.
    pub(crate) async fn mutual(
        &self,
        address: SocketAddr,
        target: &PeerTarget,
        protocols: &[InnerProtocol],
        keep_alive: &KeepAlive,
    ) -> Result<(Connected<TcpStream>, Option<SystemTime>), ConnectError> {
        // Before the handshake, so that a certificate that is swapped during it does not lengthen
        // this.
        let own_not_after = self.good_until()?;
        let stream = self.tcp(address, keep_alive).await?;
        let connecting =
            heddle_tls::connect::connect_for(stream, &self.credentials, target, protocols);
        match connecting.await {
            Ok(connected) => {
                self.metrics.count_handshake(Side::Client, "ok");
                let peer_not_after = peer_not_after(&connected.stream);
                let ends = [own_not_after, peer_not_after].into_iter().flatten().min();
                Ok((connected, ends))
            }
            Err(source) => {
                self.metrics.count_handshake(Side::Client, source.label());
                if self.warnings.is_due() {
                    let identity = &target.identity;
                    warn!(error = %Chain(&source), dst = %address, %identity, "peer not authenticated");
                }
                Err(ConnectError::Tls { address, source })
            }
        }
    }

    /// When our own certificate expires, if there is one; an error if it has. In TLS 1.3 the client
    /// would take its handshake to be done, and the server's refusal for a connection that broke.
    pub(crate) fn good_until(&self) -> Result<Option<SystemTime>, ConnectError> {
        let not_after = self.credentials.leaf_not_after();
        if not_after.is_some_and(|end| end <= clock::now()) {
            if self.warnings.is_due() {
                warn!("our own certificate has expired");
            }
            return Err(ConnectError::CertificateExpired);
        }
        Ok(not_after)
    }

    /// How a connection to this endpoint is protected.
    ///
    /// A workload that calls itself through its own service does not leave its pod: what is sent
    /// there reaches the application without passing the inbound redirect, which the proxy's own
    /// connections are exempt from. No proxy would answer a handshake.
    pub fn protection(&self, endpoint: &Endpoint) -> Protection {
        match self.target(endpoint) {
            Some(_) => Protection::Mutual,
            None => Protection::Plaintext,
        }
    }

    /// Who has to answer at an endpoint; `None`: anybody.
    pub fn expected<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a SpiffeId> {
        self.target(endpoint).map(|(identity, _pod_uid)| identity)
    }

    /// Whom to authenticate at an endpoint; `None`: nobody.
    fn target<'a>(&self, endpoint: &'a Endpoint) -> Option<(&'a SpiffeId, &'a PodUid)> {
        match &endpoint.peer {
            ExpectedPeer::Mesh { identity, pod_uid } if *pod_uid != self.own => {
                Some((identity, pod_uid))
            }
            ExpectedPeer::Mesh { .. } | ExpectedPeer::Plaintext => None,
        }
    }

    /// The same with the port that is asked for.
    pub(crate) fn peer_target(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<PeerTarget>, ConnectError> {
        let address = endpoint.address;
        let Some((identity, pod_uid)) = self.target(endpoint) else { return Ok(None) };
        let port = Port::new(address.port()).ok_or(ConnectError::PortZero { address })?;
        Ok(Some(PeerTarget { identity: identity.clone(), pod_uid: pod_uid.clone(), port }))
    }
}

/// When a connection that is authenticated until `end` is to take no new requests: a request that
/// begins just before the end shall not finish long after it.
pub(crate) fn retire_at(end: SystemTime) -> Instant {
    let left = end.duration_since(clock::now()).unwrap_or(Duration::ZERO);
    Instant::now() + left.mul_f64(RETIRE_AT_SHARE)
}

/// Whether the error tells of this machine or process and not of who was called: descriptors or
/// memory have run out, or the socket may not be marked.
pub fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM];
    error.raw_os_error().is_some_and(|code| local.map(Errno::raw_os_error).contains(&code))
}

/// What every connection gets, accepted or opened: small writes leave at once, and a peer that
/// vanished is noticed.
pub fn tune(stream: &TcpStream, keep_alive: &KeepAlive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Linux takes whole seconds from 1 to 32,767, and from 1 to 127 probes.
    let seconds = |time: Duration| time.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
    let probes = TcpKeepalive::new()
        .with_time(seconds(keep_alive.tcp_time))
        .with_interval(seconds(keep_alive.tcp_interval))
        .with_retries(keep_alive.tcp_probes.clamp(1, 127));
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Makes the close that follows a reset, so that the other side sees an error and not an end.
pub fn reset_on_close(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// Mutual TLS with exactly the peer that was expected.
    Mutual(Box<PeerStream>),
    /// The same, for one turn.
    Warm(Box<Turn>),
    /// The same, shared with others.
    Channel(Channel),
}

impl Transport {
    /// Whether there is nothing to be read, as far as the runtime knows: the kernel is not asked. False: there may be.
    pub fn is_surely_silent(&self) -> bool {
        let is_silent = |stream: &TcpStream| stream.try_io(Interest::READABLE, || Ok(())).is_err();
        match self {
            Self::Plain(stream) => is_silent(stream),
            // It wants to read as long as it holds nothing that was not taken.
            Self::Mutual(stream) => {
                let (stream, session) = stream.get_ref();
                session.wants_read() && is_silent(stream)
            }
            Self::Warm(_) => false,
            Self::Channel(channel) => channel.is_silent(),
        }
    }

    /// Whether it may be used for more than what is under way.
    pub fn takes_more(&self) -> bool {
        match self {
            Self::Channel(channel) => channel.session().is_open(),
            Self::Plain(_) | Self::Mutual(_) | Self::Warm(_) => true,
        }
    }

    /// After a failure, whether that is the end of all that it carried.
    pub fn is_spent(&self) -> bool {
        match self {
            Self::Channel(channel) => !channel.session().is_open(),
            Self::Plain(_) | Self::Mutual(_) | Self::Warm(_) => true,
        }
    }

    /// Whether its failure tells something that is not known yet.
    pub fn is_news(&self) -> bool {
        match self {
            Self::Channel(channel) => channel.session().is_news(),
            Self::Plain(_) | Self::Mutual(_) | Self::Warm(_) => true,
        }
    }

    /// Makes the close that follows an error for the other side.
    pub fn reset_on_close(&self) {
        match self {
            Self::Plain(stream) => reset_on_close(stream),
            // Without a close_notify the peer sees an error anyway.
            Self::Mutual(stream) => reset_on_close(stream.get_ref().0),
            Self::Warm(turn) => reset_on_close(turn.carrier.stream().get_ref().0),
            Self::Channel(channel) => channel.reset(),
        }
    }
}

/// Forwards one poll method to whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Self::Mutual($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
            Self::Warm(turn) => {
                let $stream = Pin::new(&mut turn.carrier);
                $call
            }
            Self::Channel($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Mutual(stream) => stream.is_write_vectored(),
            Self::Warm(turn) => turn.carrier.is_write_vectored(),
            Self::Channel(channel) => channel.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP said so.
    #[error("cannot connect to {address}")]
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The machine has run out of something, or does not let us. It tells nothing of the endpoint.
    #[error("this machine lets no connection be opened")]
    Local {
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Our own certificate has expired, so that no peer would have us.
    #[error("our own certificate has expired")]
    CertificateExpired,
    /// TCP said nothing.
    #[error("{address} did not accept within {limit:?}")]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The peer is not who is expected, or would not have us.
    #[error("cannot authenticate {address}")]
    Tls {
        /// Where to.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: heddle_tls::connect::ConnectError,
    },
    /// The application's own TLS, in which its node probes it, failed.
    #[error("cannot begin the application's own TLS with {address}")]
    ApplicationTls {
        /// Where to.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: heddle_tls::https::HttpsError,
    },
    /// HTTP could not be begun.
    #[error("cannot begin HTTP with {address}")]
    Http {
        /// Where to.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// As many connections to the backend are open as may be.
    #[error("as many connections to the backend are open as may be")]
    TooMany,
    /// Nobody listens there.
    #[error("{address} has no port")]
    PortZero {
        /// Where to.
        address: SocketAddr,
    },
    /// The connection that others were opening, and this request waited for, failed.
    #[error("{address} failed a moment ago")]
    FailedBefore {
        /// Where to.
        address: SocketAddr,
    },
}

impl ConnectError {
    /// One word, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "connect",
            Self::Local { .. } => "local",
            Self::CertificateExpired => "certificate_expired",
            Self::Timeout { .. } => "connect_timeout",
            Self::Tls { .. } => "tls",
            Self::ApplicationTls { .. } => "application_tls",
            Self::Http { .. } => "http_handshake",
            Self::TooMany => "overloaded",
            Self::PortZero { .. } => "port_zero",
            Self::FailedBefore { .. } => "connect_failed_before",
        }
    }

    /// Whether its cause is on this side, so that it says nothing of the endpoint.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Local { .. } | Self::CertificateExpired | Self::TooMany => true,
            Self::Tls { source, .. } => match source {
                heddle_tls::connect::ConnectError::NotReady => true,
                heddle_tls::connect::ConnectError::ServerName { .. }
                | heddle_tls::connect::ConnectError::Handshake(_) => false,
            },
            Self::Tcp { .. }
            | Self::Timeout { .. }
            | Self::ApplicationTls { .. }
            | Self::Http { .. }
            | Self::PortZero { .. }
            | Self::FailedBefore { .. } => false,
        }
    }
}

const RETIRE_AT_SHARE: f64 = 0.9;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_the_machine_has_run_out_of_is_not_held_against_an_endpoint() {
        for (errno, expected) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::PERM, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(is_local(&error), expected, "case: {errno:?}");
        }
    }
}
