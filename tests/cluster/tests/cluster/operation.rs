//! What an operator does with meshctl between the installation and the end, on the cluster of `install.rs`: tries,
//! upgrades, asks about proxies, injects files, and takes the mesh out while pods rely on it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use serde_json::Value;
use tokio::process::Command;

use super::install::{COMMAND_LIMIT, NAMESPACE, everything, has_proxy, meshctl, objects, run};
use super::shared;

/// Before anything is installed: what is tried is not kept, and exit codes are the documented ones.
pub(crate) async fn nothing_is_kept_of_what_is_tried(cluster: &Cluster) -> Result<()> {
    let before = everything(cluster).await?;
    for (case, arguments, code) in [
        ("fit for a mesh", &["check", "--pre"][..], 0),
        ("no mesh", &["check"], 3),
        ("no such context", &["check", "--context", "nowhere"], 1),
        ("no such kubeconfig", &["check", "--kubeconfig", "/nowhere"], 1),
        ("no such flag", &["check", "--nowhere"], 2),
        ("nothing to upgrade", &["upgrade", "--apply"], 1),
    ] {
        let output = run(cluster, arguments).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{case}: {}: {complaint}", output.status);
    }
    let tried = meshctl(cluster, &["install", "--apply", "--dry-run=server", "-o", "name"]).await?;
    ensure!(
        tried.contains(
            "clusterrole.rbac.authorization.k8s.io/heddle-injector created (server dry run)"
        ),
        "{tried}"
    );
    let names = meshctl(cluster, &["install", "-o", "name"]).await?;
    ensure!(names.lines().count() == tried.lines().count(), "{names} {tried}");
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    for (name, tried) in names.lines().zip(tried.lines().map(name)) {
        ensure!(name == tried, "{name} is tried as {tried}");
    }
    let context = cluster.kubectl(&["config", "current-context"], "").await?;
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().context("its path is text")?;
    let mut named = Command::new(shared::mesh_program("meshctl")?);
    named.args(["check", "--pre", "--kubeconfig", kubeconfig, "--context", context.trim()]);
    let output = named.env_remove("KUBECONFIG").output().await?;
    ensure!(output.status.success(), "by name: {}", String::from_utf8_lossy(&output.stdout));
    let after = everything(cluster).await?;
    ensure!(before == after, "something was kept: {:?}", after.difference(&before));
    Ok(())
}

/// An older version, of several replicas, is there, applied by kubectl; what this version lacks goes with the upgrade.
pub(crate) async fn an_older_version_is_upgraded(cluster: &Cluster) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let set = format!("image.tag={own}");
    let install = ["install", "--ha", "--set", &set];
    let printed = meshctl(cluster, &install).await?;
    let label = |version: &str| format!("app.kubernetes.io/version: \"{version}\"");
    let older = printed.replace(&label(own), &label(OLDER));
    ensure!(older != printed, "no label {} in {printed}", label(own));
    let apply = ["apply", "--server-side", "--field-manager=meshctl", "-f", "-"];
    cluster.kubectl(&apply, &format!("{older}\n---\n{GONE}")).await?;
    let refused = run(cluster, &["install", "--apply"]).await?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(complaint.contains("meshctl upgrade"), "it is installed over: {complaint}");

    let tried = run(cluster, &["upgrade", "-o", "name"]).await?;
    let told = String::from_utf8_lossy(&tried.stderr).into_owned();
    ensure!(told.contains("configmap/heddle-gone would be deleted"), "{told}");
    let upgraded = meshctl(cluster, &["upgrade", "--apply", "--timeout", "3m"]).await?;
    ensure!(upgraded.contains("configmap/heddle-gone deleted"), "{upgraded}");
    ensure!(upgraded.contains("deployment.apps/heddle-injector configured"), "{upgraded}");
    // The values are kept: three and two, one of each at a time.
    ensure!(replicas(cluster).await? == [3, 2], "{:?}", replicas(cluster).await?);
    ensure!(budgets(cluster).await? == 2, "{} budgets", budgets(cluster).await?);
    let again = meshctl(cluster, &[&install[..], &["--apply", "--timeout", "3m"]].concat()).await?;
    let changed: Vec<&str> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
    ensure!(changed.is_empty(), "a second time changes something: {changed:?}");
    let reset = ["upgrade", "--apply", "--reset-values", "--timeout", "3m"];
    let fewer = meshctl(cluster, &reset).await?;
    ensure!(fewer.contains("poddisruptionbudget.policy/heddle-injector deleted"), "{fewer}");
    ensure!(replicas(cluster).await? == [1, 1] && budgets(cluster).await? == 0, "{fewer}");
    Ok(())
}

