//! Waits until what was applied works, and says what it waits for. When it does, is decided in `rollout`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::rollout::{self, Progress};
use super::tell;
use crate::chart::manifest::{Manifest, ObjectId};
use crate::failure::Failure;
use crate::kubernetes::client::Cluster;
use crate::kubernetes::objects::{Filter, LOOK_AGAIN, resource};

/// Waits at most so long until all of them work.
pub async fn until_ready(
    cluster: &Cluster,
    manifests: &[Manifest],
    patience: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let mut told: BTreeMap<ObjectId, String> = BTreeMap::new();
    loop {
        let pending = pending(cluster, manifests).await?;
        for (id, what) in &pending {
            if told.get(id) != Some(what) {
                tell(&format!("waiting for {id}: {what}\n"));
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(gave_up(cluster, &pending, patience).await);
        }
        told = pending;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn pending(
    cluster: &Cluster,
    manifests: &[Manifest],
) -> Result<BTreeMap<ObjectId, String>, Failure> {
    let mut pending = BTreeMap::new();
    for manifest in manifests {
        // Most kinds are done once they are applied.
        if rollout::progress(manifest.kind, Some(&manifest.object)) == Progress::Ready {
            continue;
        }
        let id = manifest.id();
        let resource = manifest.kind.resource();
        let object = cluster.get(&resource, id.namespace.as_deref(), &id.name).await?;
        if let Progress::Pending(what) = rollout::progress(manifest.kind, object.as_ref()) {
            pending.insert(id, what);
        }
    }
    Ok(pending)
}

async fn gave_up(
    cluster: &Cluster,
    pending: &BTreeMap<ObjectId, String>,
    patience: Duration,
) -> Failure {
    let namespace = &cluster.mesh_namespace;
    let filter = Filter {
        namespace: Some(namespace),
        labels: "app.kubernetes.io/name=heddle",
        ..Filter::default()
    };
    let seconds = patience.as_secs();
    let mut failure = Failure::new(
        format!("the mesh is applied, and does not work after {seconds} s"),
        format!(
            "see what its pods say: `kubectl -n {namespace} describe pods` and `kubectl -n {namespace} logs -l app.kubernetes.io/name=heddle`; once mended: `meshctl check --mesh-namespace {namespace}`"
        ),
    );
    for (id, what) in pending {
        failure = failure.because_of(format!("{id}: {what}"));
    }
    // What cannot be read is no news here.
    let pods = cluster.list(&resource("v1", "Pod", "pods"), filter).await.unwrap_or_default();
    for complaint in rollout::complaints(&pods) {
        failure = failure.because_of(complaint);
    }
    failure
}
