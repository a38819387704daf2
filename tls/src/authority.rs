//! The mesh's certificate authority: trust anchors, issuer, and the certificates it issues.
//! Who may have one is attested by the control plane; what an authority is kept as is in
//! `authority/texts.rs`, and how one follows another in `authority/rotation.rs`.

pub mod description;
pub mod request;
pub mod rotation;
pub mod texts;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::identity::{PodUid, SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::bundle::{Bundle, InvalidBundle};
use crate::config;
use crate::digest::{self, Digest};
use crate::peer::PeerIdentity;
use request::InvalidRequest;

/// Trust anchors, and an issuer below one of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The anchor that the issuer is below comes first.
    bundle: Bundle,
    /// With its key; `None`: that is kept elsewhere, and no issuer can be made here.
    root: Option<Arc<Signer>>,
    /// The anchor to come.
    next_root: Option<Arc<Signer>>,
    issuer: Arc<Signer>,
}

impl Authority {
    /// Makes a trust anchor and an issuer, with new ECDSA P-256 keys.
    pub fn create(trust_domain: TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let root = Signer::root(&trust_domain, now)?;
        let issuer = Signer::below(&root, &trust_domain, now)?;
        let bundle = Bundle::from_der(trust_domain, [root.certificate.to_vec()])?;
        Ok(Self { bundle, root: Some(Arc::new(root)), next_root: None, issuer: Arc::new(issuer) })
    }

    /// Whose identities it issues.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// The trust anchors, as peers need them.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// When the issuer expires. No certificate outlives it.
    pub fn issuer_not_after(&self) -> SystemTime {
        self.issuer.not_after
    }

    /// The issuer's certificate, DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer.certificate
    }

    /// What the issuer is told apart by: SHA-256 of its certificate.
    pub fn issuer_digest(&self) -> Digest {
        digest::of(&self.issuer.certificate)
    }

    /// Whether half of the issuer's life is over, so that a new one should be made.
    pub fn issuer_is_due(&self, now: SystemTime) -> bool {
        let Signer { not_before, not_after, .. } = &*self.issuer;
        let life = not_after.duration_since(*not_before).unwrap_or_default();
        now.checked_add(life / 2).is_none_or(|later| later >= *not_after)
    }

    /// Certifies the request's public key for this workload: leaf first, then the issuer; DER.
    ///
    /// Nothing else of the request is used, after its signature was checked. The certificate is
    /// valid from [`CLOCK_SKEW`] before `now` until `lifetime` after it, or until the issuer
    /// expires if that is sooner. `lifetime` is at least [`LEAF_LIFETIME_MINIMUM`].
    #[expect(
        clippy::too_many_arguments,
        reason = "the request is the stranger's, the rest is what was attested; no two belong together"
    )]
    pub fn issue(
        &self,
        csr_der: &[u8],
        identity: &SpiffeId,
        pod_uid: &PodUid,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<Vec<u8>>, IssueError> {
        let public_key = request::public_key(csr_der)?;
        if identity.trust_domain() != self.trust_domain() {
            return Err(IssueError::WrongTrustDomain {
                asked: identity.trust_domain().clone(),
                ours: self.trust_domain().clone(),
            });
        }
        if lifetime < LEAF_LIFETIME_MINIMUM {
            return Err(IssueError::ShortLifetime { lifetime });
        }
        let left = self.issuer.not_after.duration_since(now).unwrap_or_default();
        if left < LEAF_LIFETIME_MINIMUM {
            return Err(IssueError::IssuerExpired);
        }
        let peer = PeerIdentity { identity: identity.clone(), pod_uid: pod_uid.clone() };
        let parameters = leaf_parameters(&peer, Validity::starting(now, lifetime.min(left))?)?;
        let leaf = parameters
            .signed_by(&public_key, &self.issuer.signer)
            .map_err(|source| AuthorityError::Make { what: "certificate", source })?;
        Ok(vec![leaf.der().to_vec(), self.issuer.certificate.to_vec()])
    }
}

