//! The rustls configurations: what is offered, and what is off. Who is trusted is in `verify.rs`.

use std::sync::{Arc, LazyLock};

use heddle_model::identity::{InvalidIdentity, PeerServerName};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::alpn::{self, InnerProtocol};
use crate::bundle::Bundle;
use crate::peer::PeerIdentity;
use crate::verify::{ClientCertificate, ClientVerifier, ServerVerifier};

/// Whom a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Other proxies: mutual, `heddle/…` inside.
    Peers,
    /// Proxies that ask the control plane, the first time without a certificate.
    ControlPlaneClients,
}

impl Audience {
    fn client_certificate(self) -> ClientCertificate {
        match self {
            Self::Peers => ClientCertificate::Required,
            Self::ControlPlaneClients => ClientCertificate::Optional,
        }
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Peers => InnerProtocol::names(&InnerProtocol::ALL),
            Self::ControlPlaneClients => vec![alpn::CONTROL_PLANE.to_vec()],
        }
    }

    /// Whether a client that asks for this name asks for us.
    pub(crate) fn is_own_name(self, name: &str, own: &PeerIdentity) -> bool {
        match self {
            Self::Peers => PeerServerName::parse(name, own.identity.trust_domain())
                .is_some_and(|name| name.pod_uid == own.pod_uid),
            Self::ControlPlaneClients => name == own.dns_name(),
        }
    }
}

/// A server's configuration: no tickets, no session store, no early data. With the defaults of
/// rustls a client whose certificate has expired is refused on a full handshake, but resumes.
pub(crate) fn server(
    audience: Audience,
    bundle: &Bundle,
    own: &PeerIdentity,
    key: &Arc<CertifiedKey>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier =
        ClientVerifier { bundle: bundle.clone(), certificate: audience.client_certificate() };
    let resolver = OwnNameOnly { audience, own: own.clone(), key: Arc::clone(key) };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = audience.protocols();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// What all connections of a client share. Only with a named peer does it become a configuration,
/// so that none can go out that would accept anybody.
#[derive(Clone, Debug)]
pub(crate) struct ClientBase {
    bundle: Bundle,
    control_plane: ClientConfig,
}

impl ClientBase {
    pub(crate) fn new(
        bundle: &Bundle,
        key: Option<&Arc<CertifiedKey>>,
    ) -> Result<Self, ConfigError> {
        let verifier = ServerVerifier {
            bundle: bundle.clone(),
            expected: PeerIdentity::control_plane(bundle.trust_domain())?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match key {
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn::CONTROL_PLANE.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Self { bundle: bundle.clone(), control_plane: config })
    }

    pub(crate) fn for_control_plane(&self) -> ClientConfig {
        self.control_plane.clone()
    }

    pub(crate) fn for_peer(&self, expected: PeerIdentity, inner: &[InnerProtocol]) -> ClientConfig {
        let verifier = ServerVerifier { bundle: self.bundle.clone(), expected };
        let mut config = self.control_plane.clone();
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config.alpn_protocols = InnerProtocol::names(inner);
        config
    }
}

/// Why no configuration could be made. Neither can come from what a peer sends.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The TLS library refused the settings.
    #[error("the TLS library refused the settings")]
    Settings(#[from] rustls::Error),
    /// The control plane has no name in this trust domain.
    #[error("the control plane has no name in this trust domain")]
    ControlPlaneName(#[from] InvalidIdentity),
}

/// Presents the certificate to those who ask for its own name, and a protocol of ours, alone.
#[derive(Debug)]
struct OwnNameOnly {
    audience: Audience,
    own: PeerIdentity,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for OwnNameOnly {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls refuses a client that offers only foreign protocols, but not one that offers none.
        let offers_protocols = hello.alpn().is_some();
        let is_own =
            hello.server_name().is_some_and(|name| self.audience.is_own_name(name, &self.own));
        (offers_protocols && is_own).then(|| Arc::clone(&self.key))
    }
}

/// Passed to every configuration: a process-wide default could be set by any library.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // AES-128 first: all machines that run the mesh have AES instructions, and it is the
        // fastest of the three there.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
});

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Reads a private key for the handshake; rustls wipes the DER once it is read.
pub(crate) fn load_key(
    der: rustls_pki_types::PrivateKeyDer<'static>,
) -> Result<Arc<dyn rustls::sign::SigningKey>, rustls::Error> {
    PROVIDER.key_provider.load_private_key(der)
}

/// Fills with random bytes of the TLS library's generator; `None` if the system has none.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Option<()> {
    PROVIDER.secure_random.fill(bytes).ok()
}
