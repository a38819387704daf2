//! The authority at the start of a process: what is kept, or a new one.

use std::time::Duration;

use heddle_runtime::clock;
use heddle_tls::authority::AuthorityError;
use tracing::info;

use crate::identity::keeper::Setup;
use crate::identity::kept::{Kept, Read, Unreadable};
use crate::identity::own::OwnError;
use crate::identity::store::{Revision, Saved, StoreError};

/// Why there is no authority or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
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
    /// Others write there all the time.
    #[error("cannot keep a new certificate authority: others change what is kept, again and again")]
    Contended,
    /// There is no certificate of our own.
    #[error(transparent)]
    Own(#[from] OwnError),
}

/// Of several that start at once, one makes the authority and the others load it.
pub(super) async fn load_or_create(setup: &Setup) -> Result<(Kept, Revision), KeeperError> {
    for _ in 0..LOAD_ATTEMPTS {
        let stored = setup.store.load().await?;
        let read = Kept::read(&stored.texts, &setup.trust_domain, clock::now());
        let read = read.map_err(|error| KeeperError::Unreadable {
            store: setup.store.to_string(),
            source: Box::new(error),
        })?;
        let kept = match read {
            Read::Whole(kept) => return Ok((kept, stored.revision)),
            Read::Amended(kept) => kept,
            Read::Nothing => Kept::create(&setup.trust_domain, clock::now())?,
        };
        match setup.store.save(&kept.to_texts(), &stored.revision).await? {
            Saved::As(revision) => {
                info!(store = %setup.store, "a certificate authority was made");
                return Ok((kept, revision));
            }
            Saved::Conflict => tokio::time::sleep(LOAD_PAUSE).await,
        }
    }
    Err(KeeperError::Contended)
}

/// Each attempt that conflicts is one that another replica succeeded in.
const LOAD_ATTEMPTS: usize = 10;
/// Until what another has written can be read.
const LOAD_PAUSE: Duration = Duration::from_millis(200);
