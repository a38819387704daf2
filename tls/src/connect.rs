//! The client side of a handshake between two proxies.

use std::sync::Arc;

use heddle_model::identity::{PeerServerName, PodUid, SpiffeId};
use heddle_model::names::Port;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::alpn::InnerProtocol;
use crate::credentials::Credentials;
use crate::handshake::{self, HandshakeError};
use crate::peer::PeerIdentity;
use crate::stream::TlsStream;

/// Who must answer, as discovery told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerTarget {
    /// The exact identity.
    pub identity: SpiffeId,
    /// The exact pod.
    pub pod_uid: PodUid,
    /// The pod's port.
    pub port: Port,
}

impl PeerTarget {
    fn expected(&self) -> PeerIdentity {
        PeerIdentity { identity: self.identity.clone(), pod_uid: self.pod_uid.clone() }
    }

    fn server_name(&self) -> String {
        PeerServerName { port: self.port, pod_uid: self.pod_uid.clone() }
            .to_dns_name(self.identity.trust_domain())
    }
}

/// Authenticates both ends of a new connection to another proxy, with the credentials of this
/// moment. There is no way back to plain text.
///
/// The server must be exactly the target. That it refused our own certificate shows only in the
/// first read: see [`TlsStream`]. Within [`handshake::HANDSHAKE_TIMEOUT`].
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn connect<IO>(
    io: IO,
    credentials: &Credentials,
    target: &PeerTarget,
    protocol: InnerProtocol,
) -> Result<TlsStream<IO>, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connect_for(io, credentials, target, &[protocol]).await.map(|connected| connected.stream)
}

/// A connection to another proxy, and what that took of what was offered.
#[derive(Debug)]
pub struct Connected<IO> {
    /// The connection. See [`TlsStream`] for how long its authentication holds.
    pub stream: TlsStream<IO>,
    /// What flows inside.
    pub protocol: InnerProtocol,
}

/// The same as [`connect`] for whichever of `protocols` the server likes best. One that is older than
/// some of them takes what it knows; the handshake authenticates its choice.
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn connect_for<IO>(
    io: IO,
    credentials: &Credentials,
    target: &PeerTarget,
    protocols: &[InnerProtocol],
) -> Result<Connected<IO>, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config =
        credentials.peer_client(target.expected(), protocols).ok_or(ConnectError::NotReady)?;
    let stream = handshake(io, config, target.server_name()).await?;
    let protocol = stream.get_ref().1.alpn_protocol().and_then(InnerProtocol::from_name);
    let protocol = protocol.ok_or(HandshakeError::Alpn)?;
    Ok(Connected { stream, protocol })
}

/// The handshake of any client of the mesh, who must be granted a protocol that it offers.
pub(crate) async fn handshake<IO>(
    io: IO,
    config: ClientConfig,
    server_name: String,
) -> Result<TlsStream<IO>, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(name) = ServerName::try_from(server_name.as_str()).map(|name| name.to_owned()) else {
        return Err(ConnectError::ServerName { name: server_name });
    };
    let config = Arc::new(config);
    handshake::within_limit(handshake::HANDSHAKE_TIMEOUT, async {
        let stream = TlsConnector::from(Arc::clone(&config))
            .connect(name, io)
            .await
            .map_err(HandshakeError::from_io)?;
        // rustls refuses a protocol that was not offered, but takes a server that names none.
        let granted = stream.get_ref().1.alpn_protocol();
        if !config.alpn_protocols.iter().any(|offered| granted == Some(offered.as_slice())) {
            return Err(HandshakeError::Alpn.into());
        }
        Ok(TlsStream::Client(stream))
    })
    .await
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No trust bundle or no certificate yet.
    #[error("there is no certificate yet to connect with")]
    NotReady,
    /// The target's names are too long to be one DNS name together.
    #[error("{name:?} is too long for a server name")]
    ServerName {
        /// As it would have been sent.
        name: String,
    },
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
}

impl ConnectError {
    /// The reason as a metric label: a closed set of constant words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::ServerName { .. } => "server_name",
            Self::Handshake(error) => error.label(),
        }
    }
}
