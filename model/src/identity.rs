//! Identities: trust domains, SPIFFE IDs, pod UIDs and the DNS names that bind one to the other.
//! Certificates are in the tls crate.

use std::fmt;
use std::str::FromStr;

use crate::names::Port;

/// The name under which a trust anchor's identities are valid: lower-case letters, digits, dots and
/// dashes, as in a DNS name.
///
/// Source: SPIFFE-ID 1.0, section 2.1, narrowed to DNS names since it is part of the SNI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text, such as `cluster.local`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let valid = text.len() <= TRUST_DOMAIN_LIMIT_BYTES && text.split('.').all(is_dns_label);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdentity::new(text, "a trust domain is a lower-case DNS name"))
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: String,
    service_account: String,
}

impl SpiffeId {
    /// Refuses names that Kubernetes would refuse.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidIdentity> {
        if !is_dns_label(namespace) {
            return Err(InvalidIdentity::new(namespace, "a namespace is a DNS label"));
        }
        if service_account.len() > NAME_LIMIT_BYTES || !service_account.split('.').all(is_dns_label)
        {
            return Err(InvalidIdentity::new(service_account, "a service account is a DNS name"));
        }
        Ok(Self {
            trust_domain,
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }

    /// The trust domain whose anchors must have signed it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let shape = "want spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>";
        let invalid = || InvalidIdentity::new(text, shape);
        let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Self::new(domain.parse()?, namespace, account)
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

/// What tells one pod from another of the same name: a DNS label, in practice a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(String);

impl PodUid {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name that binds a certificate to this pod: `<pod-uid>.pod.<trust-domain>`.
    pub fn dns_name(&self, trust_domain: &TrustDomain) -> String {
        format!("{self}.pod.{trust_domain}")
    }

    /// Reads what [`PodUid::dns_name`] printed.
    pub fn from_dns_name(name: &str, trust_domain: &TrustDomain) -> Result<Self, InvalidIdentity> {
        name.strip_suffix(trust_domain.as_str())
            .and_then(|rest| rest.strip_suffix(".pod."))
            .ok_or_else(|| InvalidIdentity::new(name, "want <pod-uid>.pod.<trust-domain>"))?
            .parse()
    }
}

impl FromStr for PodUid {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        if is_dns_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdentity::new(text, "a pod UID is a DNS label, such as a UUID"))
        }
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The server name in a handshake between proxies: `<port>.<pod-uid>.pod.<trust-domain>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerServerName {
    /// The pod's port.
    pub port: Port,
    /// The pod.
    pub pod_uid: PodUid,
}

impl PeerServerName {
    /// The text that goes into the ClientHello.
    pub fn to_dns_name(&self, trust_domain: &TrustDomain) -> String {
        format!("{}.{}", self.port, self.pod_uid.dns_name(trust_domain))
    }

    /// Reads a ClientHello's server name; `None` if it is not one of the mesh.
    pub fn parse(name: &str, trust_domain: &TrustDomain) -> Option<Self> {
        let (port, rest) = name.split_once('.')?;
        // A second spelling of a number would be a second name of one port.
        if port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = Port::new(port.parse().ok()?)?;
        Some(Self { port, pod_uid: PodUid::from_dns_name(rest, trust_domain).ok()? })
    }
}

/// A text that is not the identity it was read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {expected}")]
pub struct InvalidIdentity {
    text: String,
    expected: &'static str,
}

impl InvalidIdentity {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(NAME_LIMIT_BYTES).collect(), expected }
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_LIMIT_BYTES
        && bytes.iter().copied().all(inner)
        && bytes.first().is_some_and(|first| *first != b'-')
        && bytes.last().is_some_and(|last| *last != b'-')
}

/// RFC 1035, section 2.3.4.
const LABEL_LIMIT_BYTES: usize = 63;
/// RFC 1123: the limit of Kubernetes for subdomain names.
const NAME_LIMIT_BYTES: usize = 253;
/// Leaves room for `<port>.<pod-uid>.pod.` within a DNS name.
const TRUST_DOMAIN_LIMIT_BYTES: usize = 180;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_strict_grammar_is_a_spiffe_id() {
        for (case, text) in [
            ("another scheme", "https://cluster.local/ns/a/sa/b"),
            ("upper case", "spiffe://Cluster.local/ns/a/sa/b"),
            ("a port", "spiffe://cluster.local:80/ns/a/sa/b"),
            ("a user", "spiffe://me@cluster.local/ns/a/sa/b"),
            ("a query", "spiffe://cluster.local/ns/a/sa/b?x"),
            ("a fragment", "spiffe://cluster.local/ns/a/sa/b#x"),
            ("a trailing slash", "spiffe://cluster.local/ns/a/sa/b/"),
            ("an empty element", "spiffe://cluster.local/ns//sa/b"),
            ("dots", "spiffe://cluster.local/ns/../sa/b"),
            ("percent encoding", "spiffe://cluster.local/ns/%61/sa/b"),
            ("no trust domain", "spiffe:///ns/a/sa/b"),
            ("swapped", "spiffe://cluster.local/sa/a/ns/b"),
            ("nothing", ""),
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "case: {case}");
        }
    }

    #[test]
    fn a_server_name_of_another_trust_domain_is_not_ours() {
        let ours: TrustDomain = "cluster.local".parse().unwrap();
        assert!(PeerServerName::parse("80.u1.pod.cluster.local", &ours).is_some());
        for name in [
            "80.u1.pod.other.local",
            "080.u1.pod.cluster.local",
            "+80.u1.pod.cluster.local",
            "0.u1.pod.cluster.local",
            "65536.u1.pod.cluster.local",
            "80.u1.pod.xcluster.local",
            "80.u.1.pod.cluster.local",
            "u1.pod.cluster.local",
            "cluster.local",
        ] {
            assert_eq!(PeerServerName::parse(name, &ours), None, "case: {name}");
        }
    }

    fn label() -> &'static str {
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
    }

    proptest! {
        #[test]
        fn a_spiffe_id_prints_as_it_was_read(domain in label(), ns in label(), sa in label()) {
            let text = format!("spiffe://{domain}.local/ns/{ns}/sa/{sa}");
            prop_assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }

        #[test]
        fn a_server_name_reads_as_it_was_printed(port in 1..=u16::MAX, uid in label(), domain in label()) {
            let domain: TrustDomain = domain.parse().unwrap();
            let name = PeerServerName { port: Port::new(port).unwrap(), pod_uid: uid.parse().unwrap() };
            prop_assert_eq!(PeerServerName::parse(&name.to_dns_name(&domain), &domain), Some(name));
        }

        #[test]
        fn no_text_panics_a_parser(text in ".{0,300}") {
            let domain: TrustDomain = "cluster.local".parse().unwrap();
            let _ = text.parse::<SpiffeId>();
            let _ = PeerServerName::parse(&text, &domain);
            let _ = PodUid::from_dns_name(&text, &domain);
        }
    }
}
