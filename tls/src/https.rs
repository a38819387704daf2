//! Ordinary TLS of a server, for clients that are no proxies and have no certificate: the API server calls
//! the injector so. Owns the acceptor with its hot-swapped certificate, and the client that a server checks
//! itself with. How the certificate is made and read is in `https/identity.rs`.

pub mod identity;

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config;
use crate::handshake::{self, HandshakeError};
use crate::stream::TlsStream;
use identity::HttpsIdentity;

/// Makes the two ends: no handshake succeeds before the writer was given a certificate.
pub fn channel() -> (HttpsWriter, HttpsAcceptor) {
    let (sender, receiver) = watch::channel(None);
    (HttpsWriter(sender), HttpsAcceptor(receiver))
}

/// Swaps the certificate. Connections that are already up, or in their handshake, keep theirs.
#[derive(Debug)]
pub struct HttpsWriter(watch::Sender<Option<Arc<ServerConfig>>>);

impl HttpsWriter {
    /// Presents this certificate from now on. On error the old one stays.
    pub fn set(&self, identity: &HttpsIdentity) -> Result<(), HttpsError> {
        let key = SingleCertAndKey::from(Arc::clone(identity.certified_key()));
        let mut config = ServerConfig::builder_with_provider(config::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(HttpsError::Settings)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(key));
        // API servers ask webhooks over HTTP/1.1 alone: see injector/src/server.rs.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        self.0.send_replace(Some(Arc::new(config)));
        Ok(())
    }
}

/// Takes connections with the certificate of the moment. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpsAcceptor(watch::Receiver<Option<Arc<ServerConfig>>>);

impl HttpsAcceptor {
    /// Takes one connection: TLS 1.3, always a full handshake, within `limit`.
    ///
    /// Cancel safe: no; dropping it drops the connection.
    pub async fn accept<IO>(&self, io: IO, limit: Duration) -> Result<TlsStream<IO>, HttpsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.0.borrow().clone().ok_or(HttpsError::NotReady)?;
        handshake::within_limit(limit, async {
            let accepted = TlsAcceptor::from(config).accept(io).await;
            Ok(TlsStream::Server(accepted.map_err(HandshakeError::from_io)?))
        })
        .await
    }
}

/// Connects as a client does that trusts these authorities (PEM) and asks for this name.
///
/// Cancel safe: no; dropping it drops the connection.
pub async fn connect<IO>(
    io: IO,
    authorities_pem: &str,
    server_name: &str,
    limit: Duration,
) -> Result<TlsStream<IO>, HttpsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
        let certificate = certificate.map_err(HttpsError::Pem)?;
        roots.add(certificate).map_err(HttpsError::Settings)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), config::provider());
    let verifier = verifier.build().map_err(|_| HttpsError::NoAuthority)?;
    let mut config = ClientConfig::builder_with_provider(config::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(HttpsError::Settings)?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| HttpsError::ServerName { name: server_name.to_owned() })?;
    handshake::within_limit(limit, async {
        let connected = TlsConnector::from(Arc::new(config)).connect(name, io).await;
        Ok(TlsStream::Client(connected.map_err(HandshakeError::from_io)?))
    })
    .await
}

/// Why there is no connection, or no certificate for one.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// No certificate yet.
    #[error("there is no certificate yet to answer with")]
    NotReady,
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
    /// The TLS library refused the settings.
    #[error("the TLS library refused the settings")]
    Settings(#[source] rustls::Error),
    /// What should be PEM is not.
    #[error("a certificate or key is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Nobody is trusted.
    #[error("there is no authority to trust")]
    NoAuthority,
    /// No server can have this name.
    #[error("{name:?} is not a server's name")]
    ServerName {
        /// As it was asked for.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use heddle_model::identity::TrustDomain;

    use super::*;
    use crate::testing;

    const LIMIT: Duration = Duration::from_secs(5);
    const NAME: &str = "heddle-injector.heddle-system.svc";

    fn identity(now: SystemTime) -> HttpsIdentity {
        HttpsIdentity::create(&[NAME], Duration::from_secs(3600), now).unwrap()
    }

    async fn meet(
        acceptor: &HttpsAcceptor,
        authorities: &str,
        name: &str,
    ) -> (Result<(), HttpsError>, Result<(), HttpsError>) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (client, server) =
            tokio::join!(connect(client, authorities, name, LIMIT), acceptor.accept(server, LIMIT));
        (client.map(drop), server.map(drop))
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_is_served() {
        let (writer, acceptor) = channel();
        let own = identity(testing::now());
        let early = meet(&acceptor, own.authority_pem(), NAME).await;
        assert!(matches!(early.1, Err(HttpsError::NotReady)));
        writer.set(&own).unwrap();
        let (client, server) = meet(&acceptor, own.authority_pem(), NAME).await;
        client.unwrap();
        server.unwrap();
    }

    #[tokio::test]
    async fn a_client_refuses_another_authority_another_name_and_what_has_expired() {
        let (writer, acceptor) = channel();
        let own = identity(testing::now());
        let other = identity(testing::now());
        let long_ago = testing::now() - Duration::from_secs(7200);
        let expired = identity(long_ago);
        for (case, presented, trusted, name) in [
            ("another authority", &own, &other, NAME),
            ("another name", &own, &own, "heddle-injector.other.svc"),
            ("expired", &expired, &expired, NAME),
        ] {
            writer.set(presented).unwrap();
            let (client, _) = meet(&acceptor, trusted.authority_pem(), name).await;
            assert!(client.is_err(), "case: {case}");
        }
    }

    #[tokio::test]
    async fn a_swapped_certificate_is_presented_to_those_who_come_after() {
        let (writer, acceptor) = channel();
        let (old, new) = (identity(testing::now()), identity(testing::now()));
        writer.set(&old).unwrap();
        writer.set(&new).unwrap();
        assert!(meet(&acceptor, old.authority_pem(), NAME).await.0.is_err());
        let both = format!("{}{}", old.authority_pem(), new.authority_pem());
        assert!(meet(&acceptor, &both, NAME).await.0.is_ok());
    }

    #[test]
    fn the_certificate_is_nobodys_in_the_mesh() {
        let own = identity(testing::now());
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let bundle = crate::bundle::Bundle::from_pem(domain, own.authority_pem().as_bytes());
        assert!(bundle.is_ok(), "an authority, but no proxy is given it");
        assert!(crate::leaf::Leaf::parse(own.certificate_der()).is_err());
    }
}
