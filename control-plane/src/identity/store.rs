//! Where the authority is kept: a directory, or a Secret. What is kept is in `kept.rs`.

pub mod directory;
pub mod secret;

use std::fmt;
use std::path::PathBuf;

use tokio::sync::watch;

use crate::identity::kept::KeptTexts;
use crate::identity::store::directory::DirectoryStore;
use crate::identity::store::secret::SecretStore;

/// Where the authority is kept.
#[derive(Debug)]
pub enum Store {
    /// In a directory, for this process alone.
    Directory(DirectoryStore),
    /// In a Secret, for all replicas.
    Secret(Box<SecretStore>),
}

/// Which state of what is kept is meant: nothing is written over a state that the writer has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Nothing is kept.
    Absent,
    /// This one, as the store calls it.
    At(String),
}

impl Revision {
    /// Whether this one is certainly older: a watch may lag behind what this process has written. The
    /// API server's versions are numbers that grow with every write.
    pub fn is_before(&self, other: &Self) -> bool {
        let number = |revision: &Self| match revision {
            Self::Absent => None,
            Self::At(text) => text.parse::<u64>().ok(),
        };
        number(self).zip(number(other)).is_some_and(|(own, other)| own < other)
    }
}

/// What is kept, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Nothing, if the revision is [`Revision::Absent`].
    pub texts: KeptTexts,
    /// Of these texts.
    pub revision: Revision,
}

/// What became of an attempt to keep something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is kept, as this revision.
    As(Revision),
    /// Somebody else was faster: what is kept has to be read again.
    Conflict,
}

/// Why a store cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("cannot {attempt} {}", path.display())]
    File {
        /// Read, write, make.
        attempt: &'static str,
        /// Which file.
        path: PathBuf,
        /// As the system says.
        #[source]
        source: std::io::Error,
    },
    /// The API server did not answer in time.
    #[error("cannot {attempt} {object}: the API server does not answer")]
    Timeout {
        /// Read, write.
        attempt: &'static str,
        /// What.
        object: String,
    },
    /// The API server refused, or could not be asked.
    #[error("cannot {attempt} {object}")]
    Api {
        /// Read, write.
        attempt: &'static str,
        /// What.
        object: String,
        /// As the client says.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Trust anchors that were handed out to a namespace's proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOut {
    /// The namespace.
    pub namespace: String,
    /// The anchors in PEM, or whatever is there in their place.
    pub text: String,
}

/// Something that people should see where they would look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it needs somebody.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Store {
    /// Reads what is kept.
    pub async fn load(&self) -> Result<Stored, StoreError> {
        match self {
            Self::Directory(store) => store.load(),
            Self::Secret(store) => store.load().await,
        }
    }

    /// Keeps these texts, unless what is kept is not what was `seen` any more.
    pub async fn save(&self, texts: &KeptTexts, seen: &Revision) -> Result<Saved, StoreError> {
        match self {
            Self::Directory(store) => store.save(texts).map(Saved::As),
            Self::Secret(store) => store.save(texts, seen).await,
        }
    }

    /// Where proxies are given trust anchors in another place than where the authority is kept: some of those
    /// places, and what is there.
    pub async fn handed_out(&self) -> Result<Vec<HandedOut>, StoreError> {
        match self {
            Self::Directory(_) => Ok(Vec::new()),
            Self::Secret(store) => store.handed_out().await,
        }
    }

    /// What is kept, whenever that is something else; `None`: nobody else writes there.
    pub fn changes(&self) -> Option<watch::Receiver<Option<Stored>>> {
        match self {
            Self::Directory(_) => None,
            Self::Secret(store) => Some(store.changes()),
        }
    }

    /// Tells people, where the store has a place for that; the log is the caller's part.
    pub async fn tell(&self, news: &News) {
        match self {
            Self::Directory(_) => {}
            Self::Secret(store) => store.tell(news).await,
        }
    }
}

/// Where, for people.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(store) => fmt::Display::fmt(store, f),
            Self::Secret(store) => fmt::Display::fmt(&**store, f),
        }
    }
}
