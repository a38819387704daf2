//! Join tokens: secrets that a local runner mints, one for each workload, and whose hashes it writes to
//! a file. A token is honoured only while its pod is live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use heddle_model::identity::PodUid;
use sha2::{Digest, Sha256};

use crate::identity::attest::{Attest, Attested, NotAttested};
use crate::push::publisher::Snapshots;
use crate::snapshot::{Contents, Snapshot};

/// Attests by a file of join tokens, read anew each time.
#[derive(Debug)]
pub struct JoinTokens {
    file: PathBuf,
    snapshots: Snapshots,
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
        Self { file, snapshots }
    }

    async fn owner(&self, token: &str) -> Result<(Owner, PodUid), NotAttested> {
        let unavailable = |what, source| NotAttested::Unavailable { what, source: Some(source) };
        let what = "the file of join tokens cannot be read";
        let text = tokio::fs::read(&self.file).await;
        let text = text.map_err(|error| unavailable(what, error.into()))?;
        let owners: BTreeMap<String, Owner> =
            serde_json::from_slice(&text).map_err(|error| unavailable(what, error.into()))?;
        // Looked up by hash, how long it takes says nothing about the tokens themselves.
        let owner = owners.get(&hash(token)).cloned().ok_or(NotAttested::UnknownToken)?;
        let uid = owner.pod_uid.parse::<PodUid>();
        let uid = uid.map_err(|error| unavailable(what, error.into()))?;
        Ok((owner, uid))
    }
}

#[tonic::async_trait]
impl Attest for JoinTokens {
    async fn attest(&self, token: &str) -> Result<Attested, NotAttested> {
        let (owner, pod_uid) = self.owner(token).await?;
        let mut snapshots = self.snapshots.clone();
        // A workload may ask before the source has told of its pod.
        let find = |snapshot: &Option<Snapshot>| {
            snapshot.as_ref().and_then(|snapshot| live(&snapshot.contents, &owner, &pod_uid))
        };
        let found = snapshots.wait_for(|snapshot| find(snapshot).is_some());
        let _ = tokio::time::timeout(POD_PATIENCE, found).await.is_ok();
        let snapshot = self.snapshots.borrow().clone();
        match (find(&snapshot), snapshot) {
            (Some(attested), _) => Ok(attested),
            (None, None) => {
                let what = "the configuration has not been read yet";
                Err(NotAttested::Unavailable { what, source: None })
            }
            (None, Some(_)) => Err(NotAttested::NoLivePod {
                namespace: owner.namespace.clone(),
                service_account: owner.service_account.clone(),
                pod_uid: pod_uid.clone(),
            }),
        }
    }
}

/// The owner's pod, if it is live and is what the token says.
fn live(contents: &Contents, owner: &Owner, pod_uid: &PodUid) -> Option<Attested> {
    let pod = contents.pods.get(pod_uid).filter(|pod| pod.live)?;
    let same = pod.identity.namespace() == owner.namespace
        && pod.identity.service_account() == owner.service_account;
    same.then(|| Attested { identity: pod.identity.clone(), pod_uid: pod_uid.clone() })
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long a token's pod may lag behind the token.
const POD_PATIENCE: Duration = Duration::from_millis(500);
