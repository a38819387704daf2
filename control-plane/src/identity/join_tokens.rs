//! Join tokens: secrets that a local runner mints, one for each workload, and whose hashes it writes to
//! a file. A token is honoured only while its pod is live, and only from the pod's addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use heddle_model::identity::PodUid;
use sha2::{Digest, Sha256};

use crate::identity::attest::{Attest, Attested, NotAttested};
use crate::identity::live_pod::{self, Claim};
use crate::push::publisher::Snapshots;

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
