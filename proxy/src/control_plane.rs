//! Connections to the control plane: resolve, connect with the mark, handshake, gRPC. When to connect
//! again is for the callers to decide: identity.rs, discovery/client.rs.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use heddle_runtime::logging::Chain;
use heddle_tls::credentials::Credentials;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::debug;

use crate::config::HostPort;

/// Where the control plane is, and how to get there.
#[derive(Clone)]
pub struct ControlPlane {
    address: HostPort,
    connect: Connect,
}

/// Opens a connection to one address. A proxy's own is [`tcp`]; whoever measures what goes over one brings another.
pub type Connect = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<Stream>> + Send + Sync>;

/// A connection before its handshake.
pub type Stream = Box<dyn Io>;

/// Bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("address", &self.address).finish_non_exhaustive()
    }
}

/// By TCP. Sockets get the mark, if there is one.
pub fn tcp(mark: Option<u32>) -> Connect {
    Arc::new(move |address| {
        let connecting = async move {
            let stream = socket(address, mark)?.connect(address).await?;
            Ok(Box::new(stream) as Stream)
        };
        connecting.boxed()
    })
}

/// A socket as connections to the control plane have it: small writes leave at once, and the kernel notices within eight
/// seconds that the other machine has gone, whether or not something was sent to it.
pub fn socket(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    let settings = SockRef::from(&socket);
    if let Some(mark) = mark {
        settings.set_mark(mark)?;
    }
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    settings.set_tcp_keepalive(&probes)?;
    settings.set_tcp_user_timeout(Some(GONE_AFTER))?;
    Ok(socket)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured address makes no URI.
    #[error("{address} cannot be written as a URI")]
    Address {
        /// As configured.
        address: HostPort,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// Resolving, connecting or the handshake failed; the sources tell which.
    #[error("no connection to {address}")]
    Connection {
        /// As configured.
        address: HostPort,
        /// Which step failed.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Why no byte could be sent.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot resolve {host}")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{0} did not answer in time")]
    TcpTimeout(SocketAddr),
}

impl ControlPlane {
    /// Does not connect yet.
    pub fn new(address: HostPort, connect: Connect) -> Self {
        Self { address, connect }
    }

    /// As configured.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// One new connection. A certificate is presented if the credentials hold one.
    ///
    /// A machine that went away without a word is noticed after at most nine seconds ([`socket`]), and a process that
    /// stands still after fifteen.
    pub async fn connect(&self, credentials: &Credentials) -> Result<Channel, ConnectError> {
        let failed = |source| ConnectError::Connection { address: self.address.clone(), source };
        let this = self.clone();
        let credentials = credentials.clone();
        let connector = service_fn(move |_| {
            let (this, credentials) = (this.clone(), credentials.clone());
            async move {
                let stream = this.dial().await?;
                let stream = heddle_tls::control_plane::connect(stream, &credentials).await?;
                Ok::<_, BoxError>(TokioIo::new(stream))
            }
        });
        Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|source| ConnectError::Address { address: self.address.clone(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(failed)
    }

    async fn dial(&self) -> Result<Stream, DialError> {
        let HostPort { host, port } = &self.address;
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port.number()))
            .await
            .map_err(|source| DialError::Resolve { host: host.clone(), source })?
            .take(ADDRESS_LIMIT)
            .collect();
        let mut outcome = Err(DialError::NoAddress { host: host.clone() });
        for address in addresses {
            outcome = self.dial_address(address).await;
            match &outcome {
                Ok(_) => break,
                Err(error) => debug!(error = %Chain(error), "address skipped"),
            }
        }
        outcome
    }

    async fn dial_address(&self, address: SocketAddr) -> Result<Stream, DialError> {
        tokio::time::timeout(ADDRESS_TIMEOUT, (self.connect)(address))
            .await
            .map_err(|_| DialError::TcpTimeout(address))?
            .map_err(|source| DialError::Tcp { address, source })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// For everything from the name to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// For one of several addresses.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// How many of a name's addresses are tried.
const ADDRESS_LIMIT: usize = 4;
/// How long a connection may be silent before its other end is asked whether it lives: by the kernel, which costs no
/// process anything.
const PROBE_AFTER: Duration = Duration::from_secs(4);
/// How long the answer may take before it is asked again,
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// and how often.
const PROBES: u32 = 2;
/// How long what was sent may be without an acknowledgement.
const GONE_AFTER: Duration = Duration::from_secs(8);
/// How long a connection may be silent before the control plane itself is asked: the machine answers probes of a process
/// that stands still. A control plane answers all of its proxies, so that each asks seldom.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long its answer may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
