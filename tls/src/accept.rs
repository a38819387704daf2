//! The server side of a handshake between two proxies.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::identity::{PeerServerName, PodUid};
use rustls::server::Acceptor;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server};

use crate::alpn::InnerProtocol;
use crate::config::Audience;
use crate::credentials::Credentials;
use crate::handshake::{self, HandshakeError};
use crate::leaf::Leaf;
use crate::peer::PeerIdentity;
use crate::stream::TlsStream;

/// An authenticated connection from another proxy.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// The connection. See [`TlsStream`] for how long its authentication holds.
    pub stream: TlsStream<IO>,
    /// Who called.
    pub peer: PeerIdentity,
    /// When the certificate expires that says so.
    pub peer_not_after: SystemTime,
    /// Which of our ports was asked for. Its pod is always our own.
    pub server_name: PeerServerName,
    /// What flows inside.
    pub protocol: InnerProtocol,
}

/// Takes a connection from another proxy, with the credentials of this moment.
///
/// The client must present a certificate of the mesh, ask for `<port>.<own>.pod.<trust-domain>`
/// and offer one of `protocols`; of several the one that comes first here is taken. TLS 1.3, always
/// a full handshake, no early data; all of it within `limit`.
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn accept<IO>(
    io: IO,
    credentials: &Credentials,
    own: &PodUid,
    protocols: &[InnerProtocol],
    limit: Duration,
) -> Result<Accepted<IO>, AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut serving = credentials.serving(Audience::Peers).ok_or(AcceptError::NotReady)?;
    if protocols != InnerProtocol::ALL {
        Arc::make_mut(&mut serving).alpn_protocols = InnerProtocol::names(protocols);
    }
    let own_name = |asked: &str| {
        PeerServerName::parse(asked, credentials.trust_domain()).filter(|name| name.pod_uid == *own)
    };
    handshake::within_limit(limit, async {
        let (stream, server_name) = handshake(io, serving, own_name).await?;
        let connection = stream.get_ref().1;
        let protocol = protocol(connection)?;
        let Leaf { peer, not_after, .. } =
            leaf(connection)?.ok_or(HandshakeError::NoCertificate)?;
        Ok(Accepted {
            stream: TlsStream::Server(stream),
            peer,
            peer_not_after: not_after,
            server_name,
            protocol,
        })
    })
    .await
}

/// The handshake of any server of the mesh. `own_name` reads a name that is the server's own.
pub(crate) async fn handshake<IO, T>(
    io: IO,
    serving: Arc<ServerConfig>,
    own_name: impl FnOnce(&str) -> Option<T>,
) -> Result<(server::TlsStream<IO>, T), AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start =
        LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(HandshakeError::from_io)?;
    let hello = start.client_hello();
    let asked = hello.server_name().map(str::to_owned);
    let offers_protocols = hello.alpn().is_some();
    let finished = start.into_stream(serving).await;
    // Such a handshake has failed too, so that the client got an alert; but with the reason that no
    // certificate was found for it, which is not the one to tell.
    let Some(name) = asked.as_deref().and_then(own_name) else {
        return Err(AcceptError::WrongServerName { asked });
    };
    if !offers_protocols {
        return Err(HandshakeError::Alpn.into());
    }
    Ok((finished.map_err(HandshakeError::from_io)?, name))
}

fn protocol(connection: &ServerConnection) -> Result<InnerProtocol, HandshakeError> {
    connection.alpn_protocol().and_then(InnerProtocol::from_name).ok_or(HandshakeError::Alpn)
}

/// What the certificate that the verifier has passed says; `None` if there was none.
pub(crate) fn leaf(connection: &ServerConnection) -> Result<Option<Leaf>, HandshakeError> {
    connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|certificate| Leaf::parse(certificate))
        .transpose()
        .map_err(HandshakeError::Refused)
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// No trust bundle or no certificate yet.
    #[error("there is no certificate yet to answer with")]
    NotReady,
    /// The client wants somebody else, or does not say whom.
    #[error("the client asked for server name {asked:?}, which is not ours")]
    WrongServerName {
        /// As it was sent; absent if it was not.
        asked: Option<String>,
    },
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
}

impl AcceptError {
    /// The reason as a metric label: a closed set of constant words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::WrongServerName { .. } => "wrong_server_name",
            Self::Handshake(error) => error.label(),
        }
    }
}
