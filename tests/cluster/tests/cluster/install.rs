//! `meshctl install`, `check`, `upgrade` and `uninstall` on a cluster of their own: what they say is so. What an operator
//! does between them is in `operation.rs`, what Helm does in `helm.rs`.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use serde_json::Value;
use tokio::process::Command;

use super::{helm, operation, shared};

/// Three ordinary applications, with unnamed ports, and who asks the first.
const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: frontend}
spec: {selector: {app: frontend}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {selector: {app: store}, ports: [{port: 9000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec:
      containers:
      - {name: frontend, image: "heddle/shop:0.1.0", args: [shop, frontend, --listen, "0.0.0.0:8080", --api, "http://api"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - {name: api, image: "heddle/shop:0.1.0", args: [shop, api, --listen, "0.0.0.0:8080", --store, "store:9000"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: store}
spec:
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      containers:
      - {name: store, image: "heddle/shop:0.1.0", args: [shop, store, --listen, "0.0.0.0:9000"]}
"#;

/// A Job that sends requests: it completes only if its proxy ends with it.
const CUSTOMERS: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: customers}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: load
        image: heddle/shop:0.1.0
        args: [shop, load, --target, "http://frontend/", --requests, "50", --wait-for-target, 60s]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_is_installed_works_and_leaves_the_cluster_as_it_was() -> Result<()> {
    let (cluster, own) = shared::of_ones_own("install").await?;
    let outcome = whole(&cluster).await;
    if own {
        cluster.end().await?;
    }
    outcome
}

async fn whole(cluster: &Cluster) -> Result<()> {
    let before = everything(cluster).await?;
    operation::nothing_is_kept_of_what_is_tried(cluster).await.context("tried")?;
    operation::an_older_version_is_upgraded(cluster).await.context("upgrade")?;
    let shop = shared::namespace(cluster, "shop").await?;
    let plain = shared::namespace(cluster, "plain").await?;
    applications_get_their_proxies(cluster, &shop).await.context("applications")?;
    is_well(cluster).await.context("check")?;
    operation::proxies_are_told_of(cluster, &shop).await.context("proxies")?;
    operation::a_namespace_that_refuses_proxies_is_named(cluster).await.context("Pod Security")?;
    operation::files_are_injected_and_uninjected(cluster, &plain).await.context("inject")?;
    nobody_waits_for_an_injector_that_is_down(cluster, &shop, &plain).await.context("Ignore")?;
    meshed_pods_wait_where_they_must(cluster, &shop, &plain).await.context("Fail")?;
    operation::a_mesh_that_is_relied_on_goes_by_force_only(cluster, &shop)
        .await
        .context("uninstall")?;
    for namespace in [&shop, &plain] {
        cluster.kubectl(&["delete", "namespace", namespace, "--timeout=90s"], "").await?;
    }
    let told = meshctl(cluster, &["uninstall", "--apply", "--purge"]).await?;
    let after = everything(cluster).await?;
    let left: Vec<&String> = after.difference(&before).collect();
    let lost: Vec<&String> = before.difference(&after).collect();
    ensure!(left.is_empty() && lost.is_empty(), "left {left:?}, lost {lost:?}: {told}");
    helm::round(cluster, &before).await.context("Helm")
}

async fn applications_get_their_proxies(cluster: &Cluster, shop: &str) -> Result<()> {
    cluster.kubectl(&["label", "namespace", shop, "heddle.dev/inject=enabled"], "").await?;
    cluster.kubectl(&["-n", shop, "apply", "-f", "-"], SHOP).await?;
    for name in ["frontend", "api", "store"] {
        let deployment = format!("deployment/{name}");
        let wait = ["-n", shop, "rollout", "status", &deployment, "--timeout=120s"];
        cluster.kubectl(&wait, "").await?;
    }
    let pods = objects(cluster, &["-n", shop, "get", "pods"]).await?;
    ensure!(pods.len() == 3, "{} pods", pods.len());
    for pod in &pods {
        ensure!(has_proxy(pod), "{} has no proxy", pod["metadata"]["name"]);
    }
    cluster.kubectl(&["-n", shop, "apply", "-f", "-"], CUSTOMERS).await?;
    let wait = ["-n", shop, "wait", "--for=condition=Complete", "job/customers", "--timeout=150s"];
    cluster.kubectl(&wait, "").await?;
    Ok(())
}

/// Nothing failed, and everything was looked at.
pub(crate) async fn is_well(cluster: &Cluster) -> Result<()> {
    let output = run(cluster, &["check", "-o", "json"]).await?;
    let findings = read(&output)?;
    let failed: Vec<&Value> =
        findings.iter().filter(|finding| finding["level"] == "fail").collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    ensure!(output.status.code() == Some(0), "nothing failed, and {}", output.status);
    for area in ["api", "permissions", "certificates", "webhook", "clocks", "coverage", "versions"]
    {
        ensure!(
            findings.iter().any(|finding| finding["area"] == area),
            "nothing is said of {area}"
        );
    }
    Ok(())
}

/// With `failurePolicy: Ignore`, pods start without a proxy, and are reported.
async fn nobody_waits_for_an_injector_that_is_down(
    cluster: &Cluster,
    shop: &str,
    plain: &str,
) -> Result<()> {
    scale_injector(cluster, 0).await?;
    for namespace in [plain, shop] {
        start(cluster, namespace, "bare").await?;
        let get = ["-n", namespace, "get", "pods", "--field-selector=metadata.name=bare"];
        let pods = objects(cluster, &get).await?;
        ensure!(!pods.is_empty() && !pods.iter().any(has_proxy), "who gave it a proxy? {pods:?}");
    }
    let output = run(cluster, &["check", "-o", "json"]).await?;
    ensure!(output.status.code() == Some(3), "{}", output.status);
    let findings = read(&output)?;
    let name = format!("{shop}/bare: ");
    let reported =
        |finding: &&Value| finding["message"].as_str().is_some_and(|text| text.starts_with(&name));
    let reported = findings.iter().find(reported);
    ensure!(reported.is_some_and(|finding| finding["level"] == "warn"), "{findings:#?}");
    let webhook = |finding: &Value| finding["area"] == "webhook" && finding["level"] == "fail";
    ensure!(findings.iter().any(webhook), "the webhook is said to be well: {findings:#?}");
    cluster.kubectl(&["-n", shop, "delete", "pod", "bare", "--grace-period=0"], "").await?;
    scale_injector(cluster, 1).await
}

/// With `failurePolicy: Fail`, meshed pods are refused, and others start.
async fn meshed_pods_wait_where_they_must(
    cluster: &Cluster,
    shop: &str,
    plain: &str,
) -> Result<()> {
    // Whoever changes a field makes it his own. (`kubectl scale` to 0 makes it nobody's.)
    let replicas = r#"{"spec": {"replicas": 2}}"#;
    let patch = ["-n", NAMESPACE, "patch", "deployment/heddle-injector", "--patch", replicas];
    cluster.kubectl(&patch, "").await?;
    let upgrade = ["upgrade", "--apply", "--set", "injector.failurePolicy=Fail"];
    let refused = run(cluster, &upgrade).await?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(complaint.contains("--force-conflicts"), "no conflict: {complaint}");
    meshctl(cluster, &[&upgrade[..], &["--force-conflicts"]].concat()).await?;
    scale_injector(cluster, 0).await?;
    start(cluster, plain, "other").await?;
    match start(cluster, shop, "meshed").await {
        Ok(()) => bail!("a pod started without its proxy"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains("inject.heddle.dev"), "who refused it? {text}");
        }
    }
    scale_injector(cluster, 1).await?;
    start(cluster, shop, "meshed").await
}

async fn scale_injector(cluster: &Cluster, replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let scale = ["-n", NAMESPACE, "scale", "deployment/heddle-injector", &replicas];
    cluster.kubectl(&scale, "").await?;
    let wait =
        ["-n", NAMESPACE, "rollout", "status", "deployment/heddle-injector", "--timeout=90s"];
    cluster.kubectl(&wait, "").await?;
    // A rollout to nothing is done before the pods are gone.
    wait::until("the injector's pods are as many as wanted", Duration::from_secs(60), async || {
        let selector = "app.kubernetes.io/name=heddle,app.kubernetes.io/component=injector";
        let pods = objects(cluster, &["-n", NAMESPACE, "get", "pods", "-l", selector]).await?;
        ensure!(replicas == format!("--replicas={}", pods.len()), "there are {}", pods.len());
        Ok(())
    })
    .await
}

async fn start(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let arguments = [
        "-n",
        namespace,
        "run",
        name,
        "--image=busybox:1",
        "--image-pull-policy=Never",
        "--restart=Never",
        "--",
        "sleep",
        "1000",
    ];
    cluster.kubectl(&arguments, "").await?;
    let pod = format!("pod/{name}");
    let wait = ["-n", namespace, "wait", "--for=condition=Ready", &pod, "--timeout=90s"];
    cluster.kubectl(&wait, "").await.map(drop)
}

pub(crate) fn has_proxy(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.into_iter().flatten().any(|container| container["name"] == "heddle-proxy")
}

pub(crate) async fn objects(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<Value>> {
    let text = cluster.kubectl(&[arguments, &["-o", "json"]].concat(), "").await?;
    let mut list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// The names of all objects that an installation could leave; what comes and goes by itself is left out.
pub(crate) async fn everything(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for kinds in [
        "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions,mutatingwebhookconfigurations,validatingwebhookconfigurations,priorityclasses",
        "configmaps,secrets,serviceaccounts,roles,rolebindings,services,endpointslices,deployments,replicasets,pods,networkpolicies,poddisruptionbudgets,leases",
    ] {
        for object in objects(cluster, &["get", kinds, "--all-namespaces"]).await? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let namespace = text(&metadata["namespace"]);
            // The nodes' own, which come some time after them.
            if namespace == "kube-node-lease" {
                continue;
            }
            found.insert(format!(
                "{} {namespace}/{}",
                text(&object["kind"]),
                text(&metadata["name"])
            ));
        }
    }
    Ok(found)
}

fn read(findings: &Output) -> Result<Vec<Value>> {
    let complaint = String::from_utf8_lossy(&findings.stderr);
    serde_json::from_slice(&findings.stdout).with_context(|| complaint.into_owned())
}

pub(crate) async fn meshctl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = run(cluster, arguments).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "meshctl {arguments:?}: {}: {printed}{complaint}",
        output.status
    );
    Ok(printed)
}

pub(crate) async fn run(cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(shared::mesh_program("meshctl")?);
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await;
    Ok(output.with_context(|| format!("meshctl {arguments:?} does not end"))??)
}

pub(crate) const NAMESPACE: &str = "heddle-system";

/// More than `meshctl install --timeout 3m`.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(240);
