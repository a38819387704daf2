//! The control plane on a real API server: what is said of objects, and by whom.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;

use super::mesh::{self, Mesh, NAMESPACE};

/// A Service with two meshed pods behind it, one on each node.
const API: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: api}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: api
      terminationGracePeriodSeconds: 1
      containers:
      - name: api
        image: busybox:1
        command: [sh, -c, "hostname > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
"#;

/// A namespace whose pods get a proxy, with [`API`] in it.
pub(super) async fn meshed_api(mesh: &Mesh<'_>, theme: &str) -> Result<String> {
    let namespace = mesh.namespace(theme).await?;
    apply(mesh.cluster, &namespace, API).await?;
    let wait = ["-n", &namespace, "rollout", "status", "daemonset/api", "--timeout=120s"];
    mesh.cluster.kubectl(&wait, "").await?;
    Ok(namespace)
}

pub(super) async fn apply(cluster: &Cluster, namespace: &str, text: &str) -> Result<()> {
    cluster.kubectl(&["-n", namespace, "apply", "-f", "-"], text).await.map(drop)
}

/// The names of the pods behind the service.
pub(super) async fn pods(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let names = "jsonpath={.items[*].metadata.name}";
    let get = ["-n", namespace, "get", "pods", "-l", "app=api", "-o", names];
    let printed = cluster.kubectl(&get, "").await?;
    Ok(printed.split_whitespace().map(str::to_owned).collect())
}

/// Has every pod call the service, so that each proxy asks what it means.
async fn call_from_all(cluster: &Cluster, namespace: &str) -> Result<()> {
    for pod in pods(cluster, namespace).await? {
        let exec = ["-n", namespace, "exec", &pod, "-c", "api", "--"];
        let wget = ["wget", "-qO-", "http://api/"];
        wait::until("the service answers", Duration::from_secs(30), async || {
            cluster.kubectl(&[&exec[..], &wget[..]].concat(), "").await
        })
        .await?;
    }
    Ok(())
}

/// The conditions of a policy, each as `type status generation reason: message`.
async fn conditions(cluster: &Cluster, namespace: &str, policy: &str) -> Result<Vec<String>> {
    let each = "jsonpath={range .status.conditions[*]}{.type} {.status} {.observedGeneration} \
                {.reason}: {.message}{\"\\n\"}{end}";
    let get = ["-n", namespace, "get", "trafficpolicy", policy, "-o", each];
    Ok(cluster.kubectl(&get, "").await?.lines().map(str::to_owned).collect())
}

/// Waits until a policy says all of this.
async fn says(cluster: &Cluster, namespace: &str, wanted: &[&str]) -> Result<()> {
    wait::until("the policy says what became of it", Duration::from_secs(30), async || {
        let found = conditions(cluster, namespace, "api").await?;
        for wanted in wanted {
            let said = found.iter().any(|condition| condition.contains(wanted));
            ensure!(said, "{wanted:?} is not among {found:#?}");
        }
        Ok(())
    })
    .await
}

fn policy(window: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: api}}\nspec: {{targetRefs: \
         [{{kind: Service, name: api}}], slowStart: {{window: {window}}}}}\n"
    )
}

#[tokio::test]
async fn an_object_says_what_became_of_it_at_every_proxy() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = meshed_api(mesh, "status").await?;
    apply(cluster, &namespace, &policy("5s")).await?;
    call_from_all(cluster, &namespace).await?;
    let good = [
        "Accepted True 1 Accepted",
        "ResolvedRefs True 1",
        // The two proxies are at two control planes, or at one.
        "Programmed True 1 Programmed: 2 of 2 proxies",
        "Ready True 1",
    ];
    says(cluster, &namespace, &good).await?;

    apply(cluster, &namespace, &policy("soon")).await?;
    let bad = [
        "Accepted False 2 Invalid: generation 2: spec.slowStart.window",
        "its last good state stays in use",
        "Programmed True 2 Programmed: 2 of 2 proxies (of its last good state)",
        "Ready False 2",
    ];
    says(cluster, &namespace, &bad).await?;
    call_from_all(cluster, &namespace).await?;
    wait::until("an Event says so", Duration::from_secs(30), async || {
        let about = "--field-selector=regarding.kind=TrafficPolicy,reason=Invalid";
        let get = ["-n", &namespace, "get", "events.events.k8s.io", about, "-o", "name"];
        let found = cluster.kubectl(&get, "").await?;
        ensure!(!found.trim().is_empty(), "there is no Event");
        Ok(())
    })
    .await?;

    apply(cluster, &namespace, &policy("6s")).await?;
    says(cluster, &namespace, &["Accepted True 3", "Programmed True 3", "Ready True 3"]).await?;
    end(cluster, &namespace).await
}

#[tokio::test]
async fn another_control_plane_writes_when_the_leader_is_gone() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = meshed_api(mesh, "leader").await?;
    let leader = leader(cluster).await?;
    let delete = ["-n", NAMESPACE, "delete", "pod", &leader, "--wait=false"];
    cluster.kubectl(&delete, "").await?;
    wait::until("another leads", Duration::from_secs(30), async || {
        let now = self::leader(cluster).await?;
        ensure!(!now.is_empty() && now != leader, "{now:?} holds the Lease");
        Ok(())
    })
    .await?;
    apply(cluster, &namespace, &policy("5s")).await?;
    call_from_all(cluster, &namespace).await?;
    says(cluster, &namespace, &["Accepted True 1", "Programmed: 2 of 2 proxies"]).await?;
    end(cluster, &namespace).await
}

async fn leader(cluster: &Cluster) -> Result<String> {
    let holder = "jsonpath={.spec.holderIdentity}";
    let get = ["-n", NAMESPACE, "get", "lease", "heddle-control-plane", "-o", holder];
    cluster.kubectl(&get, "").await
}

pub(super) async fn end(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.kubectl(&["delete", "namespace", namespace, "--wait=false"], "").await.map(drop)
}
