//! The application's own TLS, as a node's probes use it: nobody is authenticated, on either side. A proxy takes it in
//! the application's place, and speaks it to the application of its own pod. Nothing of the mesh may be sent by this.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config;
use crate::handshake::{self, HandshakeError};
use crate::https::HttpsError;
use crate::https::identity::{HttpsIdentity, IdentityError};
use crate::stream::TlsStream;

/// Takes the TLS of probes, with a certificate that nobody has a reason to trust. Clones share it.
#[derive(Clone, Debug)]
pub struct ProbeAcceptor(Arc<ServerConfig>);

/// Why there is no acceptor. Neither can come from what a peer sends.
#[derive(Debug, thiserror::Error)]
pub enum ProbeAcceptorError {
    /// No certificate could be made.
    #[error("no certificate for probes could be made")]
    Identity(#[from] IdentityError),
    /// The TLS library refused the settings.
    #[error("the TLS library refused the settings")]
    Settings(#[from] rustls::Error),
}

impl ProbeAcceptor {
    /// Makes a key and a certificate of its own: not the workload's, whose key signs for the mesh alone.
    pub fn create(now: SystemTime) -> Result<Self, ProbeAcceptorError> {
        let identity = HttpsIdentity::create(&[NAME], LIFETIME, now)?;
        let key = SingleCertAndKey::from(Arc::clone(identity.certified_key()));
        let mut config = ServerConfig::builder_with_provider(config::provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(key));
        config.alpn_protocols = vec![HTTP1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self(Arc::new(config)))
    }

    /// Takes one connection, within `limit`: TLS 1.3, with HTTP/1 inside for who asks.
    ///
    /// Cancel safe: no; dropping it drops the connection.
    pub async fn accept<IO>(&self, io: IO, limit: Duration) -> Result<TlsStream<IO>, HttpsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        handshake::within_limit(limit, async {
            let accepted = TlsAcceptor::from(Arc::clone(&self.0)).accept(io).await;
            Ok(TlsStream::Server(accepted.map_err(HandshakeError::from_io)?))
        })
        .await
    }
}

/// Connects to the application of the own pod, whose address is `address`, for HTTP/1: TLS 1.2 or 1.3, with whatever
/// certificate it presents, as the kubelet does.
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn connect<IO>(
    io: IO,
    address: IpAddr,
    limit: Duration,
) -> Result<TlsStream<IO>, HttpsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    // As applications are configured, and not as the mesh is.
    let provider = aws_lc_rs::default_provider();
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(HttpsError::Settings)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    config.resumption = Resumption::disabled();
    let name = ServerName::IpAddress(address.into());
    handshake::within_limit(limit, async {
        let connected = TlsConnector::from(Arc::new(config)).connect(name, io).await;
        Ok(TlsStream::Client(connected.map_err(HandshakeError::from_io)?))
    })
    .await
}

/// Takes every certificate, and holds the server to it: it must have the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// In the certificate: nobody asks for it.
const NAME: &str = "probes.heddle.invalid";
/// Longer than any pod lives: who probes does not look.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// RFC 7301, section 6.
const HTTP1: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::testing;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn who_asks_no_questions_is_served_with_http1_inside() {
        let acceptor = ProbeAcceptor::create(testing::now()).unwrap();
        let (client, server) = tokio::io::duplex(1 << 16);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let (client, server) =
            tokio::join!(connect(client, loopback, LIMIT), acceptor.accept(server, LIMIT));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(HTTP1));
        client.write_all(b"x").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for_for_ever() {
        let acceptor = ProbeAcceptor::create(testing::now()).unwrap();
        let (_client, server) = tokio::io::duplex(1 << 16);
        let ended = acceptor.accept(server, LIMIT).await;
        let expected = HttpsError::Handshake(HandshakeError::Timeout { limit: LIMIT });
        assert_eq!(ended.unwrap_err().to_string(), expected.to_string());
    }
}
