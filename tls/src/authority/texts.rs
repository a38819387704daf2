//! What an authority is kept as: a few named texts in PEM. Pure; where they are kept is the control
//! plane's part.

use std::fmt;
use std::sync::Arc;
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
use crate::bundle::{Bundle, InvalidBundle};
use crate::pem;

/// The trust anchor that the issuer is below, with its key. Absent: the key is kept elsewhere.
pub const ROOT: &str = "root.pem";
/// The trust anchor to come, with its key.
pub const NEXT_ROOT: &str = "next-root.pem";
/// The issuer, with its key.
pub const ISSUER: &str = "issuer.pem";
/// All trust anchors, without keys.
pub const TRUST_ANCHORS: &str = "trust-anchors.pem";

/// The texts of an authority; some may be absent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// See [`ROOT`].
    pub root: Option<Zeroizing<String>>,
    /// See [`NEXT_ROOT`].
    pub next_root: Option<Zeroizing<String>>,
    /// See [`ISSUER`].
    pub issuer: Option<Zeroizing<String>>,
    /// See [`TRUST_ANCHORS`].
    pub trust_anchors: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub enum Parsed {
    /// There is no authority yet.
    Nothing,
    /// It was kept whole.
    Whole(Authority),
    /// There was no issuer: this one is new, and not kept yet.
    WithNewIssuer(Authority),
}

impl Authority {
    /// The texts that [`Authority::from_texts`] reads.
    pub fn to_texts(&self) -> Texts {
        Texts {
            root: self.root.as_ref().map(|signer| signer.to_pem()),
            next_root: self.next_root.as_ref().map(|signer| signer.to_pem()),
            issuer: Some(self.issuer.to_pem()),
            trust_anchors: Some(self.bundle.to_pem()),
        }
    }

    /// Reads an authority. Whoever brings their own gives [`ROOT`] alone, or [`ISSUER`] with
    /// [`TRUST_ANCHORS`], and without the anchor's key.
    ///
    /// Refuses a key that is not the certificate's, another trust domain, a certificate that has
    /// expired or is not valid yet, an issuer that no trust anchor signed, and a bundle without the
    /// trust anchor that is kept.
    pub fn from_texts(
        texts: &Texts,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Parsed, NotParsed> {
        let signer = |name, text: &Option<Zeroizing<String>>| {
            let parse = |text: &Zeroizing<String>| parse_signer(text.as_bytes(), trust_domain, now);
            let parsed = text.as_ref().map(parse).transpose();
            parsed.map_err(|fault| NotParsed::Unusable { name, fault })
        };
        let root = signer(ROOT, &texts.root)?;
        let next_root = signer(NEXT_ROOT, &texts.next_root)?;
        let issuer = signer(ISSUER, &texts.issuer)?;
        if root.is_none() && issuer.is_none() {
            return Ok(Parsed::Nothing);
        }
        let bundle = bundle(texts, trust_domain, [root.as_ref(), next_root.as_ref()])?;
        let (root, next_root) = (root.map(Arc::new), next_root.map(Arc::new));
        match (issuer, root) {
            (Some(issuer), root) => {
                let vouches = |anchor| is_signed_by(&issuer.certificate, anchor);
                if !bundle.anchors_der().any(vouches) {
                    return Err(NotParsed::Unusable { name: ISSUER, fault: Fault::NotSigned });
                }
                let issuer = Arc::new(issuer);
                Ok(Parsed::Whole(Self { bundle, root, next_root, issuer }))
            }
            (None, Some(root)) => {
                let issuer = Arc::new(Signer::below(&root, trust_domain, now)?);
                let root = Some(root);
                Ok(Parsed::WithNewIssuer(Self { bundle, root, next_root, issuer }))
            }
            (None, None) => Ok(Parsed::Nothing),
        }
    }
}

/// The anchors as kept; where they are not, those whose keys are.
fn bundle(
    texts: &Texts,
    trust_domain: &TrustDomain,
    kept: [Option<&Signer>; 2],
) -> Result<Bundle, NotParsed> {
    let unusable = |fault| NotParsed::Unusable { name: TRUST_ANCHORS, fault };
    let kept: Vec<&[u8]> =
        kept.into_iter().flatten().map(|signer| signer.certificate.as_ref()).collect();
    let Some(text) = &texts.trust_anchors else {
        if kept.is_empty() {
            return Err(unusable(Fault::NoCertificate));
        }
        let anchors = kept.into_iter().map(<[u8]>::to_vec);
        return Bundle::from_der(trust_domain.clone(), anchors)
            .map_err(|error| unusable(Fault::Bundle(error.to_string())));
    };
    let bundle = Bundle::from_pem(trust_domain.clone(), text.as_bytes())
        .map_err(|error: InvalidBundle| unusable(Fault::Bundle(error.to_string())))?;
    if kept.iter().all(|certificate| bundle.contains(certificate)) {
        Ok(bundle)
    } else {
        Err(unusable(Fault::WithoutRoot))
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
    Ok(Signer {
        certificate: certificate.clone(),
        not_before: not_before.into(),
        not_after: not_after.into(),
        signer,
    })
}

/// The trust domain of an authority's one URI name, `spiffe://<trust-domain>`.
fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<TrustDomain> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    match names.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix("spiffe://")?.parse().ok(),
        _ => None,
    }
}

pub(super) fn is_signed_by(certificate: &[u8], authority: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, authority))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(authority))
    else {
        return false;
    };
    certificate.issuer() == authority.subject()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

impl fmt::Debug for Texts {
    /// Never a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").field("trust_anchors", &self.trust_anchors).finish_non_exhaustive()
    }
}

/// Why texts are no authority.
#[derive(Debug, thiserror::Error)]
pub enum NotParsed {
    /// One of them does not hold what it should.
    #[error("{name} cannot be used: {fault}")]
    Unusable {
        /// Which.
        name: &'static str,
        /// What is wrong, and what would do.
        fault: Fault,
    },
    /// There was no issuer, and none could be made.
    #[error("the issuer that is missing cannot be made")]
    Make(#[from] AuthorityError),
}

/// What is wrong with one of the authority's texts.
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
    /// The issuer is below none of the trust anchors.
    NotSigned,
    /// The bundle cannot be read.
    Bundle(String),
    /// The bundle lacks the trust anchor that is kept beside it.
    WithoutRoot,
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
            Self::NotSigned => write!(
                f,
                "it is signed by no trust anchor of {TRUST_ANCHORS} or {ROOT}; move it away to have a \
                 new one made"
            ),
            Self::Bundle(error) => f.write_str(error),
            Self::WithoutRoot => write!(
                f,
                "the trust anchor of {ROOT} or {NEXT_ROOT} is not in it; move it away to have it made \
                 anew"
            ),
        }
    }
}
