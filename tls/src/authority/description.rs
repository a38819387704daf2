//! What people are told of a certificate of the authority's.

use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::digest::{self, Digest};

/// A certificate in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// SHA-256 of its DER.
    pub fingerprint: Digest,
    /// Whom it is for, such as `O=Heddle, CN=Heddle issuer 5f`.
    pub subject: String,
    /// From when on it counts.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// Describes a certificate in DER; `None`: it is none.
pub fn describe(der: &[u8]) -> Option<Description> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(Description {
        fingerprint: digest::of(der),
        subject: certificate.subject().to_string(),
        not_before: validity.not_before.to_datetime().into(),
        not_after: validity.not_after.to_datetime().into(),
    })
}
