//! Keeps the authority, its issuer fresh, and the control plane's own certificate.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

    /// Renews our own certificate at half of its life, and with it the issuer when half of its own is
    /// over, until the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut delay = self.own.renewal_delay(clock::now());
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            match self.renew() {
                Ok(()) => {
                    backoff.reset();
                    delay = self.own.renewal_delay(clock::now());
                }
                Err(error) => {
                    error!(error = %Chain(&error), "own certificate cannot be renewed");
                    delay = backoff.next_delay();
                }
            }
        }
    }

    fn renew(&mut self) -> Result<(), KeeperError> {
        let mut authority = Arc::clone(&self.authority.borrow());
        if authority.issuer_is_due(clock::now()) {
            let directory = &self.state_directory;
            let fresh = Authority::load_or_create(directory, &self.trust_domain, clock::now())?;
            authority = Arc::new(fresh);
            self.authority.send_replace(Arc::clone(&authority));
            info!("issuer renewed");
        }
        self.own = issue_own(&authority, self.leaf_lifetime)?;
        self.credentials.set_certificate(self.own.clone())?;
        info!("own certificate renewed");
        Ok(())
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