/// What of the older version the newer one does not have.
const GONE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: heddle-gone
  namespace: heddle-system
  labels: {app.kubernetes.io/name: heddle, app.kubernetes.io/part-of: heddle, app.kubernetes.io/managed-by: meshctl}
"#;
const OLDER: &str = "0.0.9";

/// Of the control plane and of the injector.
async fn replicas(cluster: &Cluster) -> Result<[u64; 2]> {
    let mut found = [0; 2];
    for (place, name) in found.iter_mut().zip(["heddle-control-plane", "heddle-injector"]) {
        let field = "jsonpath={.status.readyReplicas}";
        let get = ["-n", NAMESPACE, "get", "deployment", name, "-o", field];
        *place = cluster.kubectl(&get, "").await?.parse()?;
    }
    Ok(found)
}

async fn budgets(cluster: &Cluster) -> Result<usize> {
    Ok(objects(cluster, &["-n", NAMESPACE, "get", "poddisruptionbudgets"]).await?.len())
}

/// What meshctl tells of proxies, and as which program it may be called.
pub(crate) async fn proxies_are_told_of(cluster: &Cluster, shop: &str) -> Result<()> {
    let pods = objects(cluster, &["-n", shop, "get", "pods", "-l", "app=api"]).await?;
    let pod = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("no pod")?;
    let title = format!("{shop}/{pod}");
    let status = ["proxy", "status", pod, "-n", shop];
    let told = meshctl(cluster, &[&status[..], &["-o", "json"]].concat()).await?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told[0]["connected"] == true && told[0]["name"] == pod, "{told}");
    ensure!(told.as_array().is_some_and(|all| all.len() == 1), "{told}");
    let table = meshctl(cluster, &status).await?;
    ensure!(table.starts_with("PROXY") && table.contains(&title), "{table}");
    let wide = meshctl(cluster, &[&status[..], &["-o", "wide", "--no-headers"]].concat()).await?;
    ensure!(wide.starts_with(&title) && wide.contains("heddle-control-plane-"), "{wide}");

    let config = ["proxy", "config", &title];
    let sent = meshctl(cluster, &[&config[..], &["-o", "json"]].concat()).await?;
    let sent: Value = serde_json::from_str(&sent)?;
    let resources = sent["resources"].as_array().context("resources")?;
    let has = |text: &str| {
        let name = |resource: &Value| resource["resource"].as_str().map(str::to_owned);
        resources.iter().filter_map(name).any(|name| name.contains(text))
    };
    ensure!(has("workload") && has("destination"), "{sent}");
    let table = meshctl(cluster, &config).await?;
    ensure!(table.starts_with("RESOURCE") && table.contains("acknowledged"), "{table}");

    // As kubectl finds plugins.
    let place = tempfile::tempdir()?;
    std::os::unix::fs::symlink(
        shared::mesh_program("meshctl")?,
        place.path().join("kubectl-heddle"),
    )?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [place.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
    let mut plugin = Command::new(cluster.programs().join("kubectl"));
    plugin.args(["heddle", "check", "-o", "name"]).env("PATH", std::env::join_paths(folders)?);
    plugin.env("KUBECONFIG", cluster.kubeconfig()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, plugin.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(0), "{}: {said}", output.status);
    ensure!(!said.contains("fail: "), "{said}");
    Ok(())
}

/// A namespace whose Pod Security refuses proxies is named, and does refuse them.
pub(crate) async fn a_namespace_that_refuses_proxies_is_named(cluster: &Cluster) -> Result<()> {
    let namespace = shared::namespace(cluster, "restricted").await?;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", &namespace, "heddle.dev/inject=enabled", enforce];
    cluster.kubectl(&label, "").await?;
    let output = run(cluster, &["check", "-o", "name"]).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(3), "{}: {said}", output.status);
    let named = format!("fail: coverage: namespace {namespace}: Pod Security `restricted`");
    ensure!(said.contains(&named), "{said}");
    let pod = RESTRICTED.replace("NAMESPACE", &namespace);
    let tried = cluster.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod).await;
    let refusal = tried.map(drop).map_err(|error| format!("{error:#}"));
    ensure!(
        refusal.as_ref().is_err_and(|text| text.contains("heddle-redirect")),
        "it is not refused for its proxy: {refusal:?}"
    );
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await?;
    Ok(())
}

/// As restricted as a pod can be.
const RESTRICTED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: restricted, namespace: NAMESPACE}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: a
    image: busybox:1
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

