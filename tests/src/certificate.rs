//! Certificates that are not what they should be, and one that is: the mesh's own authority signs them,
//! as somebody could who had stolen its key, or one that nobody trusts.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::world::World;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Wish {
    /// All URI names.
    pub uris: Vec<String>,
    /// The one DNS name.
    pub dns: String,
    /// Whether its time is over.
    pub expired: bool,
}

/// A certificate with its chain and key, in PEM.
#[derive(Clone, Debug)]
pub struct Minted {
    /// Leaf, then issuer.
    pub chain_pem: String,
    /// The leaf's key.
    pub key_pem: String,
}

impl Wish {
    /// A certificate as the mesh issues it.
    pub fn good(trust_domain: &str, service_account: &str, pod_uid: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://{trust_domain}/ns/default/sa/{service_account}")],
            dns: format!("{pod_uid}.pod.{trust_domain}"),
            expired: false,
        }
    }
}

impl Authority {
    /// The authority of a running mesh: what its control plane keeps.
    pub fn of(world: &World) -> Result<Self> {
        let file = world.state_directory().join("control-plane").join("issuer.pem");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let key_begins =
            text.find("-----BEGIN PRIVATE KEY").context("no private key in issuer.pem")?;
        let (certificate, key) = text.split_at(key_begins);
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?,
            certificate_pem: certificate.to_owned(),
        })
    }

    /// An authority that nobody has heard of.
    pub fn stranger() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.distinguished_name = named("stranger");
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(parameters, key), certificate_pem })
    }

    /// Its own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs whatever is wished for.
    pub fn certify(&self, wish: &Wish) -> Result<Minted> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::default();
        for uri in &wish.uris {
            parameters.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        parameters.subject_alt_names.push(SanType::DnsName(wish.dns.as_str().try_into()?));
        parameters.distinguished_name = DistinguishedName::new();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = OffsetDateTime::now_utc();
        let ends = if wish.expired { now - Duration::minutes(5) } else { now + Duration::hours(1) };
        (parameters.not_before, parameters.not_after) = (now - Duration::hours(1), ends);
        let leaf = parameters.signed_by(&key, &self.issuer)?;
        let chain_pem = format!("{}{}", leaf.pem(), self.certificate_pem);
        Ok(Minted { chain_pem, key_pem: key.serialize_pem() })
    }
}

impl Minted {
    /// A certificate for an application's own TLS.
    pub fn self_signed(name: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
        Ok(Self { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Writes it for a program to read: `<name>.pem` and `<name>.key`.
    pub fn write(&self, directory: &Path, name: &str) -> Result<()> {
        std::fs::write(directory.join(format!("{name}.pem")), &self.chain_pem)?;
        Ok(std::fs::write(directory.join(format!("{name}.key")), &self.key_pem)?)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
