//! What a workload's certificate says: one strict parser, for issuing, receiving and checking it.
//! Who vouches for it is in `verify.rs`.

use std::time::{Duration, SystemTime};

use heddle_model::identity::{PodUid, SpiffeId};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::peer::PeerIdentity;
use crate::refusal::Refusal;

/// A workload's certificate, as far as it speaks for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whom it names.
    pub peer: PeerIdentity,
    /// Not valid before this; a little before it was issued, for clocks that run late.
    pub not_before: SystemTime,
    /// Not valid after this.
    pub not_after: SystemTime,
}

impl Leaf {
    /// Reads one certificate in DER and refuses whatever no workload may present.
    ///
    /// Source: SPIFFE X.509-SVID 1.0, sections 2 to 5, narrowed to the mesh's own names.
    pub fn parse(der: &[u8]) -> Result<Self, Refusal> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| Refusal::Unparsable)?;
        if !rest.is_empty() {
            return Err(Refusal::Unparsable);
        }
        check_usages(&certificate)?;
        let names = Names::read(&certificate)?;
        let validity = certificate.validity();
        Ok(Self {
            peer: names.into_peer()?,
            not_before: system_time(validity.not_before)?,
            not_after: system_time(validity.not_after)?,
        })
    }
}

fn check_usages(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let constraints = certificate.basic_constraints().map_err(|_| Refusal::Unparsable)?;
    if constraints.is_some_and(|extension| extension.value.ca) {
        return Err(Refusal::IsAuthority);
    }
    let usage = certificate.key_usage().map_err(|_| Refusal::Unparsable)?;
    let signs = usage.is_some_and(|extension| {
        let usage = extension.value;
        usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign()
    });
    if !signs {
        return Err(Refusal::KeyUsage);
    }
    let usage = certificate.extended_key_usage().map_err(|_| Refusal::Unparsable)?;
    // `anyExtendedKeyUsage` is not taken for either: the issuer always writes both.
    if !usage.is_some_and(|extension| extension.value.server_auth && extension.value.client_auth) {
        return Err(Refusal::ExtendedKeyUsage);
    }
    Ok(())
}

struct Names<'a> {
    uris: Vec<&'a str>,
    dns: Vec<&'a str>,
    others: usize,
}

impl<'a> Names<'a> {
    fn read(certificate: &'a X509Certificate<'_>) -> Result<Self, Refusal> {
        let mut names = Self { uris: Vec::new(), dns: Vec::new(), others: 0 };
        let extension = certificate.subject_alternative_name().map_err(|_| Refusal::Unparsable)?;
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::DNSName(name) => names.dns.push(name),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => names.others += 1,
            }
        }
        Ok(names)
    }

    fn into_peer(self) -> Result<PeerIdentity, Refusal> {
        let identity: SpiffeId = match self.uris.as_slice() {
            [] => return Err(Refusal::NoUriName),
            [uri] => uri.parse().map_err(|_| Refusal::NotSpiffe)?,
            several => return Err(Refusal::SeveralUriNames { count: several.len() }),
        };
        let pod_uid = match self.dns.as_slice() {
            [name] => PodUid::from_dns_name(name, identity.trust_domain())
                .map_err(|_| Refusal::NotAPodName)?,
            other => return Err(Refusal::NotOneDnsName { count: other.len() }),
        };
        if self.others > 0 {
            return Err(Refusal::OtherNames);
        }
        Ok(PeerIdentity { identity, pod_uid })
    }
}

fn system_time(time: ASN1Time) -> Result<SystemTime, Refusal> {
    u64::try_from(time.timestamp())
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or(Refusal::Unparsable)
}

#[cfg(test)]
mod tests;
