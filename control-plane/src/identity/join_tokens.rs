//! Join tokens: secrets that a local runner mints, one for each workload, and whose hashes it writes to
//! a file. A token is honoured only while its pod is live, and only from the pod's addresses.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use heddle_model::identity::PodUid;
use heddle_runtime::clock;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::identity::attest::{Attest, Attested, NotAttested};
use crate::identity::live_pod::{self, Claim};
use crate::push::publisher::Snapshots;

/// Attests by a file of join tokens, read anew when it is another.
#[derive(Debug)]
pub struct JoinTokens {
    file: PathBuf,
    snapshots: Snapshots,
    /// A thousand proxies that come at once are not to cost a thousand readings of a thousand tokens.
    known: Mutex<Option<Known>>,
}

/// By the hashes of their tokens.
type Owners = BTreeMap<String, Owner>;

/// What the file said, and by what it is known again.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    owners: Arc<Owners>,
    read_at: Instant,
}

/// What is another when the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Who was given a token.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Owner {
    namespace: String,
    service_account: String,
    pod_uid: String,
}

impl JoinTokens {
    /// `snapshots` tell which pods are live.
    pub fn new(file: PathBuf, snapshots: Snapshots) -> Self {
        Self { file, snapshots, known: Mutex::default() }
    }

    async fn owners(&self) -> io::Result<Arc<Owners>> {
        let stamp = Stamp::of(&tokio::fs::metadata(&self.file).await?);
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|known| known.stamp == stamp && known.read_at.elapsed() < KEPT)
            .map(|known| Arc::clone(&known.owners));
        if let Some(known) = known {
            return Ok(known);
        }
        // Before it is looked at, or what is written while it is read would have rested.
        let (now, read_at) = (clock::now(), Instant::now());
        let mut file = File::open(&self.file).await?;
        // Of what is read, whatever stands in its place meanwhile.
        let metadata = file.metadata().await?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).await?;
        let owners: Arc<Owners> = Arc::new(serde_json::from_slice(&text)?);
        // What is written within one tick of the file system's clock looks the same before and after. When it was changed
        // is what nobody can set.
        let age = now.duration_since(UNIX_EPOCH).ok().and_then(|now| {
            let changed_s = u64::try_from(metadata.ctime()).ok()?;
            let changed_ns = u32::try_from(metadata.ctime_nsec()).ok()?;
            now.checked_sub(Duration::new(changed_s, changed_ns))
        });
        let has_rested = age.is_some_and(|age| age > FRESH);
        let owned = Arc::clone(&owners);
        let stamp = Stamp::of(&metadata);
        let known = has_rested.then_some(Known { stamp, owners: owned, read_at });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(owners)
    }

    async fn owner(&self, token: &str) -> Result<(Owner, PodUid), NotAttested> {
        let unavailable = |what, source| NotAttested::Unavailable { what, source: Some(source) };
        let what = "the file of join tokens cannot be read";
        let owners = self.owners().await.map_err(|error| unavailable(what, error.into()))?;
        // Looked up by hash, how long it takes says nothing about the tokens themselves.
        let owner = owners.get(&hash(token)).cloned().ok_or(NotAttested::UnknownToken)?;
        let uid = owner.pod_uid.parse::<PodUid>();
        let uid = uid.map_err(|error| unavailable(what, error.into()))?;
        Ok((owner, uid))
    }
}

#[tonic::async_trait]
impl Attest for JoinTokens {
    async fn attest(&self, token: &str, from: IpAddr) -> Result<Attested, NotAttested> {
        let (owner, pod_uid) = self.owner(token).await?;
        let claim = Claim {
            namespace: owner.namespace,
            service_account: owner.service_account,
            pod_uid,
            pod_name: None,
        };
        live_pod::prove(&self.snapshots, &claim, from, POD_PATIENCE).await
    }
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long a token's pod may lag behind the token.
const POD_PATIENCE: Duration = Duration::from_millis(500);
/// How long a file rests before its times tell its states apart: the clock of file systems ticks every 4 to 10 ms.
const FRESH: Duration = Duration::from_millis(100);
/// How long what was read counts without another look, for file systems whose clock has whole seconds or whose attributes
/// are remembered for a while.
const KEPT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn what_is_written_counts_at_once_and_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("join-tokens.json");
        let (_, snapshots) = watch::channel(None);
        let tokens = JoinTokens::new(file.clone(), snapshots);
        let write = |uid: &str| {
            let owner =
                format!(r#"{{"namespace": "n", "serviceAccount": "a", "podUid": "{uid}"}}"#);
            std::fs::write(&file, format!(r#"{{"{}": {owner}}}"#, hash("secret"))).unwrap();
        };
        let owner = async || tokens.owner("secret").await.map(|(_, uid)| uid.to_string());
        assert!(matches!(owner().await, Err(NotAttested::Unavailable { .. })), "no file");
        write("u-1");
        assert_eq!(owner().await.unwrap(), "u-1");
        assert!(tokens.known.lock().unwrap().is_none(), "it may look the same when it is another");
        write("u-2");
        assert_eq!(owner().await.unwrap(), "u-2");
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokens.known.lock().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it never rests");
            tokio::time::sleep(FRESH / 4).await;
            assert_eq!(owner().await.unwrap(), "u-2");
        }
        let known = || tokens.known.lock().unwrap().as_ref().map(|known| known.read_at);
        let first = known();
        tokens.owners().await.unwrap();
        assert!(known() == first || first.is_some_and(|first| first.elapsed() >= KEPT));
        assert!(matches!(tokens.owner("other").await, Err(NotAttested::UnknownToken)));
        write("u-3");
        assert_eq!(owner().await.unwrap(), "u-3");
        std::fs::write(&file, "{").unwrap();
        assert!(matches!(owner().await, Err(NotAttested::Unavailable { .. })), "it is broken");
    }
}
