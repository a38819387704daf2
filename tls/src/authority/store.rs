//! Keeps the authority's certificates and keys in two PEM files that only their owner can read.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use heddle_model::identity::TrustDomain;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::{Zeroize, Zeroizing};

use super::{Authority, AuthorityError, Signer};
use crate::pem;

impl Authority {
    /// Loads the authority from its directory, or makes one there the first time.
    ///
    /// Makes and keeps a new issuer too, where there is none or its life is half over. Fails where
    /// [`Authority::load`] does, rather than replace a trust anchor that others trust.
    pub fn load_or_create(
        directory: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let authority = match read(&directory.join(ROOT_FILE))? {
            None => Self::create(trust_domain.clone(), now)?,
            Some(root) => {
                let root = load_signer(&directory.join(ROOT_FILE), &root, trust_domain, now)?;
                match load_issuer(directory, &root, trust_domain, now)? {
                    None => {
                        let issuer = Signer::below(&root, trust_domain, now)?;
                        Self::from_signers(trust_domain.clone(), root, issuer)?
                    }
                    Some(issuer) => {
                        let loaded = Self::from_signers(trust_domain.clone(), root, issuer)?;
                        if !loaded.issuer_is_due(now) {
                            return Ok(loaded);
                        }
                        loaded.with_new_issuer(now)?
                    }
                }
            }
        };
        authority.save(directory)?;
        Ok(authority)
    }

    /// Loads what [`Authority::save`] wrote.
    ///
    /// Refuses a key that is not the certificate's, another trust domain, a certificate that has
    /// expired or is not valid yet, and an issuer that this trust anchor did not sign.
    pub fn load(
        directory: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let missing = |name| AuthorityError::File {
            attempt: "read",
            path: directory.join(name),
            source: io::ErrorKind::NotFound.into(),
        };
        let path = directory.join(ROOT_FILE);
        let root = read(&path)?.ok_or_else(|| missing(ROOT_FILE))?;
        let root = load_signer(&path, &root, trust_domain, now)?;
        let issuer = load_issuer(directory, &root, trust_domain, now)?;
        let issuer = issuer.ok_or_else(|| missing(ISSUER_FILE))?;
        Self::from_signers(trust_domain.clone(), root, issuer)
    }

    /// Writes both files, each with its certificate and its key, so that the two cannot come
    /// apart: mode 0600, put in place by a rename. Makes the directory if need be.
    pub fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| file_error("make the directory", directory, source))?;
        for (name, signer) in [(ROOT_FILE, &self.root), (ISSUER_FILE, &self.issuer)] {
            let path = directory.join(name);
            write_whole(&path, signer.to_pem().as_bytes())
                .map_err(|source| file_error("write", &path, source))?;
        }
        Ok(())
    }
}

impl Signer {
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.signer.key().serialize_pem());
        let mut text = Zeroizing::new(pem::encode(pem::CERTIFICATE, &self.certificate));
        // One allocation: a string that grows leaves its old content behind.
        text.reserve_exact(key.len());
        text.push_str(&key);
        text
    }
}

fn load_issuer(
    directory: &Path,
    root: &Signer,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Option<Signer>, AuthorityError> {
    let path = directory.join(ISSUER_FILE);
    let Some(text) = read(&path)? else { return Ok(None) };
    let issuer = load_signer(&path, &text, trust_domain, now)?;
    if is_signed_by(&issuer.certificate, &root.certificate) {
        Ok(Some(issuer))
    } else {
        Err(AuthorityError::Unusable { path, fault: Fault::NotSignedByRoot })
    }
}

fn load_signer(
    path: &Path,
    text: &[u8],
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Signer, AuthorityError> {
    parse_signer(text, trust_domain, now)
        .map_err(|fault| AuthorityError::Unusable { path: path.to_owned(), fault })
}

fn parse_signer(text: &[u8], trust_domain: &TrustDomain, now: SystemTime) -> Result<Signer, Fault> {
    let certificate = CertificateDer::from_pem_slice(text).map_err(|_| Fault::NoCertificate)?;
    let mut key_der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| Fault::NoKey)?;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key_der, &PKCS_ECDSA_P256_SHA256);
    key_der.zeroize();
    let key = key.map_err(|_| Fault::NoKey)?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| Fault::NoCertificate)?;
    if !parsed.is_ca() {
        return Err(Fault::NotAnAuthority);
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(Fault::OtherKey);
    }
    let found = trust_domain_of(&parsed);
    if found.as_ref() != Some(trust_domain) {
        return Err(Fault::WrongTrustDomain { found, expected: trust_domain.clone() });
    }
    let not_after = parsed.validity().not_after.to_datetime();
    if now >= SystemTime::from(not_after) {
        return Err(Fault::Expired { not_after });
    }
    let not_before = parsed.validity().not_before.to_datetime();
    if now < SystemTime::from(not_before) {
        return Err(Fault::NotYetValid { not_before });
    }
    let signer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| Fault::NoCertificate)?;
    Ok(Signer { certificate: certificate.clone(), not_after: not_after.into(), signer })
}

/// The trust domain of an authority's one URI name, `spiffe://<trust-domain>`.
fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<TrustDomain> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    match names.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix("spiffe://")?.parse().ok(),
        _ => None,
    }
}

fn is_signed_by(certificate: &[u8], authority: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, authority))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(authority))
    else {
        return false;
    };
    certificate.issuer() == authority.subject()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AuthorityError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error("read", path, source)),
    }
}

/// Never leaves half a file at `path`, also if the machine loses power.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // One left over from a crash: it may have another mode, so it is not written to.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn file_error(attempt: &'static str, path: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File { attempt, path: PathBuf::from(path), source }
}

/// What is wrong with one of the authority's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No certificate in it.
    NoCertificate,
    /// No key in it, or of another kind.
    NoKey,
    /// The certificate may not sign others.
    NotAnAuthority,
    /// Certificate and key do not belong together.
    OtherKey,
    /// Made for another mesh, or for none.
    WrongTrustDomain {
        /// The certificate's; absent if it names none.
        found: Option<TrustDomain>,
        /// The mesh's.
        expected: TrustDomain,
    },
    /// Too old.
    Expired {
        /// Since when.
        not_after: OffsetDateTime,
    },
    /// Made in the future, by this machine's clock.
    NotYetValid {
        /// From when on it counts.
        not_before: OffsetDateTime,
    },
    /// The issuer is not this trust anchor's.
    NotSignedByRoot,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("it holds no certificate in PEM"),
            Self::NoKey => f.write_str("it holds no ECDSA P-256 key as PKCS#8 in PEM"),
            Self::NotAnAuthority => f.write_str("its certificate may not sign others"),
            Self::OtherKey => f.write_str("its key is not its certificate's"),
            Self::WrongTrustDomain { found: Some(found), expected } => {
                write!(f, "it is of trust domain {found}, and the mesh is {expected}")
            }
            Self::WrongTrustDomain { found: None, expected } => {
                write!(f, "it names no trust domain (want the one URI name spiffe://{expected})")
            }
            Self::Expired { not_after } => {
                write!(f, "it expired on {}; move it away to have a new one made", not_after.date())
            }
            Self::NotYetValid { not_before } => {
                write!(f, "it is valid only from {not_before} on; check this machine's clock")
            }
            Self::NotSignedByRoot => {
                write!(f, "it is not signed by {ROOT_FILE}; move it away to have a new one made")
            }
        }
    }
}

/// The trust anchor's certificate and key.
const ROOT_FILE: &str = "root.pem";
/// The issuer's certificate and key.
const ISSUER_FILE: &str = "issuer.pem";
