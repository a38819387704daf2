//! The certificate of an HTTPS server with the small authority above it: made, written as PEM, and read
//! back. The authority signs this one certificate; its key is dropped then, and is nowhere.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::authority::CLOCK_SKEW;
use crate::{config, pem};

/// A server's certificate, its key, and the authority that clients trust. Cheap to clone.
#[derive(Clone)]
pub struct HttpsIdentity(Arc<Content>);

struct Content {
    certificate_pem: String,
    key_pem: String,
    authority_pem: String,
    key: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl HttpsIdentity {
    /// Makes an authority and a certificate for these DNS names, of which there is at least one. Both are
    /// valid from a minute before `now` until `lifetime` after it.
    pub fn create(
        names: &[&str],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let failed = |what| move |source| IdentityError::Make { what, source };
        let validity = Validity::new(now, lifetime)?;
        let authority_key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("authority"))?;
        let mut parameters = validity.parameters("Heddle HTTPS authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = parameters.self_signed(&authority_key).map_err(failed("authority"))?;
        let issuer = Issuer::new(parameters, authority_key);

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("key"))?;
        let mut parameters = validity.parameters(names.first().copied().unwrap_or_default());
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        parameters.subject_alt_names =
            CertificateParams::new(names).map_err(failed("name"))?.subject_alt_names;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &issuer).map_err(failed("certificate"))?;
        let certificate_pem = pem::encode(pem::CERTIFICATE, certificate.der());
        let authority_pem = pem::encode(pem::CERTIFICATE, authority.der());
        Self::from_pem(certificate_pem, key.serialize_pem(), authority_pem)
    }

    /// Reads the three as they were written. The key must be the certificate's, and the certificate the
    /// authority's; whether it is valid now, and for whom, is to be asked of the result.
    pub fn from_pem(
        certificate_pem: String,
        key_pem: String,
        authority_pem: String,
    ) -> Result<Self, IdentityError> {
        let unreadable = |what| move |source| IdentityError::Pem { what, source };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(unreadable("certificate"))?;
        let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes())
            .map_err(unreadable("authority"))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(unreadable("key"))?;
        let key = config::load_key(key).map_err(IdentityError::Key)?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| IdentityError::Certificate)?;
        let validity = parsed.validity();
        let not_before = system_time(validity.not_before.timestamp())?;
        let not_after = system_time(validity.not_after.timestamp())?;
        check_signature(&certificate, &authority, not_before)?;
        let key = CertifiedKey::new(vec![certificate], key);
        key.keys_match().map_err(IdentityError::Key)?;
        let key = Arc::new(key);
        let content =
            Content { certificate_pem, key_pem, authority_pem, key, not_before, not_after };
        Ok(Self(Arc::new(content)))
    }

    /// Whether the certificate is good for a client that asks for this name.
    pub fn is_for(&self, name: &str) -> bool {
        let Ok(certificate) = self.0.key.end_entity_cert() else { return false };
        let (Ok(certificate), Ok(name)) =
            (EndEntityCert::try_from(certificate), ServerName::try_from(name))
        else {
            return false;
        };
        certificate.verify_is_valid_for_subject_name(&name).is_ok()
    }

    /// The certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate_pem
    }

    /// Its key: a secret.
    pub fn key_pem(&self) -> &str {
        &self.0.key_pem
    }

    /// The authority above it, which clients trust.
    pub fn authority_pem(&self) -> &str {
        &self.0.authority_pem
    }

    /// When it begins to be valid: a minute before it was made, for clocks that run late.
    pub fn not_before(&self) -> SystemTime {
        self.0.not_before
    }

    /// When it expires.
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.0.key
    }

    #[cfg(test)]
    pub(crate) fn certificate_der(&self) -> &[u8] {
        self.0.key.end_entity_cert().unwrap()
    }
}

impl PartialEq for HttpsIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.certificate_pem == other.0.certificate_pem
            && self.0.authority_pem == other.0.authority_pem
    }
}

impl Eq for HttpsIdentity {}

impl fmt::Debug for HttpsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsIdentity")
            .field("not_before", &self.0.not_before)
            .field("not_after", &self.0.not_after)
            .finish_non_exhaustive()
    }
}

