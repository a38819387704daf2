//! The chart, installed by the real Helm, where `HELM` names one or `helm` is on the path.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use tokio::process::Command;

use super::install::{self, NAMESPACE, meshctl, run};

/// Installs, upgrades and uninstalls. `before`: what the cluster holds without a mesh.
pub(crate) async fn round(cluster: &Cluster, before: &BTreeSet<String>) -> Result<()> {
    let Some(helm) = helm().await else {
        eprintln!(
            "NOT INSTALLED BY HELM: there is no `helm` here. Set HELM to one; CONTRIBUTING.md says how to get it."
        );
        return Ok(());
    };
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../install/chart/heddle");
    let ask = async |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(&helm);
        command.args(arguments).args(["--namespace", NAMESPACE]).kill_on_drop(true);
        command.env("KUBECONFIG", cluster.kubeconfig());
        let output = tokio::time::timeout(LIMIT, command.output());
        let output = output.await.with_context(|| format!("helm {arguments:?} does not end"))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {arguments:?}: {said}{complaint}");
        Ok(said)
    };
    let wait = ["--wait", "--timeout", "3m"];
    ask(&[&["install", "heddle", chart, "--create-namespace"], &wait[..]].concat()).await?;
    install::is_well(cluster).await.context("after helm install")?;
    let refused = run(cluster, &["install", "--apply"]).await?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && complaint.contains("was installed by Helm"),
        "meshctl writes over it: {complaint}"
    );

    let set = ["--set", "injector.replicas=2,injector.podDisruptionBudget.enabled=true"];
    ask(&[&["upgrade", "heddle", chart], &set[..], &wait].concat()).await?;
    install::is_well(cluster).await.context("after helm upgrade")?;
    let get = ["-n", NAMESPACE, "get", "deployment,pdb", "-o", "name"];
    let objects = cluster.kubectl(&get, "").await?;
    ensure!(objects.contains("poddisruptionbudget.policy/heddle-injector"), "{objects}");

    ask(&["uninstall", "heddle", "--wait", "--timeout", "3m"]).await?;
    let crd = ["get", "crd", "trafficpolicies.heddle.dev", "-o", "name"];
    cluster.kubectl(&crd, "").await.context("the definition stays")?;
    // What the mesh made itself, and Helm does not know.
    meshctl(cluster, &["uninstall", "--apply", "--purge"]).await?;
    let remove = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s"];
    cluster.kubectl(&remove, "").await?;
    let after = install::everything(cluster).await?;
    let left: Vec<&String> = after.difference(before).collect();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

async fn helm() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "where Helm is, is the machine's to say")]
    let named = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let answers = Command::new(&named).arg("version").output().await;
    answers.is_ok_and(|output| output.status.success()).then_some(named)
}

/// More than Helm waits.
const LIMIT: Duration = Duration::from_secs(240);
