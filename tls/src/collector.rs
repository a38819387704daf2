//! Ordinary TLS to a collector of telemetry, which is no part of the mesh: authorities and certificates are
//! files that an operator names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::config;
use crate::handshake::{self, HandshakeError};
use crate::stream::TlsStream;

/// How a collector is spoken to. Clones share it.
#[derive(Clone)]
pub struct CollectorTls(Arc<ClientConfig>);

/// Why there is no connection, or can be none.
#[derive(Debug, thiserror::Error)]
pub enum CollectorTlsError {
    /// What should be PEM is not.
    #[error("a certificate or key is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Nobody is trusted.
    #[error("there is no authority to trust")]
    NoAuthority,
    /// The TLS library refused certificates, keys or settings.
    #[error("the TLS library refused the settings")]
    Settings(#[source] rustls::Error),
    /// No server can have this name.
    #[error("{name:?} is not a server's name")]
    ServerName {
        /// As it was asked for.
        name: String,
    },
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
}

impl CollectorTls {
    /// Trusts these authorities (PEM); presents a certificate with its key (PEM), if there is one; speaks
    /// `protocol`, as ALPN names it.
    pub fn new(
        authorities_pem: &[u8],
        client_pem: Option<(&[u8], &[u8])>,
        protocol: &[u8],
    ) -> Result<Self, CollectorTlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities_pem) {
            // Of a system's many authorities one may be of a kind that the library does not read.
            let _ = roots.add(certificate.map_err(CollectorTlsError::Pem)?);
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), config::provider());
        let verifier = verifier.build().map_err(|_| CollectorTlsError::NoAuthority)?;
        let builder = ClientConfig::builder_with_provider(config::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CollectorTlsError::Settings)?
            .with_webpki_verifier(verifier);
        let mut config = match client_pem {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(certificate).collect();
                let chain = chain.map_err(CollectorTlsError::Pem)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(CollectorTlsError::Pem)?;
                builder.with_client_auth_cert(chain, key).map_err(CollectorTlsError::Settings)?
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Connects, and accepts a certificate for this name only.
    ///
    /// Cancel safe: no; dropping it drops the connection.
    pub async fn connect<IO>(
        &self,
        io: IO,
        server_name: &str,
        limit: Duration,
    ) -> Result<TlsStream<IO>, CollectorTlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| CollectorTlsError::ServerName { name: server_name.to_owned() })?;
        let config = Arc::clone(&self.0);
        handshake::within_limit(limit, async {
            let connected = TlsConnector::from(config).connect(name, io).await;
            Ok(TlsStream::Client(connected.map_err(HandshakeError::from_io)?))
        })
        .await
    }
}

impl fmt::Debug for CollectorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorTls").finish_non_exhaustive()
    }
}
