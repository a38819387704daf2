//! Reads a certificate request: proof of possession of a key, and nothing more.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

/// The request's public key, once its signature has proven that the sender has the private one.
///
/// Names and extensions that the request asks for are not read at all.
pub fn public_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, InvalidRequest> {
    if csr_der.len() > REQUEST_LIMIT_BYTES {
        return Err(InvalidRequest::TooLarge { length: csr_der.len() });
    }
    let (rest, request) =
        X509CertificationRequest::from_der(csr_der).map_err(|_| InvalidRequest::Unparsable)?;
    if !rest.is_empty() {
        return Err(InvalidRequest::Unparsable);
    }
    let key = &request.certification_request_info.subject_pki;
    if !is_p256(&key.algorithm)
        || request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(InvalidRequest::OtherAlgorithm);
    }
    request.verify_signature().map_err(|_| InvalidRequest::BadSignature)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| InvalidRequest::OtherAlgorithm)
}

fn is_p256(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let curve = algorithm.parameters.as_ref().and_then(|curve| Oid::try_from(curve).ok());
    algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve.is_some_and(|oid| oid == OID_EC_P256)
}

/// Why a certificate request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Larger than any request for one key.
    #[error("it has {length} bytes (at most {REQUEST_LIMIT_BYTES})")]
    TooLarge {
        /// Its size.
        length: usize,
    },
    /// Not PKCS#10 in DER, or followed by other bytes.
    #[error("it is not a PKCS#10 request in DER")]
    Unparsable,
    /// An RSA key, another curve, or another hash.
    #[error("its key is not ECDSA P-256, signed with SHA-256")]
    OtherAlgorithm,
    /// The sender does not have the private key, or the request was changed on its way.
    #[error("its signature is wrong")]
    BadSignature,
}

/// One of ours has about 220 bytes; with many names a few KiB.
const REQUEST_LIMIT_BYTES: usize = 8 * 1024;
