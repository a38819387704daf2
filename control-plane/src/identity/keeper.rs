//! Keeps the authority, its issuer fresh, and the control plane's own certificate.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::identity::{InvalidIdentity, TrustDomain};
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::{Authority, AuthorityError, IssueError};
use heddle_tls::bundle::Bundle;
use heddle_tls::certificate::{CertificateRequest, CertifiedLeaf, RequestError};
use heddle_tls::credentials::{CredentialsError, CredentialsWriter};
use heddle_tls::peer::PeerIdentity;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Reads the authority of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities(watch::Receiver<Arc<Authority>>);

impl Authorities {
    /// The authority of the moment.
    pub fn current(&self) -> Arc<Authority> {
        Arc::clone(&self.0.borrow())
    }

    /// The trust bundle as soon as it is another than `told`; `None` when the keeper is gone.
    ///
    /// Cancel safe: yes.
    pub async fn bundle_other_than(&mut self, told: Option<&Bundle>) -> Option<Bundle> {
        let other = |authority: &Arc<Authority>| Some(authority.bundle()) != told;
        self.0.wait_for(other).await.ok().map(|authority| authority.bundle().clone())
    }
}

/// Why there is no authority or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The authority cannot be loaded or made.
    #[error("cannot load or make the certificate authority")]
    Authority(#[from] AuthorityError),
    /// The trust anchors cannot be handed out.
    #[error("cannot write {path}")]
    TrustAnchors {
        /// Where to.
        path: PathBuf,
        /// As the system says.
        #[source]
        source: io::Error,
    },
    /// No request could be made for our own certificate, or its answer is no use.
    #[error("cannot request the control plane's own certificate")]
    Request(#[from] RequestError),
    /// Our own certificate could not be issued.
    #[error("cannot issue the control plane's own certificate")]
    Issue(#[from] IssueError),
    /// Our own certificate could not be put to use.
    #[error("cannot use the control plane's own certificate")]
    Credentials(#[from] CredentialsError),
    /// The trust domain allows no name for the control plane.
    #[error("cannot name the control plane")]
    Name(#[from] InvalidIdentity),
}

/// Keeps the authority.
#[derive(Debug)]
pub struct Keeper {
    state_directory: PathBuf,
    trust_domain: TrustDomain,
    leaf_lifetime: Duration,
    authority: watch::Sender<Arc<Authority>>,
    credentials: CredentialsWriter,
    own: CertifiedLeaf,
}

impl Keeper {
    /// Loads the authority or makes one, hands out its trust anchors, and issues our own certificate.
    pub fn start(
        state_directory: PathBuf,
        trust_domain: TrustDomain,
        leaf_lifetime: Duration,
        credentials: CredentialsWriter,
    ) -> Result<(Self, Authorities), KeeperError> {
        let authority = Authority::load_or_create(&state_directory, &trust_domain, clock::now())?;
        write_trust_anchors(&state_directory, authority.bundle())?;
        credentials.set_bundle(authority.bundle().clone())?;
        let own = issue_own(&authority, leaf_lifetime)?;
        credentials.set_certificate(own.clone())?;
        let (authority, reader) = watch::channel(Arc::new(authority));
        let keeper =
            Self { state_directory, trust_domain, leaf_lifetime, authority, credentials, own };
        Ok((keeper, Authorities(reader)))
    }

    /// Renews our own certificate at half of its life, and the issuer when half of its own is over,
    /// until the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut renewal = Renewal::of(&self.own, clock::now());
        let mut issuer_retry = Instant::now();
        loop {
            let now = clock::now();
            if self.authority.borrow().issuer_is_due(now) && Instant::now() >= issuer_retry {
                issuer_retry = Instant::now() + ISSUER_RETRY;
                self.renew_issuer();
            }
            let delay = if renewal.is_due(now) {
                match self.renew() {
                    Ok(()) => {
                        backoff.reset();
                        renewal = Renewal::of(&self.own, clock::now());
                        renewal.look_after(clock::now())
                    }
                    Err(error) => {
                        error!(error = %Chain(&error), "own certificate cannot be renewed");
                        backoff.next_delay()
                    }
                }
            } else {
                renewal.look_after(now)
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Without a new issuer the present one goes on: it is good for as long again.
    fn renew_issuer(&self) {
        let directory = &self.state_directory;
        match Authority::load_or_create(directory, &self.trust_domain, clock::now()) {
            Ok(fresh) => {
                self.authority.send_replace(Arc::new(fresh));
                info!("issuer renewed");
            }
            Err(error) => {
                error!(error = %Chain(&error), "issuer cannot be renewed; the present one stays");
            }
        }
    }

    fn renew(&mut self) -> Result<(), KeeperError> {
        let authority = Arc::clone(&self.authority.borrow());
        self.own = issue_own(&authority, self.leaf_lifetime)?;
        self.credentials.set_certificate(self.own.clone())?;
        info!("own certificate renewed");
        Ok(())
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

    /// How long to wait before looking at the clock again.
    fn look_after(&self, now: SystemTime) -> Duration {
        let left = self.at.duration_since(now).unwrap_or_default();
        left.clamp(LOOK_SHORTEST, LOOK_LONGEST)
    }
}

fn issue_own(authority: &Authority, lifetime: Duration) -> Result<CertifiedLeaf, KeeperError> {
    let PeerIdentity { identity, pod_uid } = PeerIdentity::control_plane(authority.trust_domain())?;
    let request = CertificateRequest::generate()?;
    let chain = authority.issue(request.der(), &identity, &pod_uid, lifetime, clock::now())?;
    Ok(request.into_leaf(chain)?)
}

/// Puts the file in place whole: proxies may read it at any time.
fn write_trust_anchors(directory: &Path, bundle: &Bundle) -> Result<(), KeeperError> {
    let path = directory.join(TRUST_ANCHORS_FILE);
    let partial = directory.join(format!(".{TRUST_ANCHORS_FILE}.partial"));
    let write = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        let mut file = options.open(&partial)?;
        file.write_all(bundle.to_pem().as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().map_err(|source| KeeperError::TrustAnchors { path: path.clone(), source })
}

/// What proxies are given to begin with, in the state directory.
pub const TRUST_ANCHORS_FILE: &str = "trust-anchors.pem";
/// When renewal failed.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Sooner than the shortest certificate runs out.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// A new issuer is made weeks before it is needed.
const ISSUER_RETRY: Duration = Duration::from_secs(60);
/// No loop without a pause, whatever the clock does.
const LOOK_SHORTEST: Duration = Duration::from_millis(100);
/// The shortest certificate lives as long, and is valid from a minute before it was issued.
const LOOK_LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
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
        assert_eq!(renewal.look_after(at(1995)), Duration::from_secs(5));
        assert_eq!(renewal.look_after(at(1000)), LOOK_LONGEST);
        assert_eq!(renewal.look_after(at(3000)), LOOK_SHORTEST);
    }

    #[test]
    fn our_own_certificate_is_renewed_also_when_the_issuer_cannot_be() {
        let state = tempfile::tempdir().unwrap();
        let trust_domain: TrustDomain = "cluster.local".parse().unwrap();
        let (writer, credentials) = credentials::channel(trust_domain.clone());
        let day = Duration::from_secs(24 * 3600);
        let directory = state.path().to_owned();
        let (mut keeper, _authorities) =
            Keeper::start(directory, trust_domain, day, writer).unwrap();
        let first = credentials.leaf_not_after();
        fs::write(state.path().join("issuer.pem"), "broken").unwrap();
        let issuer = keeper.authority.borrow().issuer_not_after();
        keeper.renew_issuer();
        keeper.leaf_lifetime = day * 2;
        keeper.renew().unwrap();
        assert!(credentials.leaf_not_after() > first);
        assert_eq!(keeper.authority.borrow().issuer_not_after(), issuer);
    }
}
