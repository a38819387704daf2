//! What every control plane knows of its own proxies, brought together while a rotation is under way: one
//! ConfigMap, to which each replica writes an entry of its own. A process that is alone needs none.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use heddle_model::identity::PodUid;
use heddle_model::installation::{CONTROL_PLANE_SELECTOR, ROTATION_CONFIG_MAP};
use heddle_runtime::clock;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::identity::holdings::Holdings;
use crate::identity::kept::Kept;
use crate::identity::rotation::{Replica, Report, Several};
use crate::push::proxies::Proxies;
use crate::push::publisher::Snapshots;

/// The proxies that are connected to this control plane, and what they told.
#[derive(Clone, Debug)]
pub struct Population {
    /// Who is connected.
    pub proxies: Proxies,
    /// What they told.
    pub holdings: Holdings,
    /// What their pods are called.
    pub snapshots: Snapshots,
}

impl Population {
    /// Nothing was told so far.
    pub fn new(proxies: Proxies, snapshots: Snapshots) -> Self {
        Self { proxies, holdings: Holdings::default(), snapshots }
    }

    /// What this control plane knows. Those that a rotation leaves out count as if they had acknowledged.
    pub fn report(&self, kept: &Kept) -> Report {
        let Kept { authority, rotations } = kept;
        let is_left_out = |uid: &PodUid| {
            rotations.current.as_ref().is_some_and(|current| current.leaves_out(uid))
        };
        let (bundle, issuer) = (authority.bundle().digest(), authority.issuer_digest());
        let snapshot = self.snapshots.borrow().clone();
        let (mut unacknowledged, mut earlier_issuer) = (Several::default(), Several::default());
        let mut connected = 0;
        for (uid, _) in self.proxies.all().into_iter().filter(|(_, record)| record.connected) {
            connected += 1;
            let name = || {
                let pod = snapshot.as_ref().and_then(|snapshot| snapshot.contents.pods.get(&uid));
                pod.map_or_else(
                    || uid.to_string(),
                    |pod| format!("{}/{}", pod.reference.namespace, pod.reference.name),
                )
            };
            let held = self.holdings.of(&uid);
            if held.is_none_or(|held| held.bundle != bundle) && !is_left_out(&uid) {
                unacknowledged.add(name);
            }
            if held.is_some_and(|held| held.issuer != Some(issuer)) {
                earlier_issuer.add(name);
            }
        }
        let (bundle, issuer) = (bundle.to_string(), issuer.to_string());
        Report { bundle, issuer, connected, unacknowledged, earlier_issuer }
    }
}

/// The control planes that serve proxies.
#[derive(Debug)]
pub enum Replicas {
    /// This one only.
    Alone,
    /// Those of a Deployment.
    Several(Box<Shared>),
}

/// A ConfigMap that all replicas write to.
#[derive(Debug)]
pub struct Shared {
    maps: Api<ConfigMap>,
    pods: Api<Pod>,
    own: String,
}

/// What one replica wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// In seconds since 1970.
    at: u64,
    report: Report,
}

/// Why the other control planes are not heard.
#[derive(Debug, thiserror::Error)]
pub enum NotHeard {
    /// The API server refused, or could not be asked.
    #[error("what control planes tell each other cannot be read or written")]
    Api(#[source] Box<kube::Error>),
    /// The API server did not answer in time.
    #[error("the API server does not answer")]
    Timeout,
}

/// Whoever keeps the authority has other things to do than to wait for an API server that is away.
async fn within_limit<T>(
    asking: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, NotHeard> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
    answer.map_err(|_| NotHeard::Timeout)?.map_err(|error| NotHeard::Api(Box::new(error)))
}

impl Replicas {
    /// All of them, with what they told lately; this one as of now.
    pub async fn all(&self, own: Report) -> Result<Vec<Replica>, NotHeard> {
        match self {
            Self::Alone => Ok(vec![Replica { name: "local".to_owned(), report: Some(own) }]),
            Self::Several(shared) => within_limit(shared.all(own)).await,
        }
    }

    /// Tells the others.
    pub async fn tell(&self, own: &Report) -> Result<(), NotHeard> {
        match self {
            Self::Alone => Ok(()),
            Self::Several(shared) => within_limit(shared.tell(own)).await,
        }
    }

