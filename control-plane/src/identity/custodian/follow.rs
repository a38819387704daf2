//! What is kept was changed by another replica or by somebody's hand: it is taken over if it can be trusted,
//! written anew if it is gone, and else told to people.

use std::fmt;
use std::time::Duration;

use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::identity::custodian::Custodian;
use crate::identity::kept::{Kept, Read};
use crate::identity::store::{News, Stored};

/// Why what is kept is not what is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is gone, from there. Whoever leads writes it anew.
    Gone(String),
    /// It is no use, for this reason. It is somebody's to mend.
    Unusable(String),
}

impl Custodian {
    /// Takes over what is kept.
    pub(super) async fn follow(&mut self, stored: Stored) {
        if stored.revision == self.revision || stored.revision.is_before(&self.revision) {
            return;
        }
        let now = clock::now();
        let read = Kept::read(&stored.texts, &self.setup.trust_domain, now);
        self.revision = stored.revision;
        let trouble = match read {
            Ok(Read::Whole(kept))
                if self.kept.authority.is_vouched_for_by(kept.authority.bundle()) =>
            {
                if self.trouble.take().is_some() {
                    info!("what is kept of the authority can be used again");
                }
                if let Err(error) = self.adopt(kept) {
                    error!(error = %Chain(&error), "own certificate cannot be renewed");
                }
                return;
            }
            Ok(Read::Whole(_) | Read::Amended(_)) => Trouble::Unusable(format!(
                "{} holds another authority, which does not trust the anchor that the certificates in \
                 use are below",
                self.setup.store
            )),
            Ok(Read::Nothing) => Trouble::Gone(self.setup.store.to_string()),
            Err(error) => Trouble::Unusable(format!("{}: {}", self.setup.store, Chain(&error))),
        };
        if self.trouble.as_ref() != Some(&trouble) {
            error!(error = %trouble, "what is kept of the authority cannot be used");
            let message = trouble.to_string();
            let news = News { warning: true, reason: "AuthorityNotUsable", message };
            self.setup.store.tell(&news).await;
        }
        self.trouble = Some(trouble);
        self.next_mending = Instant::now();
        self.mend().await;
    }

    /// Writes what should be kept and is not: all of it, if it is gone and this process leads; or that
    /// certificates of ours live longer than any so far.
    pub(super) async fn mend(&mut self) {
        let missing = match &self.trouble {
            Some(Trouble::Unusable(_)) => None,
            Some(Trouble::Gone(_)) => (self.setup.leads)().then(|| self.kept.clone()),
            None => self.kept.allowing(self.setup.leaf_lifetime),
        };
        let Some(kept) = missing.filter(|_| Instant::now() >= self.next_mending) else { return };
        self.next_mending = Instant::now() + MENDING_INTERVAL;
        let was_gone = self.trouble.is_some();
        match self.keep(kept).await {
            Ok(()) if was_gone => {
                let message = format!(
                    "{} was deleted; it was written anew, from what this control plane holds",
                    self.setup.store
                );
                warn!(store = %self.setup.store, "{message}");
                let news = News { warning: true, reason: "AuthorityRestored", message };
                self.setup.store.tell(&news).await;
            }
            Ok(()) => info!("certificates live longer than before; that is kept now"),
            Err(error) => warn!(error = %Chain(&error), "what should be kept cannot be written"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(store) => write!(
                f,
                "{store} holds no authority any more; the one of before stays in use. The control plane \
                 that leads writes it anew"
            ),
            Self::Unusable(reason) => write!(
                f,
                "{reason}; the one of before stays in use. Put it back, or have it written anew by \
                 `meshctl identity rotate --issuer`"
            ),
        }
    }
}

/// Between two attempts.
const MENDING_INTERVAL: Duration = Duration::from_secs(5);
