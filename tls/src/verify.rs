//! The one verifier of both ends of a connection. What a certificate says is read in `leaf.rs`.

use heddle_model::identity::TrustDomain;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::bundle::Bundle;
use crate::leaf::Leaf;
use crate::peer::PeerIdentity;
use crate::refusal::Refusal;

/// Decides whether a presented certificate is one of the mesh, now, and whom it names.
///
/// What it says is checked before who vouches for it, so that a certificate of another mesh is
/// called that and not merely unknown; nothing is believed before both were checked.
pub(crate) fn verify(
    presented: &Presented<'_>,
    bundle: &Bundle,
    usage: KeyUsage,
    now: UnixTime,
) -> Result<Leaf, Refusal> {
    let leaf = Leaf::parse(presented.end_entity)?;
    check_trust_domain(leaf.peer.identity.trust_domain(), bundle.trust_domain())?;
    EndEntityCert::try_from(presented.end_entity)
        .map_err(|_| Refusal::Unparsable)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            bundle.anchors(),
            presented.intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(Refusal::from_chain)?;
    Ok(leaf)
}

/// A chain, as it came.
pub(crate) struct Presented<'a> {
    pub(crate) end_entity: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
}

fn check_trust_domain(found: &TrustDomain, expected: &TrustDomain) -> Result<(), Refusal> {
    if found == expected {
        Ok(())
    } else {
        Err(Refusal::WrongTrustDomain { found: found.clone(), expected: expected.clone() })
    }
}

fn check_expected(found: PeerIdentity, expected: &PeerIdentity) -> Result<(), Refusal> {
    if found.identity != expected.identity {
        return Err(Refusal::WrongIdentity {
            found: Box::new(found.identity),
            expected: Box::new(expected.identity.clone()),
        });
    }
    if found.pod_uid != expected.pod_uid {
        return Err(Refusal::WrongPod { found: found.pod_uid, expected: expected.pod_uid.clone() });
    }
    Ok(())
}

/// Checks clients: any workload of the mesh. What it may do is for policy to say.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) bundle: Bundle,
    pub(crate) certificate: ClientCertificate,
}

/// Whether a client must present a certificate. One that is presented must be valid in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    Required,
    Optional,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        match self.certificate {
            ClientCertificate::Required => true,
            ClientCertificate::Optional => false,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A proxy has one certificate; hints would only tell strangers about our anchors.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let presented = Presented { end_entity, intermediates };
        verify(&presented, &self.bundle, KeyUsage::client_auth(), now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(Refusal::into_tls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &HANDSHAKE)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE.supported_schemes()
    }
}

/// Checks servers: exactly the workload that discovery told to expect.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) bundle: Bundle,
    pub(crate) expected: PeerIdentity,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The server name is not looked at: it was made from the same expected pod.
        let presented = Presented { end_entity, intermediates };
        verify(&presented, &self.bundle, KeyUsage::server_auth(), now)
            .and_then(|leaf| check_expected(leaf.peer, &self.expected))
            .map(|()| ServerCertVerified::assertion())
            .map_err(Refusal::into_tls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &HANDSHAKE)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE.supported_schemes()
    }
}

/// Handshakes are signed with P-256 alone, the only key that the authority certifies. Anchors and
/// issuers may have other keys: they are checked with all that webpki knows.
static HANDSHAKE: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: webpki::ALL_VERIFICATION_ALGS,
    mapping: &[(SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::aws_lc_rs::ECDSA_P256_SHA256])],
};
