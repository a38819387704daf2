//! What meshctl shows of an application on a real Kubernetes is what it shows of a local mesh: each show is asked for as JSON and
//! as a table, of one shop that is being asked.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::wait;
use serde_json::Value;

use super::mesh::{self, Mesh};
use super::shop::Shop;
use super::traffic::{shop, split};

#[tokio::test]
async fn meshctl_shows_a_cluster_as_it_shows_a_local_mesh() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "shows").await?;
    shop.apply(&split(20)).await?;
    let namespace = shop.namespace.as_str();
    everything_is_told(mesh, &shop).await?;

    // What is asked, where the answer is in it, and what must be there, in the JSON and in the table alike.
    for (arguments, place, wanted) in [
        (&["stat", "deploy"][..], "/rows", &["api-v1", "api-v2", "store"][..]),
        (&["stat", "svc"], "/rows", &["api:80", "store:9000"]),
        (&["stat", "backend"], "/rows", &["api-v1:80", "api-v2:80"]),
        (&["stat", "route"], "/rows", &["api"]),
        (&["edges"], "/edges", &["client", "api-v1", "store:9000"]),
        (&["top", "deploy", "--once"], "/rows", &["api-v1", "api-v2"]),
        (&["routes"], "/routes", &["api-v1", "api-v2"]),
        (&["split"], "/splits", &["api-v1", "api-v2"]),
        (&["proxy", "status"], "", &["client", "api-v1", "store"]),
        (&["why", "pod/client", "api", "GET", "/"], "/steps", &["TrafficSplit", "api-v1"]),
    ] {
        let arguments = [arguments, &["-n", namespace]].concat();
        let said: Value =
            serde_json::from_str(&mesh.ask(&[&arguments[..], &["-o", "json"]].concat()).await?)
                .with_context(|| format!("{arguments:?}"))?;
        let found = said.pointer(place).and_then(Value::as_array);
        let found = found.with_context(|| format!("{arguments:?}: {place} is no list: {said}"))?;
        ensure!(!found.is_empty(), "{arguments:?} shows nothing: {said}");
        let text = said.to_string();
        let table = mesh.ask(&arguments).await?;
        for wanted in wanted {
            ensure!(text.contains(wanted), "{arguments:?}: {wanted} is not in {text}");
            ensure!(table.contains(wanted), "{arguments:?}: {wanted} is not in {table}");
        }
    }
    secured(mesh, namespace).await?;
    set(mesh, &shop).await?;
    shop.end().await
}

/// Each edge between workloads is, with the identities that certificates have. Kubelets have none: their probes are shown as
/// what they are.
async fn secured(mesh: &Mesh<'_>, namespace: &str) -> Result<()> {
    let edges: Value =
        serde_json::from_str(&mesh.ask(&["edges", "-n", namespace, "-o", "json"]).await?)?;
    let edges = edges["edges"].as_array().context("no edges")?;
    let between: Vec<&Value> = edges.iter().filter(|edge| edge["source"].is_object()).collect();
    // The client and both versions, and at least one version and the store.
    ensure!(between.len() >= 3, "{edges:?}");
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/default");
    for edge in between {
        ensure!(edge["secured"] == true && edge["client_identity"] == identity, "{edge}");
    }
    Ok(())
}

/// A canary is moved by meshctl, in the cluster's own object, and the proxies have it.
async fn set(mesh: &Mesh<'_>, shop: &Shop<'_>) -> Result<()> {
    let namespace = shop.namespace.as_str();
    mesh.ask(&["split", "set", "api", "api-v1=0", "api-v2=100", "-n", namespace]).await?;
    wait::until("the second version has all requests", Duration::from_secs(60), async || {
        let counts = shop.requests(100).await?;
        ensure!(counts.versions.get("v2") == Some(&100), "{counts:?}");
        Ok(())
    })
    .await
}

/// Proxies tell every ten seconds.
async fn everything_is_told(mesh: &Mesh<'_>, shop: &Shop<'_>) -> Result<()> {
    let edges = ["edges", "-n", shop.namespace.as_str(), "-o", "json"];
    wait::until("every pair that talks is told of", Duration::from_secs(120), async || {
        shop.requests(200).await?.ensure_whole(200)?;
        let said = mesh.ask(&edges).await?;
        for wanted in ["api-v1:80", "api-v2:80", "store:9000"] {
            ensure!(said.contains(wanted), "nobody tells of {wanted}: {said}");
        }
        Ok(())
    })
    .await
}
