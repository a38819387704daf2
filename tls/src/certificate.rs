//! Our own certificate: the key, the request for it, and what comes back.
//! The key never leaves this process, and is on no disk.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroize;

use crate::config;
use crate::digest::{self, Digest};
use crate::leaf::Leaf;
use crate::peer::PeerIdentity;
use crate::refusal::Refusal;

/// A fresh key and the request to certify it. Each request has a key of its own.
pub struct CertificateRequest {
    key: KeyPair,
    der: Vec<u8>,
}

impl CertificateRequest {
    /// Makes an ECDSA P-256 key and a request that names nobody: the names come from what the
    /// control plane attested.
    pub fn generate() -> Result<Self, RequestError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(RequestError::Generate)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        let request = parameters.serialize_request(&key).map_err(RequestError::Generate)?;
        Ok(Self { key, der: request.der().to_vec() })
    }

    /// The PKCS#10 request, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Takes the chain that came back, leaf first, after checking that it is for our key.
    ///
    /// Whether its authority is to be trusted is checked when the credentials are set.
    pub fn into_leaf(self, chain_der: Vec<Vec<u8>>) -> Result<CertifiedLeaf, RequestError> {
        if chain_der.len() > CHAIN_LIMIT {
            return Err(RequestError::LongChain { length: chain_der.len() });
        }
        let first = chain_der.first().ok_or(RequestError::EmptyChain)?;
        let leaf = Leaf::parse(first)?;
        let (_, certificate) = X509Certificate::from_der(first).map_err(|_| Refusal::Unparsable)?;
        if certificate.public_key().raw != self.key.subject_public_key_info() {
            return Err(RequestError::OtherKey);
        }
        // rustls wipes this copy; the request wipes its own when it is dropped.
        let key = PrivatePkcs8KeyDer::from(self.key.serialized_der().to_vec());
        let key = config::load_key(key.into()).map_err(RequestError::Key)?;
        let chain = chain_der.into_iter().map(CertificateDer::from).collect();
        Ok(CertifiedLeaf { leaf: Arc::new(leaf), key: Arc::new(CertifiedKey::new(chain, key)) })
    }
}

impl Drop for CertificateRequest {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest").finish_non_exhaustive()
    }
}

/// A certificate with its chain and its key. Cheap to clone.
#[derive(Clone)]
pub struct CertifiedLeaf {
    leaf: Arc<Leaf>,
    key: Arc<CertifiedKey>,
}

impl CertifiedLeaf {
    /// Whom it names.
    pub fn peer(&self) -> &PeerIdentity {
        &self.leaf.peer
    }

    /// When it begins to be valid: before it was issued, for clocks that run late.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// When it expires.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// How long after `received` to ask for the next one: half of what was left then.
    ///
    /// Not half way between the two ends of its validity: the beginning is set back by up to a
    /// minute, which for a life of 30 seconds lies in the past. The caller adds jitter.
    pub fn renewal_delay(&self, received: SystemTime) -> Duration {
        self.leaf.not_after.duration_since(received).unwrap_or(Duration::ZERO) / 2
    }

    /// What its issuer is told apart by; `None` if it came without one.
    pub fn issuer_digest(&self) -> Option<Digest> {
        self.key.cert.get(1).map(|issuer| digest::of(issuer))
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl fmt::Debug for CertifiedLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertifiedLeaf").field(&self.leaf).finish()
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The key or the request could not be made.
    #[error("cannot make a key and a certificate request")]
    Generate(#[source] rcgen::Error),
    /// Nothing came back.
    #[error("the control plane answered without a certificate")]
    EmptyChain,
    /// More came back than any authority needs.
    #[error("the control plane answered with {length} certificates, more than {CHAIN_LIMIT}")]
    LongChain {
        /// How many.
        length: usize,
    },
    /// The first certificate is not a workload's.
    #[error("the control plane answered with a certificate that no peer would accept")]
    Refused(#[from] Refusal),
    /// The certificate is for somebody else's key.
    #[error("the control plane answered with a certificate for another key")]
    OtherKey,
    /// The TLS library refused the key that was made for it.
    #[error("the new key cannot be used")]
    Key(#[source] rustls::Error),
}

/// A leaf, its issuer, and room for two cross-signed ones.
const CHAIN_LIMIT: usize = 4;

#[cfg(test)]
mod tests;