    /// Takes away what was told: nobody waits for it any more.
    pub async fn forget(&self) -> Result<(), NotHeard> {
        match self {
            Self::Alone => Ok(()),
            Self::Several(shared) => within_limit(shared.forget()).await,
        }
    }
}

impl Shared {
    /// In the mesh's namespace; `own` is the name of this pod.
    pub fn new(client: &Client, namespace: &str, own: &str) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            own: own.to_owned(),
        }
    }

    async fn all(&self, own: Report) -> Result<Vec<Replica>, kube::Error> {
        let pods = self.pods.list(&ListParams::default().labels(CONTROL_PLANE_SELECTOR)).await?;
        let names = pods.items.iter().filter(|pod| may_serve(pod));
        let names = names.filter_map(|pod| pod.metadata.name.clone()).collect();
        let map = self.maps.get_opt(ROTATION_CONFIG_MAP).await?;
        let told = map.and_then(|map| map.data).unwrap_or_default();
        Ok(replicas(names, &told, (&self.own, own), clock::now()))
    }

    async fn forget(&self) -> Result<(), kube::Error> {
        match self.maps.delete(ROTATION_CONFIG_MAP, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Each replica applies its own entry, as a manager of its own.
    async fn tell(&self, own: &Report) -> Result<(), kube::Error> {
        let entry = Entry { at: seconds(clock::now()), report: own.clone() };
        let text = serde_json::to_string(&entry).map_err(kube::Error::SerdeError)?;
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": ROTATION_CONFIG_MAP,
                "labels": {
                    "app.kubernetes.io/name": "heddle",
                    "app.kubernetes.io/component": "control-plane",
                    "app.kubernetes.io/part-of": "heddle",
                    "app.kubernetes.io/managed-by": MANAGER,
                },
            },
            "data": { self.own.clone(): text },
        });
        let manager: String =
            format!("{MANAGER}-{}", self.own).chars().take(MANAGER_LIMIT).collect();
        let parameters = PatchParams::apply(&manager).force();
        self.maps.patch(ROTATION_CONFIG_MAP, &parameters, &Patch::Apply(map)).await.map(drop)
    }
}

/// The replicas by their pods. What was told too long ago is not told.
fn replicas(
    pods: Vec<String>,
    told: &BTreeMap<String, String>,
    (own_name, own): (&str, Report),
    now: SystemTime,
) -> Vec<Replica> {
    let others = pods.into_iter().filter(|name| name != own_name).map(|name| {
        let entry = told.get(&name).and_then(|text| serde_json::from_str::<Entry>(text).ok());
        let fresh = entry.filter(|entry| entry.at.abs_diff(seconds(now)) <= FRESH.as_secs());
        Replica { report: fresh.map(|entry| entry.report), name }
    });
    let mut all = vec![Replica { name: own_name.to_owned(), report: Some(own) }];
    all.extend(others);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// Runs, or may any moment.
fn may_serve(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Running" | "Pending"))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What we are called where writers are named.
const MANAGER: &str = "heddle-control-plane";
/// Of the API server.
const MANAGER_LIMIT: usize = 128;
/// Several times as long as replicas take to tell again, and the clocks of two machines may differ.
const FRESH: Duration = Duration::from_secs(60);
const NOT_FOUND: u16 = 404;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(connected: usize) -> Report {
        Report {
            bundle: "b".to_owned(),
            issuer: "i".to_owned(),
            connected,
            unacknowledged: Several::default(),
            earlier_issuer: Several::default(),
        }
    }

    #[test]
    fn a_replica_that_told_nothing_lately_is_not_left_out() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let entry = |at| serde_json::to_string(&Entry { at, report: report(7) }).unwrap();
        let told = BTreeMap::from([
            ("cp-1".to_owned(), entry(990)),
            ("cp-2".to_owned(), entry(900)),
            ("cp-3".to_owned(), "{".to_owned()),
            ("cp-gone".to_owned(), entry(999)),
            ("cp-own".to_owned(), entry(999)),
        ]);
        let pods = ["cp-own", "cp-1", "cp-2", "cp-3", "cp-4"].map(str::to_owned).to_vec();
        let all = replicas(pods, &told, ("cp-own", report(3)), now);
        let found: Vec<_> = all
            .iter()
            .map(|one| (one.name.as_str(), one.report.as_ref().map(|report| report.connected)))
            .collect();
        let expected = [
            ("cp-1", Some(7)),
            ("cp-2", None),
            ("cp-3", None),
            ("cp-4", None),
            ("cp-own", Some(3)),
        ];
        assert_eq!(found, expected);
    }
}
