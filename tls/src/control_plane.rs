//! Both sides of a handshake between a proxy and the control plane.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::accept::{self, AcceptError};
use crate::alpn;
use crate::config::Audience;
use crate::connect::{self, ConnectError};
use crate::credentials::Credentials;
use crate::handshake::{self, HandshakeError};
use crate::peer::PeerIdentity;
use crate::stream::TlsStream;

/// Takes a proxy's connection, as the control plane.
///
/// A proxy that has no certificate yet comes without one: `None`, and it may do no more than ask
/// for one with its token. A certificate that is presented must be valid. Within
/// [`handshake::HANDSHAKE_TIMEOUT`].
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn accept<IO>(
    io: IO,
    credentials: &Credentials,
) -> Result<(TlsStream<IO>, Option<PeerIdentity>), AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let audience = Audience::ControlPlaneClients;
    let serving = credentials.serving(audience).ok_or(AcceptError::NotReady)?;
    let own = credentials.identity().ok_or(AcceptError::NotReady)?;
    let own_name = |asked: &str| audience.is_own_name(asked, &own).then_some(());
    handshake::within_limit(handshake::HANDSHAKE_TIMEOUT, async {
        let (stream, ()) = accept::handshake(io, serving, own_name).await?;
        let connection = stream.get_ref().1;
        if connection.alpn_protocol() != Some(alpn::CONTROL_PLANE) {
            return Err(HandshakeError::Alpn.into());
        }
        let peer = accept::leaf(connection)?.map(|leaf| leaf.peer);
        Ok((TlsStream::Server(stream), peer))
    })
    .await
}

/// Connects to the control plane, as a proxy, and accepts nobody else's certificate.
///
/// Presents our own certificate if there is one that has not expired: a proxy that was cut off
/// until then must be able to come back and ask for a fresh one. Within
/// [`handshake::HANDSHAKE_TIMEOUT`].
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn connect<IO>(io: IO, credentials: &Credentials) -> Result<TlsStream<IO>, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = credentials.control_plane_client().ok_or(ConnectError::NotReady)?;
    let server_name = PeerIdentity::control_plane(credentials.trust_domain())
        .map_err(|_| ConnectError::NotReady)?
        .dns_name();
    connect::handshake(io, config, server_name).await
}
