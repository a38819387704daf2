//! The control plane's own certificate: issued by its own authority, renewed at half of its life, and as
//! soon as the issuer is another.

use std::time::{Duration, SystemTime};

use heddle_model::identity::InvalidIdentity;
use heddle_runtime::clock;
use heddle_tls::authority::{Authority, IssueError};
use heddle_tls::certificate::{CertificateRequest, CertifiedLeaf, RequestError};
use heddle_tls::credentials::{CredentialsError, CredentialsWriter};
use heddle_tls::peer::PeerIdentity;

/// Why there is no certificate of our own.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// No request could be made for it, or its answer is no use.
    #[error("cannot request the control plane's own certificate")]
    Request(#[from] RequestError),
    /// It could not be issued.
    #[error("cannot issue the control plane's own certificate")]
    Issue(#[from] IssueError),
    /// It could not be put to use.
    #[error("cannot use the control plane's own certificate")]
    Credentials(#[from] CredentialsError),
    /// The trust domain allows no name for the control plane.
    #[error("cannot name the control plane")]
    Name(#[from] InvalidIdentity),
}

/// Our own certificate.
#[derive(Debug)]
pub struct Own {
    credentials: CredentialsWriter,
    renewal: Renewal,
}

impl Own {
    /// Trusts the authority's anchors, and has it issue the first certificate.
    pub fn begin(
        credentials: CredentialsWriter,
        lifetime: Duration,
        authority: &Authority,
    ) -> Result<Self, OwnError> {
        let now = clock::now();
        let mut own = Self { credentials, renewal: Renewal { not_before: now, at: now } };
        own.follow(authority, lifetime)?;
        Ok(own)
    }

    /// Trusts the authority's anchors from now on, and has it issue a new certificate. The anchors go
    /// first: they vouch for the certificate of before, too.
    pub fn follow(&mut self, authority: &Authority, lifetime: Duration) -> Result<(), OwnError> {
        self.credentials.set_bundle(authority.bundle().clone())?;
        self.renew(authority, lifetime)
    }

    /// Has the authority issue a new one. On error the one of before stays.
    pub fn renew(&mut self, authority: &Authority, lifetime: Duration) -> Result<(), OwnError> {
        let leaf = issue(authority, lifetime)?;
        self.credentials.set_certificate(leaf.clone())?;
        self.renewal = Renewal::of(&leaf, clock::now());
        Ok(())
    }

    /// Whether it is time for a new one.
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.renewal.is_due(now)
    }
}

/// When a certificate is to be renewed, by the wall clock: what is valid when follows that clock, also
/// when it is set, and when the machine slept.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    not_before: SystemTime,
    at: SystemTime,
}

impl Renewal {
    fn of(leaf: &CertifiedLeaf, now: SystemTime) -> Self {
        let at = now.checked_add(leaf.renewal_delay(now)).unwrap_or(now);
        Self { not_before: leaf.not_before(), at }
    }

    /// Whether it is time, or the clock was set back to before the certificate.
    fn is_due(&self, now: SystemTime) -> bool {
        now >= self.at || now < self.not_before
    }
}

fn issue(authority: &Authority, lifetime: Duration) -> Result<CertifiedLeaf, OwnError> {
    let PeerIdentity { identity, pod_uid } = PeerIdentity::control_plane(authority.trust_domain())?;
    let request = CertificateRequest::generate()?;
    let chain = authority.issue(request.der(), &identity, &pod_uid, lifetime, clock::now())?;
    Ok(request.into_leaf(chain)?)
}

#[cfg(test)]
mod tests {
    use heddle_model::identity::TrustDomain;
    use heddle_tls::credentials;

    use super::*;

    #[test]
    fn renewal_follows_the_wall_clock() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let renewal = Renewal { not_before: at(1000), at: at(2000) };
        for (case, now, due) in [
            ("before its time", at(1500), false),
            ("at its time", at(2000), true),
            ("after a sleep", at(9000), true),
            ("after the clock was set back a little", at(1000), false),
            ("after the clock was set back far", at(999), true),
        ] {
            assert_eq!(renewal.is_due(now), due, "case: {case}");
        }
    }

    #[test]
    fn our_own_certificate_is_of_the_issuer_of_the_moment_through_a_rotation() {
        let trust_domain: TrustDomain = "cluster.local".parse().unwrap();
        let (writer, credentials) = credentials::channel(trust_domain.clone());
        let day = Duration::from_secs(24 * 3600);
        let first = Authority::create(trust_domain, clock::now()).unwrap();
        let mut own = Own::begin(writer, day, &first).unwrap();
        let announced = first.with_next_root(clock::now()).unwrap();
        let switched = announced.with_switched_issuer(clock::now()).unwrap();
        let last = switched.with_current_anchor_only().unwrap();
        for authority in [&first, &announced, &switched, &last] {
            own.follow(authority, day).unwrap();
            let held = credentials.held().unwrap();
            assert_eq!(held.issuer, Some(authority.issuer_digest()));
            assert_eq!(held.bundle, authority.bundle().digest());
        }
        assert!(!own.is_due(clock::now()) && own.is_due(clock::now() + day / 2));
    }
}
