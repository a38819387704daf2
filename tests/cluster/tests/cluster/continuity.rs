//! What happens to a cluster all day, under load: nothing is lost of it. On a cluster of its own, whose API server stops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;

use super::mesh::{self, Mesh, NAMESPACE};
use super::shared;
use super::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_of_what_happens_to_a_cluster_all_day() -> Result<()> {
    let (cluster, own) = shared::of_ones_own("continuity").await?;
    let outcome = day(&cluster).await;
    if own {
        cluster.end().await?;
    }
    outcome
}

async fn day(cluster: &Cluster) -> Result<()> {
    // Without an API server no token can be reviewed: a certificate has to last, from half of its life on.
    let mesh = Mesh::install(cluster, "10m").await?;
    let namespace = mesh.namespace("day").await?;
    let shop = Shop::deploy(cluster, namespace, 2).await?;
    let seconds = 60 + u32::try_from(OUTAGE.as_secs())? + 60;
    shop.begin(PER_SECOND, seconds).await?;

    for name in ["api-v1", "api-v2"] {
        shop.kubectl(&["rollout", "restart", &format!("deployment/{name}")]).await?;
    }
    for name in ["api-v1", "api-v2"] {
        shop.rolled_out(name).await?;
    }
    eprintln!("the application is rolled");

    let system = async |arguments: &[&str]| {
        cluster.kubectl(&[&["-n", NAMESPACE], arguments].concat(), "").await
    };
    system(&["rollout", "restart", "deployment/heddle-control-plane"]).await?;
    let wait = ["rollout", "status", "deployment/heddle-control-plane", "--timeout=120s"];
    system(&wait).await?;
    let label = "app.kubernetes.io/component=control-plane";
    // Not one of those that the rollout has ended: it may be gone before it is killed.
    let staying = "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{\"\\n\"}}{{end}}{{end}}";
    let names = system(&["get", "pods", "-l", label, "-o", staying]).await?;
    let first = names.lines().next().context("there is a control plane")?;
    system(&["delete", "pod", first, "--grace-period=0", "--force"]).await?;
    system(&wait).await?;
    eprintln!("the control plane is rolled, and one replica killed");

    evict(cluster).await?;
    eprintln!("a node is emptied");

    cluster.stop("node1", "kube-apiserver").await?;
    tokio::time::sleep(OUTAGE).await;
    cluster.resume("node1", "kube-apiserver").await?;
    wait::until("the API server is back", Duration::from_secs(60), async || {
        cluster.kubectl(&["get", "nodes"], "").await
    })
    .await?;
    eprintln!("the API server is back");

    let counts = shop.ended(Duration::from_secs(240)).await?;
    eprintln!("{counts:?}");
    // A machine that is busy sends later, and fewer.
    counts.ensure_whole(u64::from(PER_SECOND * seconds) / 2)
}

/// Empties the node where the load is not.
async fn evict(cluster: &Cluster) -> Result<()> {
    let drain =
        ["drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
    cluster.kubectl(&[&drain[..], &["--pod-selector=app=api"]].concat(), "").await?;
    cluster.kubectl(&["uncordon", "node2"], "").await?;
    let left = ["get", "pods", "-A", "-l", "app=api", "--field-selector=spec.nodeName=node2"];
    let left = cluster.kubectl(&[&left[..], &["-o", "name"]].concat(), "").await?;
    ensure!(left.trim().is_empty(), "these stayed: {left}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_when_the_node_of_the_leader_is_emptied() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let shop = Shop::deploy(cluster, mesh.namespace("leader").await?, 1).await?;
    shop.begin(PER_SECOND, 45).await?;
    let former = leader(cluster).await?;
    let get = ["-n", NAMESPACE, "get", "pod", &former, "-o", "jsonpath={.spec.nodeName}"];
    let node = cluster.kubectl(&get, "").await?;
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
    let own = "--pod-selector=app.kubernetes.io/component=control-plane";
    let drained = cluster.kubectl(&[&drain[..], &[own]].concat(), "").await;
    cluster.kubectl(&["uncordon", &node], "").await?;
    drained?;
    wait::until("another leads", Duration::from_secs(60), async || {
        let now = leader(cluster).await?;
        ensure!(!now.is_empty() && now != former, "{now:?} leads");
        Ok(())
    })
    .await?;
    let wait = ["rollout", "status", "deployment/heddle-control-plane", "--timeout=120s"];
    cluster.kubectl(&[&["-n", NAMESPACE], &wait[..]].concat(), "").await?;
    // Nor are changes lost after it: a pod that is new is found.
    shop.kubectl(&["rollout", "restart", "deployment/api-v1"]).await?;
    shop.rolled_out("api-v1").await?;
    let counts = shop.ended(Duration::from_secs(180)).await?;
    eprintln!("{counts:?}");
    counts.ensure_whole(u64::from(PER_SECOND) * 45 / 2)?;
    shop.end().await
}

/// The pod of the control plane that writes.
async fn leader(cluster: &Cluster) -> Result<String> {
    let get = ["-n", NAMESPACE, "get", "lease", "heddle-control-plane"];
    cluster.kubectl(&[&get[..], &["-o", "jsonpath={.spec.holderIdentity}"]].concat(), "").await
}

/// How long there is no API server.
const OUTAGE: Duration = Duration::from_secs(120);
const PER_SECOND: u32 = 50;
