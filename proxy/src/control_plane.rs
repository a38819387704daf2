//! Connections to the control plane: resolve, connect with the mark, handshake, gRPC. When to connect
//! again is for the callers to decide: identity.rs, discovery/client.rs.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use heddle_runtime::logging::Chain;
use heddle_tls::credentials::Credentials;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::debug;

use crate::config::HostPort;

/// Where the control plane is, and how to get there.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    address: HostPort,
    mark: Option<u32>,
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
    /// Does not connect yet. Sockets get the mark, if there is one.
    pub fn new(address: HostPort, mark: Option<u32>) -> Self {
        Self { address, mark }
    }

    /// As configured.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// One new connection. A certificate is presented if the credentials hold one.
    ///
    /// A peer that went away without a word is noticed after at most nine seconds.
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

    async fn dial(&self) -> Result<TcpStream, DialError> {
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

    async fn dial_address(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let failed = |source| DialError::Tcp { address, source };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .map_err(failed)?;
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark).map_err(failed)?;
        }
        socket.set_nodelay(true).map_err(failed)?;
        tokio::time::timeout(ADDRESS_TIMEOUT, socket.connect(address))
            .await
            .map_err(|_| DialError::TcpTimeout(address))?
            .map_err(failed)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// For everything from the name to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// For one of several addresses.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// How many of a name's addresses are tried.
const ADDRESS_LIMIT: usize = 4;
/// How long a connection may be silent before it is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// How long the answer may take.
const PING_TIMEOUT: Duration = Duration::from_secs(4);
