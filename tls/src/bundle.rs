//! The trust bundle: the anchors of one trust domain. Who hands it out is the control plane's part.

use std::fmt;
use std::sync::Arc;

use heddle_model::identity::TrustDomain;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::digest::{self, Digest};
use crate::pem;

/// The trust anchors that vouch for the identities of one trust domain. Cheap to clone.
#[derive(Clone)]
pub struct Bundle(Arc<Content>);

struct Content {
    trust_domain: TrustDomain,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Bundle {
    /// Reads anchors in DER. Refuses none at all, more than [`ANCHOR_LIMIT`], and any that is not
    /// an authority's certificate.
    pub fn from_der(
        trust_domain: TrustDomain,
        anchors: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, InvalidBundle> {
        let certificates: Vec<CertificateDer<'static>> =
            anchors.into_iter().take(ANCHOR_LIMIT + 1).map(CertificateDer::from).collect();
        if certificates.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        if certificates.len() > ANCHOR_LIMIT {
            return Err(InvalidBundle::TooMany);
        }
        let anchors = certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| trust_anchor(index, certificate))
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Content { trust_domain, certificates, anchors })))
    }

    /// Reads anchors in PEM, one after the other.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, InvalidBundle> {
        let certificates = CertificateDer::pem_slice_iter(text)
            .take(ANCHOR_LIMIT + 1)
            .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(InvalidBundle::Pem)?;
        Self::from_der(trust_domain, certificates)
    }

    /// The trust domain that these anchors vouch for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The anchors, DER.
    pub fn anchors_der(&self) -> impl Iterator<Item = &[u8]> {
        self.0.certificates.iter().map(AsRef::as_ref)
    }

    /// The anchors as [`Bundle::from_pem`] reads them.
    pub fn to_pem(&self) -> String {
        self.anchors_der().map(|der| pem::encode(pem::CERTIFICATE, der)).collect()
    }

    /// What bundles of the same anchors have in common, in whichever order they are: SHA-256 of the
    /// anchors in DER, sorted, each after its length in four bytes, highest first.
    pub fn digest(&self) -> Digest {
        let mut sorted: Vec<&[u8]> = self.anchors_der().collect();
        sorted.sort_unstable();
        digest::of_all(sorted)
    }

    /// Whether this certificate, in DER, is one of the anchors.
    pub fn contains(&self, certificate: &[u8]) -> bool {
        self.anchors_der().any(|anchor| anchor == certificate)
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.0.anchors
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.0.trust_domain == other.0.trust_domain && self.0.certificates == other.0.certificates
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("trust_domain", &self.0.trust_domain)
            .field("anchors", &self.0.certificates.len())
            .finish()
    }
}

fn trust_anchor(
    index: usize,
    certificate: &CertificateDer<'static>,
) -> Result<TrustAnchor<'static>, InvalidBundle> {
    let not_an_authority = || InvalidBundle::NotAnAuthority { index };
    // Without this a workload's own certificate, put here by mistake, would vouch for itself.
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| not_an_authority())?;
    if !parsed.is_ca() {
        return Err(not_an_authority());
    }
    webpki::anchor_from_trusted_cert(certificate)
        .map(|anchor| anchor.to_owned())
        .map_err(|_| not_an_authority())
}

/// Trust anchors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBundle {
    /// Nothing would be trusted.
    #[error("the trust bundle holds no certificate")]
    Empty,
    /// Over the limit.
    #[error("the trust bundle holds more than {ANCHOR_LIMIT} certificates")]
    TooMany,
    /// Not a certificate, or one that may not sign others.
    #[error("certificate {index} (from 0) of the trust bundle is not an authority's")]
    NotAnAuthority {
        /// Which one.
        index: usize,
    },
    /// Not PEM.
    #[error("the trust bundle is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
}

/// A rotation needs two; a migration of several meshes into one a few more.
pub const ANCHOR_LIMIT: usize = 16;

#[cfg(test)]
mod tests;
