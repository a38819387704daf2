//! Nodes that Kubernetes does not hear of, whose pods are well: callers in the mesh lose nothing, and nobody gets a
//! request who said that it is not ready. On a cluster of its own, whose kubelets stand still for a while.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;

use super::mesh::{Mesh, NAMESPACE};
use super::shared;
use super::shop::Shop;

/// A pod that is ready until it is told not to be, and somebody without a break who asks it and writes down the answers.
const FICKLE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: fickle}
spec: {selector: {app: fickle}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fickle, labels: {app: fickle}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: api
    image: heddle/shop:0.1.0
    args: [shop, api, --listen, "0.0.0.0:8080", --version, v1, --store, "store:9000"]
  - name: switch
    image: busybox:1
    imagePullPolicy: Never
    command: [sh, -c, "touch /tmp/ready; sleep 100000"]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers:
  - name: asker
    image: busybox:1
    imagePullPolicy: Never
    command: [sh, -c, "while :; do curl -s -m 30 -o /dev/null -w '%{http_code}\\n' http://fickle/; sleep 0.2; done"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_kubernetes_does_not_hear_of_nodes() -> Result<()> {
    let (cluster, own) = shared::of_ones_own("unheard").await?;
    let outcome = out_of_sight(&cluster).await;
    if own {
        cluster.end().await?;
    }
    outcome
}

async fn out_of_sight(cluster: &Cluster) -> Result<()> {
    let mesh = Mesh::install(cluster, "10m").await?;
    let shop = Shop::deploy(cluster, mesh.namespace("unheard").await?, 2).await?;
    shop.apply(FICKLE).await?;
    shop.kubectl(&["wait", "--for=condition=Ready", "pod/fickle", "pod/asker", "--timeout=120s"])
        .await?;
    wait::until("the fickle pod answers", SOON, async || {
        let answers = answers(&shop).await?;
        ensure!(answers.last().is_some_and(|code| code == "200"), "{answers:?}");
        Ok(())
    })
    .await?;
    shop.kubectl(&["exec", "fickle", "-c", "switch", "--", "rm", "/tmp/ready"]).await?;
    let refused = wait::until("the fickle pod gets nothing", SOON, async || {
        let answers = answers(&shop).await?;
        ensure!(answers.last().is_some_and(|code| code == "503"), "{answers:?}");
        Ok(answers.len())
    })
    .await?;

    shop.begin(PER_SECOND, LONGEST_SECONDS).await?;
    for node in cluster.nodes() {
        cluster.freeze(&node, "kubelet").await?;
    }
    let until = async |what: &str, gone: &str| {
        let outcome = wait::until(what, Duration::from_secs(240), async || {
            let conditions = conditions(&shop).await?;
            ensure!(!conditions.contains(gone), "{conditions}");
            Ok(())
        })
        .await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(state(&shop).await?)),
        }
    };
    until("nothing is ready any more", "true").await?;
    eprintln!("Kubernetes hears of no node");
    // What is to be seen in it is that nothing happens.
    tokio::time::sleep(HOLD).await;
    for node in cluster.nodes() {
        cluster.thaw(&node, "kubelet").await?;
    }
    until("everything is ready again", "false").await?;
    eprintln!("Kubernetes hears of all nodes");
    let answers = answers(&shop).await?;
    shop.stop().await?;
    let counts = shop.ended(Duration::from_secs(120)).await?;
    eprintln!("{counts:?}");
    // The grace period of nodes is the least that it took; a machine that is busy sends fewer.
    counts.ensure_whole(u64::from(PER_SECOND) * 40 / 2)?;

    let later = answers.get(refused..).context("its answers stay")?;
    eprintln!("who asked the fickle pod was told {} times that nobody is ready", later.len());
    ensure!(!later.is_empty() && later.iter().all(|code| code == "503"), "{later:?}");
    told(cluster, &shop).await
}

/// The answers of the fickle pod so far: status codes.
async fn answers(shop: &Shop<'_>) -> Result<Vec<String>> {
    let said = shop.kubectl(&["logs", "asker", "-c", "asker"]).await?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Which endpoints of the shop's services are ready, by Kubernetes: `true false`.
async fn conditions(shop: &Shop<'_>) -> Result<String> {
    let label = "kubernetes.io/service-name in (api, api-v1, api-v2, store)";
    let ready = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    let said = shop.kubectl(&["get", "endpointslices", "-l", label, "-o", ready]).await?;
    let count = said.split_whitespace().count();
    ensure!(count == ENDPOINTS, "{count} endpoints, not {ENDPOINTS}: {said}");
    Ok(said)
}

/// What one wants to see of nodes and pods when they do not become what they should.
async fn state(shop: &Shop<'_>) -> Result<String> {
    let nodes = shop.kubectl(&["describe", "nodes"]).await?;
    let pods = shop.kubectl(&["get", "pods", "-o", "wide"]).await?;
    let events = shop.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]).await?;
    Ok(format!("{nodes}\n{pods}\n{events}"))
}

/// Whoever looks after the mesh can know of it: the control planes write down that it began, and that it ended.
async fn told(cluster: &Cluster, shop: &Shop<'_>) -> Result<()> {
    let logs = ["-n", NAMESPACE, "logs", "--prefix", "--tail=-1"];
    let label = ["-l", "app.kubernetes.io/component=control-plane"];
    let said = cluster.kubectl(&[&logs[..], &label].concat(), "").await?;
    let port = format!("{}/api:80", shop.namespace);
    for words in ["as a last resort", "no last resort is in use any more"] {
        let line = said.lines().find(|line| line.contains(words) && line.contains(&port));
        let line = line.with_context(|| format!("nothing says {words:?} of {port}: {said}"))?;
        eprintln!("{line}");
    }
    Ok(())
}

const PER_SECOND: u32 = 50;
/// The load is stopped before; without that it ends by itself.
const LONGEST_SECONDS: u32 = 900;
/// How long nodes are not heard of after everything is called not ready for that.
const HOLD: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(90);
/// Four pods behind one service, two and two of them behind another each, and the store.
const ENDPOINTS: usize = 9;