/// In whole seconds, as certificates have them.
struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    fn new(now: SystemTime, lifetime: Duration) -> Result<Self, IdentityError> {
        let moment = |time: Option<SystemTime>| {
            time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .and_then(|since| i64::try_from(since.as_secs()).ok())
                .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
                .ok_or(IdentityError::Clock)
        };
        Ok(Self {
            not_before: moment(now.checked_sub(CLOCK_SKEW))?,
            not_after: moment(now.checked_add(lifetime))?,
        })
    }

    fn parameters(&self, name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "Heddle");
        // A common name has at most 64 characters: RFC 5280, ub-common-name.
        subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
        parameters.distinguished_name = subject;
        parameters.not_before = self.not_before;
        parameters.not_after = self.not_after;
        parameters
    }
}

/// At its own beginning: a certificate that has expired since is still the authority's.
fn check_signature(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    not_before: SystemTime,
) -> Result<(), IdentityError> {
    let anchor =
        webpki::anchor_from_trusted_cert(authority).map_err(|_| IdentityError::Certificate)?;
    let end = EndEntityCert::try_from(certificate).map_err(|_| IdentityError::Certificate)?;
    let since = not_before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &[],
        UnixTime::since_unix_epoch(since),
        KeyUsage::server_auth(),
        None,
        None,
    )
    .map(|_| ())
    .map_err(|_| IdentityError::OtherAuthority)
}

fn system_time(seconds: i64) -> Result<SystemTime, IdentityError> {
    u64::try_from(seconds)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or(IdentityError::Clock)
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It could not be made.
    #[error("cannot make the {what}")]
    Make {
        /// What was attempted.
        what: &'static str,
        /// As the library says.
        #[source]
        source: rcgen::Error,
    },
    /// The system's clock cannot be right, or the certificate was made when it was not.
    #[error("the time is beyond what certificates can say")]
    Clock,
    /// It cannot be read.
    #[error("the {what} is not PEM")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// As the library says.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The key cannot be used, or is not the certificate's.
    #[error("the key is not the certificate's")]
    Key(#[source] rustls::Error),
    /// One of the two certificates cannot be read.
    #[error("a certificate cannot be read")]
    Certificate,
    /// Clients that trust the authority would not trust the certificate.
    #[error("the certificate is another authority's")]
    OtherAuthority,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn made() -> HttpsIdentity {
        HttpsIdentity::create(&["a.b.svc", "a.b"], Duration::from_secs(60), testing::now()).unwrap()
    }

    #[test]
    fn what_is_made_is_read_back() {
        let made = made();
        assert!(made.is_for("a.b.svc") && made.is_for("a.b") && !made.is_for("c.b.svc"));
        let [certificate, key, authority] =
            [made.certificate_pem(), made.key_pem(), made.authority_pem()].map(str::to_owned);
        let read = HttpsIdentity::from_pem(certificate, key, authority).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.not_after(), made.not_after());
        assert!(!format!("{read:?}").contains("PRIVATE"));
    }

    #[test]
    fn parts_of_two_certificates_are_none() {
        let (one, other) = (made(), made());
        let text = |pem: &str| pem.to_owned();
        for (case, certificate, key, authority) in [
            ("another key", one.certificate_pem(), other.key_pem(), one.authority_pem()),
            ("another authority", one.certificate_pem(), one.key_pem(), other.authority_pem()),
            ("no authority", one.certificate_pem(), one.key_pem(), ""),
            ("no key", one.certificate_pem(), one.authority_pem(), one.authority_pem()),
            ("nothing", "", "", ""),
        ] {
            let read = HttpsIdentity::from_pem(text(certificate), text(key), text(authority));
            assert!(read.is_err(), "case: {case}");
        }
    }

    #[test]
    fn a_certificate_that_has_expired_is_still_read() {
        let long_ago = testing::now() - Duration::from_secs(100_000);
        let made = HttpsIdentity::create(&["a.b"], Duration::from_secs(60), long_ago).unwrap();
        assert!(made.not_after() < testing::now());
    }
}
