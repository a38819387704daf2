//! What happens to a cluster all day, under load: nothing is lost of it. On a cluster of its own, whose API server stops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;

use super::mesh::{Mesh, NAMESPACE};
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
    let names = system(&["get", "pods", "-l", label, "-o", "name"]).await?;
    let first = names.lines().next().context("there is a control plane")?;
    system(&["delete", first, "--grace-period=0", "--force"]).await?;
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

/// How long there is no API server.
const OUTAGE: Duration = Duration::from_secs(120);
const PER_SECOND: u32 = 50;
