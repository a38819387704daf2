//! Why a certificate is refused: the words for logs, errors and metrics. Decides nothing.

use std::sync::Arc;

use heddle_model::identity::{PodUid, SpiffeId, TrustDomain};
use rustls::{CertificateError, OtherError};

/// Why a peer's certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not X.509, or followed by other bytes, or with an extension given twice.
    #[error("it is not a well-formed certificate")]
    Unparsable,
    /// A certificate that may sign others must not be presented.
    #[error("it is an authority's certificate, not a workload's")]
    IsAuthority,
    /// The key may not be used for signatures, or may be used to sign certificates.
    #[error("its key usage is not digitalSignature alone or with other harmless usages")]
    KeyUsage,
    /// Both extended key usages are required, since every proxy is client and server.
    #[error("its extended key usage is not both serverAuth and clientAuth")]
    ExtendedKeyUsage,
    /// No URI name.
    #[error("it has no URI name")]
    NoUriName,
    /// SPIFFE allows exactly one.
    #[error("it has {count} URI names instead of one")]
    SeveralUriNames {
        /// How many it has.
        count: usize,
    },
    /// The URI name is not of the mesh's grammar.
    #[error("its URI name is not spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>")]
    NotSpiffe,
    /// Not exactly one DNS name.
    #[error("it has {count} DNS names instead of one")]
    NotOneDnsName {
        /// How many it has.
        count: usize,
    },
    /// The DNS name does not bind it to a pod of its own trust domain.
    #[error("its DNS name is not <pod-uid>.pod.<trust-domain>")]
    NotAPodName,
    /// An address, e-mail or other name, which nothing here would check.
    #[error("it has names other than one URI and one DNS name")]
    OtherNames,
    /// Issued for another mesh.
    #[error("it is of trust domain {found}, not {expected}")]
    WrongTrustDomain {
        /// The certificate's.
        found: TrustDomain,
        /// The trust bundle's.
        expected: TrustDomain,
    },
    /// No trust anchor of the bundle vouches for it.
    #[error("no trust anchor vouches for it")]
    UnknownAuthority,
    /// It, or one of its chain, is too old.
    #[error("it has expired")]
    Expired,
    /// It, or one of its chain, is from the future: a clock is wrong.
    #[error("it is not valid yet")]
    NotYetValid,
    /// A fault of the chain that has no word of its own.
    #[error("its chain is invalid: {0}")]
    InvalidChain(webpki::Error),
    /// Another workload answered.
    #[error("it is for {found}, not {expected}")]
    WrongIdentity {
        /// The certificate's.
        found: Box<SpiffeId>,
        /// Whom discovery told to expect.
        expected: Box<SpiffeId>,
    },
    /// Another pod answered, such as one that got a reused address.
    #[error("it is for pod {found}, not {expected}")]
    WrongPod {
        /// The certificate's.
        found: PodUid,
        /// Whom discovery told to expect.
        expected: PodUid,
    },
}

impl Refusal {
    /// The reason as a metric label: a closed set of constant words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::IsAuthority => "is_authority",
            Self::KeyUsage => "key_usage",
            Self::ExtendedKeyUsage => "extended_key_usage",
            Self::NoUriName => "no_uri_name",
            Self::SeveralUriNames { .. } => "two_uri_names",
            Self::NotSpiffe => "not_spiffe",
            Self::NotOneDnsName { .. } => "not_one_dns_name",
            Self::NotAPodName => "not_a_pod_name",
            Self::OtherNames => "other_names",
            Self::WrongTrustDomain { .. } => "wrong_trust_domain",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::InvalidChain(_) => "invalid_chain",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::WrongPod { .. } => "wrong_pod",
        }
    }

    /// Sorts the faults of chain building into ours.
    pub(crate) fn from_chain(error: webpki::Error) -> Self {
        if matches!(error, webpki::Error::CertExpired { .. }) {
            Self::Expired
        } else if matches!(error, webpki::Error::CertNotValidYet { .. }) {
            Self::NotYetValid
        } else if matches!(
            error,
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey
        ) {
            Self::UnknownAuthority
        } else if matches!(error, webpki::Error::CaUsedAsEndEntity) {
            Self::IsAuthority
        } else {
            Self::InvalidChain(error)
        }
    }

    /// Reads back what [`Refusal::into_tls`] made, out of a failed handshake.
    pub(crate) fn from_tls(error: &CertificateError) -> Option<Self> {
        if let CertificateError::Other(OtherError(reason)) = error {
            reason.downcast_ref::<Self>().cloned()
        } else if matches!(error, CertificateError::Expired) {
            Some(Self::Expired)
        } else if matches!(error, CertificateError::NotValidYet) {
            Some(Self::NotYetValid)
        } else if matches!(error, CertificateError::UnknownIssuer) {
            Some(Self::UnknownAuthority)
        } else if matches!(error, CertificateError::BadEncoding) {
            Some(Self::Unparsable)
        } else {
            None
        }
    }

    /// Takes the words of rustls where it has them, since the alert that the peer gets depends on
    /// them, and carries the rest through as it is.
    pub(crate) fn into_tls(self) -> rustls::Error {
        let error = if self == Self::Expired {
            CertificateError::Expired
        } else if self == Self::NotYetValid {
            CertificateError::NotValidYet
        } else if self == Self::UnknownAuthority {
            CertificateError::UnknownIssuer
        } else if self == Self::Unparsable {
            CertificateError::BadEncoding
        } else {
            CertificateError::Other(OtherError(Arc::new(self)))
        };
        rustls::Error::InvalidCertificate(error)
    }
}