/// A file gets its proxy, and loses it, where no webhook changes pods.
pub(crate) async fn files_are_injected_and_uninjected(
    cluster: &Cluster,
    plain: &str,
) -> Result<()> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("filed.yaml");
    let name = file.to_str().context("its path is text")?;
    fs::write(&file, FILED)?;
    for (command, expected) in [("inject", true), ("uninject", false)] {
        // What the cluster has can change between the two, as an operator's could.
        wait::until("the file is applied", Duration::from_secs(60), async || {
            if !expected {
                let get = ["-n", plain, "get", "deployment/filed", "-o", "yaml"];
                fs::write(&file, cluster.kubectl(&get, "").await?)?;
            }
            let changed = meshctl(cluster, &[command, "-f", name]).await?;
            cluster.kubectl(&["-n", plain, "apply", "-f", "-"], &changed).await
        })
        .await?;
        let rollout = ["-n", plain, "rollout", "status", "deployment/filed", "--timeout=120s"];
        cluster.kubectl(&rollout, "").await?;
        let running = ["-n", plain, "get", "pods", "-l", "app=filed"];
        let pods = objects(cluster, &running).await?;
        let newest = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let proxied: Vec<bool> = newest.map(has_proxy).collect();
        ensure!(proxied == [expected], "{command}: {proxied:?}");
    }
    Ok(())
}

const FILED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: filed}
spec:
  selector: {matchLabels: {app: filed}}
  template:
    metadata: {labels: {app: filed}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: filed, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "1000"]}
"#;

/// Pods rely on the mesh: it does not go before somebody says so, and leaves them what they mount.
pub(crate) async fn a_mesh_that_is_relied_on_goes_by_force_only(
    cluster: &Cluster,
    shop: &str,
) -> Result<()> {
    let before = everything(cluster).await?;
    let refused = run(cluster, &["uninstall", "--apply"]).await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{}: {told}", refused.status);
    for expected in [
        "--force".to_owned(),
        format!("kubectl label namespace {shop} heddle.dev/inject-"),
        format!("kubectl rollout restart -n {shop} deployment/api deployment/frontend"),
    ] {
        ensure!(told.contains(&expected), "no {expected:?} in {told}");
    }
    let anchors = format!("ConfigMap {shop}/heddle-trust-anchors");
    ensure!(everything(cluster).await?.is_superset(&mesh_of(&before)), "something went");
    meshctl(cluster, &["uninstall", "--apply", "--force"]).await?;
    let mut expected = [
        anchors,
        "CustomResourceDefinition /trafficpolicies.heddle.dev".to_owned(),
        format!("Namespace /{NAMESPACE}"),
        format!("Secret {NAMESPACE}/heddle-authority"),
        // Every namespace has these two of Kubernetes' own.
        format!("ConfigMap {NAMESPACE}/kube-root-ca.crt"),
        format!("ServiceAccount {NAMESPACE}/default"),
    ];
    expected.sort();
    // Some of it is deleted by Kubernetes, in its own time.
    wait::until("nothing but what is named is left", Duration::from_secs(60), async || {
        let after = everything(cluster).await?;
        let kept: Vec<&String> = after.iter().filter(|name| name.contains("heddle")).collect();
        ensure!(kept == expected.iter().collect::<Vec<_>>(), "kept: {kept:?}");
        Ok(())
    })
    .await?;
    let gone = run(cluster, &["check", "-o", "name"]).await?;
    ensure!(gone.status.code() == Some(3), "the check says {}", gone.status);
    // The commands that were printed do what they are for.
    for command in told.lines().filter_map(|line| line.trim().strip_prefix("kubectl ")) {
        if command.contains(shop) && !command.contains('|') {
            cluster.kubectl(&command.split(' ').collect::<Vec<_>>(), "").await?;
        }
    }
    for name in ["frontend", "api", "store"] {
        let deployment = format!("deployment/{name}");
        let wait = ["-n", shop, "rollout", "status", &deployment, "--timeout=120s"];
        cluster.kubectl(&wait, "").await?;
    }
    Ok(())
}

/// Objects of the mesh that do not come and go by themselves.
fn mesh_of(all: &BTreeSet<String>) -> BTreeSet<String> {
    let stays = |name: &&String| {
        name.contains("/heddle-")
            && !name.contains("heddle-trust-anchors")
            && !["Pod ", "ReplicaSet ", "EndpointSlice "].iter().any(|kind| name.starts_with(kind))
    };
    all.iter().filter(stays).cloned().collect()
}
