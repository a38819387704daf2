//! A mesh for tests: a real authority beside one that signs whatever it is told to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::bundle::Bundle;
use crate::certificate::{CertificateRequest, CertifiedLeaf};
use crate::config;
use crate::connect::PeerTarget;
use crate::credentials::{self, Credentials, CredentialsWriter};
use crate::peer::PeerIdentity;

pub(crate) struct TestMesh {
    pub(crate) authority: Authority,
    pub(crate) careless: CarelessAuthority,
    pub(crate) bundle: Bundle,
}

impl TestMesh {
    pub(crate) fn new() -> Self {
        let authority = Authority::create(trust_domain(), now()).unwrap();
        let careless = CarelessAuthority::new();
        let anchors =
            authority.bundle().anchors_der().map(<[u8]>::to_vec).chain([careless.anchor()]);
        let bundle = Bundle::from_der(trust_domain(), anchors).unwrap();
        Self { authority, careless, bundle }
    }

    pub(crate) fn leaf(&self, peer: &PeerIdentity) -> CertifiedLeaf {
        self.leaf_issued_at(peer, now())
    }

    pub(crate) fn leaf_issued_at(&self, peer: &PeerIdentity, now: SystemTime) -> CertifiedLeaf {
        let request = CertificateRequest::generate().unwrap();
        let (identity, pod_uid) = (&peer.identity, &peer.pod_uid);
        let chain = self.authority.issue(request.der(), identity, pod_uid, LIFETIME, now).unwrap();
        request.into_leaf(chain).unwrap()
    }

    pub(crate) fn credentials(&self, peer: &PeerIdentity) -> (CredentialsWriter, Credentials) {
        let (writer, credentials) = credentials::channel(trust_domain());
        writer.set_bundle(self.bundle.clone()).unwrap();
        writer.set_certificate(self.leaf(peer)).unwrap();
        (writer, credentials)
    }
}

/// Signs anything.
pub(crate) struct CarelessAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl CarelessAuthority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    pub(crate) fn anchor(&self) -> Vec<u8> {
        self.certificate.to_vec()
    }

    pub(crate) fn mint(&self, leaf: &OddLeaf) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.parameters().signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = config::load_key(key).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
    }

    pub(crate) fn mint_der(&self, leaf: &OddLeaf) -> Vec<u8> {
        self.mint(leaf).cert[0].to_vec()
    }
}

/// A certificate that is good until a test makes it odd.
#[derive(Clone)]
pub(crate) struct OddLeaf {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) emails: Vec<String>,
    pub(crate) is_ca: IsCa,
    pub(crate) key_usages: Vec<KeyUsagePurpose>,
    pub(crate) extended_key_usages: Vec<ExtendedKeyUsagePurpose>,
    /// Seconds from now.
    pub(crate) valid: (i64, i64),
}

impl OddLeaf {
    pub(crate) fn like(peer: &PeerIdentity) -> Self {
        Self {
            uris: vec![peer.identity.to_string()],
            dns: vec![peer.dns_name()],
            emails: Vec::new(),
            is_ca: IsCa::NoCa,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            extended_key_usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            valid: (-60, 60),
        }
    }

    fn parameters(&self) -> CertificateParams {
        let now = OffsetDateTime::from(now());
        let mut parameters = CertificateParams::default();
        let uris = self.uris.iter().map(|name| SanType::URI(name.as_str().try_into().unwrap()));
        let dns = self.dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
        let emails =
            self.emails.iter().map(|name| SanType::Rfc822Name(name.as_str().try_into().unwrap()));
        parameters.subject_alt_names = uris.chain(dns).chain(emails).collect();
        parameters.is_ca = self.is_ca;
        parameters.key_usages = self.key_usages.clone();
        parameters.extended_key_usages = self.extended_key_usages.clone();
        parameters.not_before = now + time::Duration::seconds(self.valid.0);
        parameters.not_after = now + time::Duration::seconds(self.valid.1);
        parameters
    }
}

pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs())
}

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn workload(name: &str) -> PeerIdentity {
    PeerIdentity {
        identity: SpiffeId::new(trust_domain(), "shop", name).unwrap(),
        pod_uid: format!("{name}-1").parse().unwrap(),
    }
}

pub(crate) fn target(peer: &PeerIdentity) -> PeerTarget {
    PeerTarget {
        identity: peer.identity.clone(),
        pod_uid: peer.pod_uid.clone(),
        port: heddle_model::names::Port::new(8080).unwrap(),
    }
}

pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