/// A certificate that signs others, with its key.
struct Signer {
    certificate: CertificateDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
    signer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn root(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::Make { what: "trust anchor", source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let validity = Validity::starting(now, ROOT_LIFETIME)?;
        // One issuer below, and nothing below that but workloads.
        let parameters = authority_parameters("Heddle trust anchor", trust_domain, validity, 1)?;
        let certificate = parameters.self_signed(&key).map_err(failed)?.into();
        Ok(Self {
            certificate,
            not_before: validity.not_before.into(),
            not_after: validity.not_after.into(),
            signer: Issuer::new(parameters, key),
        })
    }

    fn below(
        root: &Self,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::Make { what: "issuer", source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let left = root.not_after.duration_since(now).unwrap_or_default();
        let validity = Validity::starting(now, ISSUER_LIFETIME.min(left))?;
        let mut parameters = authority_parameters("Heddle issuer", trust_domain, validity, 0)?;
        parameters.use_authority_key_identifier_extension = true;
        // A second fence, for verifiers other than ours. There is none for the URI name: webpki
        // refuses every chain with a constraint on those.
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(trust_domain.to_string())],
            excluded_subtrees: Vec::new(),
        });
        let certificate = parameters.signed_by(&key, &root.signer).map_err(failed)?.into();
        Ok(Self {
            certificate,
            not_before: validity.not_before.into(),
            not_after: validity.not_after.into(),
            signer: Issuer::new(parameters, key),
        })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// In whole seconds, as certificates have them.
    fn starting(now: SystemTime, lifetime: Duration) -> Result<Self, AuthorityError> {
        let moment = |time: Option<SystemTime>| {
            time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .and_then(|since| i64::try_from(since.as_secs()).ok())
                .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
                .ok_or(AuthorityError::Clock)
        };
        Ok(Self {
            not_before: moment(now.checked_sub(CLOCK_SKEW))?,
            not_after: moment(now.checked_add(lifetime))?,
        })
    }
}

fn authority_parameters(
    name: &str,
    trust_domain: &TrustDomain,
    validity: Validity,
    authorities_below: u8,
) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    let serial = serial_number()?;
    // Its own number makes two issuers of one mesh two names, which chain building relies on.
    let number: String = serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Heddle");
    subject.push(DnType::CommonName, format!("{name} {number}"));
    parameters.distinguished_name = subject;
    parameters.serial_number = Some(serial);
    parameters.not_before = validity.not_before;
    parameters.not_after = validity.not_after;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(authorities_below));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.subject_alt_names = vec![uri_name(&format!("spiffe://{trust_domain}"))?];
    Ok(parameters)
}

fn leaf_parameters(
    peer: &PeerIdentity,
    validity: Validity,
) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.serial_number = Some(serial_number()?);
    parameters.not_before = validity.not_before;
    parameters.not_after = validity.not_after;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let dns_name = peer.dns_name().try_into();
    parameters.subject_alt_names = vec![
        uri_name(&peer.identity.to_string())?,
        SanType::DnsName(dns_name.map_err(|source| AuthorityError::Make { what: "name", source })?),
    ];
    Ok(parameters)
}

fn uri_name(text: &str) -> Result<SanType, AuthorityError> {
    text.try_into()
        .map(SanType::URI)
        .map_err(|source| AuthorityError::Make { what: "name", source })
}

fn serial_number() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; SERIAL_NUMBER_BYTES];
    config::fill_random(&mut bytes).ok_or(AuthorityError::Random)?;
    // RFC 5280, section 4.1.2.2: positive; and not zero, nor with a leading zero.
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or a certificate could not be made.
    #[error("cannot make the {what}")]
    Make {
        /// What was attempted.
        what: &'static str,
        /// As the library says.
        #[source]
        source: rcgen::Error,
    },
    /// The system's clock cannot be right.
    #[error("the system's clock is beyond what certificates can say")]
    Clock,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// Its own trust anchor is not one.
    #[error("the trust anchor cannot be used")]
    Anchor(#[from] InvalidBundle),
    /// The key that would have to sign is kept elsewhere.
    #[error(
        "the trust anchor's key is not kept here, so that a new {what} must come from whoever has it"
    )]
    NoRootKey {
        /// What was to be made.
        what: &'static str,
    },
    /// There is no anchor to switch to.
    #[error("there is no new trust anchor to switch to")]
    NoNextRoot,
}

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request itself is bad: its sender's fault.
    #[error("the certificate request is refused")]
    Request(#[from] InvalidRequest),
    /// The workload is of another mesh.
    #[error("the workload is of trust domain {asked}, and this authority of {ours}")]
    WrongTrustDomain {
        /// The workload's.
        asked: TrustDomain,
        /// The authority's.
        ours: TrustDomain,
    },
    /// Renewal could not keep up with it.
    #[error("a lifetime of {lifetime:?} is too short (want at least {LEAF_LIFETIME_MINIMUM:?})")]
    ShortLifetime {
        /// As asked for.
        lifetime: Duration,
    },
    /// The issuer has no time left to vouch for.
    #[error("the issuer has expired: a new one is needed")]
    IssuerExpired,
    /// The certificate could not be made: our own fault.
    #[error("the certificate could not be made")]
    Authority(#[from] AuthorityError),
}

/// How far the clocks of two machines of a mesh may differ. A fresh certificate begins to be valid
/// this long before it is issued, however short its life.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The shortest life of a workload's certificate.
pub const LEAF_LIFETIME_MINIMUM: Duration = Duration::from_secs(30);
/// Ten years: changing it means touching every proxy.
const ROOT_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// One year; see [`Authority::issuer_is_due`].
const ISSUER_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// Of at most 20 that RFC 5280 allows.
const SERIAL_NUMBER_BYTES: usize = 16;

#[cfg(test)]
mod tests;
