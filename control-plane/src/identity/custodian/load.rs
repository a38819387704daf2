//! The authority at the start of a process: what is kept, or a new one.

use std::time::Duration;

use heddle_model::installation;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use heddle_runtime::duration::Text;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::AuthorityError;
use heddle_tls::bundle::Bundle;
use tracing::{info, warn};

use crate::identity::custodian::Setup;
use crate::identity::kept::{Kept, Read, Unreadable};
use crate::identity::own::OwnError;
use crate::identity::rotation::Several;
use crate::identity::store::{HandedOut, Revision, Saved, StoreError};

/// Why there is no authority or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CustodianError {
    /// Where it is kept cannot be read or written.
    #[error("cannot load or keep the certificate authority")]
    Store(#[from] StoreError),
    /// What is kept is no use.
    #[error("cannot use the certificate authority that is kept in {store}")]
    Unreadable {
        /// Where it is kept.
        store: String,
        /// What is wrong with it.
        #[source]
        source: Box<Unreadable>,
    },
    /// It could not be made.
    #[error("cannot make a certificate authority")]
    Authority(#[from] AuthorityError),
    /// What was handed out is of an authority that is not kept any more.
    #[error(
        "{store} holds no authority, and the ConfigMaps {name} of {namespaces} hold trust anchors of an \
         earlier one: proxies there would trust nothing that a new one signs, so none is made. Put \
         the Secret back from a backup. If there is none, delete those ConfigMaps (`kubectl delete configmaps \
         --all-namespaces --selector {label} --field-selector metadata.name={name}`), and restart all pods \
         that have a proxy once the control plane runs",
        name = installation::TRUST_ANCHORS_CONFIG_MAP,
        label = installation::SELECTOR,
    )]
    Stranded {
        /// Where it should be kept.
        store: String,
        /// Where its trust anchors are.
        namespaces: Several,
    },
    /// Others write there all the time.
    #[error("cannot keep a new certificate authority: others change what is kept, again and again")]
    Contended,
    /// There is no certificate of our own.
    #[error(transparent)]
    Own(#[from] OwnError),
}

/// Loads the authority or makes one. While the API server is slow or away, that is tried again and again: a
/// process that ended instead would begin with nothing each time.
///
/// Cancel safe: yes; what was made and kept is found by the next start.
pub(super) async fn load_patiently(setup: &Setup) -> Result<(Kept, Revision), CustodianError> {
    let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    loop {
        match load_or_create(setup).await {
            Err(error) if error.may_pass() => {
                let delay = backoff.next_delay();
                warn!(error = %Chain(&error), delay = %Text(delay), "no authority yet; trying again");
                tokio::time::sleep(delay).await;
            }
            outcome => return outcome,
        }
    }
}

impl CustodianError {
    /// Whether it is a matter of time, or of an API server that does not allow it yet.
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(StoreError::Timeout { .. } | StoreError::Api { .. }) | Self::Contended => {
                true
            }
            Self::Store(StoreError::File { .. })
            | Self::Unreadable { .. }
            | Self::Stranded { .. }
            | Self::Authority(_)
            | Self::Own(_) => false,
        }
    }
}

/// Of several that start at once, one makes the authority and the others load it.
async fn load_or_create(setup: &Setup) -> Result<(Kept, Revision), CustodianError> {
    let mut was_stranded = false;
    for _ in 0..LOAD_ATTEMPTS {
        let stored = setup.store.load().await?;
        let read = Kept::read(&stored.texts, &setup.trust_domain, clock::now());
        let read = read.map_err(|error| CustodianError::Unreadable {
            store: setup.store.to_string(),
            source: Box::new(error),
        })?;
        let (kept, is_new) = match read {
            Read::Whole(kept) => match kept.allowing(setup.leaf_lifetime) {
                None => return Ok((kept, stored.revision)),
                Some(allowing) => (allowing, false),
            },
            Read::Amended(kept) => (kept, true),
            Read::Nothing => (Kept::create(&setup.trust_domain, clock::now())?, true),
        };
        if is_new {
            // Seen before what is kept was read, they are not those of a replica that was faster.
            match stranded(setup, &kept).await? {
                None => {}
                Some(_) if !was_stranded => {
                    was_stranded = true;
                    continue;
                }
                Some(namespaces) => {
                    return Err(CustodianError::Stranded {
                        store: setup.store.to_string(),
                        namespaces,
                    });
                }
            }
        }
        let kept = kept.allowing(setup.leaf_lifetime).unwrap_or(kept);
        match setup.store.save(&kept.to_texts(), &stored.revision).await? {
            Saved::As(revision) => {
                if is_new {
                    info!(store = %setup.store, "a certificate authority was made");
                }
                return Ok((kept, revision));
            }
            Saved::Conflict => tokio::time::sleep(LOAD_PAUSE).await,
        }
    }
    Err(CustodianError::Contended)
}

/// The namespaces whose proxies begin with anchors that vouch for nothing of this authority's.
async fn stranded(setup: &Setup, kept: &Kept) -> Result<Option<Several>, CustodianError> {
    let ours = kept.authority.bundle();
    let mut namespaces = Several::default();
    for HandedOut { namespace, text } in setup.store.handed_out().await? {
        // Whoever was given what is no bundle trusts nobody.
        let theirs = Bundle::from_pem(setup.trust_domain.clone(), text.as_bytes());
        if theirs.is_ok_and(|theirs| !theirs.anchors_der().any(|anchor| ours.contains(anchor))) {
            namespaces.add(|| namespace);
        }
    }
    Ok((namespaces.count > 0).then_some(namespaces))
}

/// Each attempt that conflicts is one that another replica succeeded in.
const LOAD_ATTEMPTS: usize = 10;
/// Until what another has written can be read.
const LOAD_PAUSE: Duration = Duration::from_millis(200);
/// The first wait for an API server.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// So late an API server is noticed that is back.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
