//! The trust anchor and the issuer are replaced under load, on all replicas, and while the one that leads goes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::wait;
use serde_json::Value;

use super::mesh::{self, Mesh, NAMESPACE};

/// A shop of three parts, each calling the next.
const SHOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend}
spec:
  replicas: 2
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec:
      containers:
      - {name: app, image: "heddle/shop:0.1.0", args: [shop, frontend], ports: [{containerPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - {name: app, image: "heddle/shop:0.1.0", args: [shop, api], ports: [{containerPort: 8080}]}
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
      - {name: app, image: "heddle/shop:0.1.0", args: [shop, store], ports: [{containerPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: frontend}
spec: {selector: {app: frontend}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {selector: {app: store}, ports: [{port: 9000}]}
"#;

/// Requests for as long as it runs; its report counts what became of each.
const LOAD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: heddle/shop:0.1.0
    args: [shop, load, --target, "http://frontend:8080/", --rate, "20", --connections, "4",
           --wait-for-target, 60s, --stats-listen, "9999", -o, json]
"#;

/// The exit code of `meshctl identity` when somebody should look.
const TROUBLED: i32 = 3;

#[tokio::test]
async fn root_and_issuer_are_rotated_under_load_and_nothing_is_lost() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("rotation").await?;
    let first = identity(mesh).await?;
    begin(mesh, &namespace).await?;
    a_deleted_secret_is_written_anew(mesh).await?;
    ensure!(anchors(&identity(mesh).await?)? == anchors(&first)?, "a new authority was made");
    let tenant = tenant_in_the_way(mesh).await?;

    let said = mesh.ask(&["identity", "rotate", "--root", "--wait"]).await?;
    for step in ["is announced", "is switched to the new trust anchor", "run out", "done after"] {
        ensure!(said.contains(step), "not told of \"{step}\":\n{said}");
    }
    eprintln!("{said}");
    let second = identity(mesh).await?;
    ensure!(anchors(&second)? != anchors(&first)? && anchors(&second)?.len() == 1, "{second}");
    ensure!(issuer(&second) != issuer(&first), "{second}");
    wait::until("the old anchor is not handed out any more", Duration::from_secs(60), async || {
        let kept = trust_anchors(mesh, &namespace).await?;
        ensure!(kept.matches("BEGIN CERTIFICATE").count() == 1, "{kept}");
        Ok(())
    })
    .await?;

    tenant_is_told(mesh, &tenant).await?;

    // Whoever leads next goes on with what was begun.
    mesh.ask(&["identity", "rotate", "--issuer"]).await?;
    let leader = leader(mesh).await?;
    mesh.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &leader], "").await?;
    let third = wait::until("the issuer is rotated", Duration::from_secs(240), async || {
        let third = identity(mesh).await?;
        ensure!(
            third["rotation"].is_null() && third["last_rotation"]["kind"] == "issuer",
            "{third}"
        );
        Ok(third)
    })
    .await?;
    ensure!(self::leader(mesh).await? != leader, "nobody else leads");
    ensure!(anchors(&third)? == anchors(&second)? && issuer(&third) != issuer(&second), "{third}");
    let proxies = &third["proxies"];
    ensure!(proxies["connected"] == proxies["current_issuer"], "{proxies}");
    nothing_was_lost(mesh, &namespace).await?;
    steps_are_events(mesh).await?;
    mesh.cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await?;
    Ok(())
}

/// The keys are in the processes, too, and the one that leads puts them back.
async fn a_deleted_secret_is_written_anew(mesh: &Mesh<'_>) -> Result<()> {
    let of_secret = ["-n", NAMESPACE, "get", "secret", "heddle-authority", "-o"];
    let field =
        async |field: &str| mesh.cluster.kubectl(&[&of_secret[..], &[field]].concat(), "").await;
    let anchors = "jsonpath={.data.trust-anchors\\.pem}";
    let (uid, before) = (field("jsonpath={.metadata.uid}").await?, field(anchors).await?);
    let delete = ["-n", NAMESPACE, "delete", "secret", "heddle-authority"];
    mesh.cluster.kubectl(&delete, "").await?;
    wait::until("the Secret is there again", Duration::from_secs(60), async || {
        let now = field("jsonpath={.metadata.uid}").await?;
        ensure!(now != uid, "it was not deleted");
        ensure!(field(anchors).await? == before, "other trust anchors are in it");
        Ok(())
    })
    .await?;
    wait::until("every control plane uses it", Duration::from_secs(60), async || {
        let identity = identity(mesh).await?;
        let all = identity["control_planes"].as_array().context("no control planes")?;
        ensure!(all.iter().all(|one| one["problem"] == ""), "{identity}");
        Ok(())
    })
    .await
}

/// A namespace whose trust anchors nobody can change any more: somebody of it has made them so.
async fn tenant_in_the_way(mesh: &Mesh<'_>) -> Result<String> {
    let tenant = mesh.namespace("tenant").await?;
    wait::until("it has trust anchors", Duration::from_secs(60), async || {
        trust_anchors(mesh, &tenant).await.map(drop)
    })
    .await?;
    let patch = ["-n", &tenant, "patch", "configmap", "heddle-trust-anchors", "-p"];
    mesh.cluster.kubectl(&[&patch[..], &["{\"immutable\": true}"]].concat(), "").await?;
    Ok(tenant)
}

/// It held up nobody, and is named until it is mended.
async fn tenant_is_told(mesh: &Mesh<'_>, tenant: &str) -> Result<()> {
    let (code, said) = mesh.hear(&["identity"]).await?;
    ensure!(code == Some(TROUBLED), "{code:?}: {said}");
    ensure!(said.contains(tenant) && said.contains("is immutable"), "{said}");
    let delete = ["-n", tenant, "delete", "configmap", "heddle-trust-anchors"];
    mesh.cluster.kubectl(&delete, "").await?;
    wait::until("it is given the new ones", Duration::from_secs(60), async || {
        let kept = trust_anchors(mesh, tenant).await?;
        ensure!(kept.matches("BEGIN CERTIFICATE").count() == 1, "{kept}");
        let said: Value = serde_json::from_str(&mesh.ask(&["identity", "-o", "json"]).await?)?;
        ensure!(said["lacking_anchors"] == serde_json::json!([]), "{said}");
        Ok(())
    })
    .await?;
    mesh.cluster.kubectl(&["delete", "namespace", tenant, "--wait=false"], "").await.map(drop)
}

/// Starts the shop and the load on it, and waits until that is answered.
async fn begin(mesh: &Mesh<'_>, namespace: &str) -> Result<()> {
    let kubectl = async |arguments: &[&str], input: &str| {
        mesh.cluster.kubectl(&[&["-n", namespace], arguments].concat(), input).await
    };
    kubectl(&["apply", "-f", "-"], SHOP).await?;
    for deployment in ["deployment/frontend", "deployment/api", "deployment/store"] {
        kubectl(&["rollout", "status", deployment, "--timeout=120s"], "").await?;
    }
    kubectl(&["apply", "-f", "-"], LOAD).await?;
    wait::until("the load is answered", Duration::from_secs(120), async || {
        let stats = stats(mesh, namespace).await?;
        ensure!(stats["succeeded"].as_u64() > Some(50), "{stats}");
        Ok(())
    })
    .await?;
    let containers = "jsonpath={.items[*].status.initContainerStatuses[*].name}";
    let names = kubectl(&["get", "pods", "-o", containers], "").await?;
    let meshed = names.split_whitespace().filter(|name| *name == "heddle-proxy").count();
    ensure!(meshed == 6, "{meshed} of 6 pods have a proxy: {names}");
    Ok(())
}

/// Ends the load in good order, and counts.
async fn nothing_was_lost(mesh: &Mesh<'_>, namespace: &str) -> Result<()> {
    let stats = stats(mesh, namespace).await?;
    let count = |name: &str| stats[name].as_u64().with_context(|| format!("{name} in {stats}"));
    ensure!(count("failed")? == 0, "{stats}");
    ensure!(count("succeeded")? + count("in_flight")? >= count("sent")?, "{stats}");
    ensure!(count("sent")? > 20 * 60, "too few to say anything: {stats}");
    eprintln!("{} requests, none lost", count("succeeded")?);
    Ok(())
}

async fn stats(mesh: &Mesh<'_>, namespace: &str) -> Result<Value> {
    let ask = ["-n", namespace, "exec", "load", "-c", "app", "--", "/bin/wget", "-qO-"];
    let said =
        mesh.cluster.kubectl(&[&ask[..], &["http://127.0.0.1:9999/stats"]].concat(), "").await?;
    Ok(serde_json::from_str(&said)?)
}

/// Whatever its exit code says of it.
async fn identity(mesh: &Mesh<'_>) -> Result<Value> {
    Ok(serde_json::from_str(&mesh.hear(&["identity", "-o", "json"]).await?.1)?)
}

fn anchors(identity: &Value) -> Result<Vec<&str>> {
    let anchors = identity["anchors"].as_array().context("no anchors")?;
    Ok(anchors.iter().filter_map(|anchor| anchor["fingerprint"].as_str()).collect())
}

fn issuer(identity: &Value) -> Option<&str> {
    identity["issuer"]["fingerprint"].as_str()
}

async fn trust_anchors(mesh: &Mesh<'_>, namespace: &str) -> Result<String> {
    let data = "jsonpath={.data.trust-anchors\\.pem}";
    mesh.cluster
        .kubectl(&["-n", namespace, "get", "configmap", "heddle-trust-anchors", "-o", data], "")
        .await
}

async fn leader(mesh: &Mesh<'_>) -> Result<String> {
    let holder = "jsonpath={.spec.holderIdentity}";
    mesh.cluster
        .kubectl(&["-n", NAMESPACE, "get", "lease", "heddle-control-plane", "-o", holder], "")
        .await
}

/// Each step is told where people look for it: at the Secret.
async fn steps_are_events(mesh: &Mesh<'_>) -> Result<()> {
    let of_secret = "regarding.name=heddle-authority";
    let reasons = "jsonpath={.items[*].reason}";
    let get = ["-n", NAMESPACE, "get", "events.events.k8s.io", "--field-selector", of_secret];
    let said = mesh.cluster.kubectl(&[&get[..], &["-o", reasons]].concat(), "").await?;
    for reason in ["RootAnnounced", "IssuerSwitched", "IssuerInUse", "RootRotated", "IssuerRotated"]
    {
        ensure!(said.contains(reason), "no event {reason}: {said}");
    }
    Ok(())
}
