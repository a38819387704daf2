//! An ordinary application in a namespace of its own, and who asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use heddle_cluster::worker::CONTAINERD_SOCKET;

/// A namespace with the application in it.
pub(crate) struct Shop<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) namespace: String,
}

/// What the load generator counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Answers by the version that gave them.
    pub(crate) versions: BTreeMap<String, u64>,
}

/// Two versions of an api behind one Service and behind one each, the store that they ask, and a client. Ports are unnamed,
/// and nothing says which protocol they speak.
const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api-v1}
spec: {selector: {app: api, version: v1}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api-v2}
spec: {selector: {app: api, version: v2}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {selector: {app: store}, ports: [{port: 9000}]}
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
      - name: store
        image: heddle/shop:0.1.0
        args: [shop, store, --listen, "0.0.0.0:9000"]
        readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: "heddle/shop:0.1.0", command: [sleep, "100000"]}]
"#;

/// A version of the api. It says goodbye as applications do whose users matter: it goes on while others learn of its end.
fn api(version: &str, replicas: u32) -> String {
    format!(
        r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: api-{version}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: api, version: {version}}}}}
  template:
    metadata: {{labels: {{app: api, version: {version}}}}}
    spec:
      containers:
      - name: api
        image: heddle/shop:0.1.0
        args: [shop, api, --listen, "0.0.0.0:8080", --version, {version}, --store, "store:9000"]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
"#
    )
}

impl<'a> Shop<'a> {
    /// Deploys it and waits until it is ready.
    pub(crate) async fn deploy(
        cluster: &'a Cluster,
        namespace: String,
        replicas: u32,
    ) -> Result<Self> {
        let shop = Self { cluster, namespace };
        shop.apply(&format!("{SHOP}{}{}", api("v1", replicas), api("v2", replicas))).await?;
        for name in ["store", "api-v1", "api-v2"] {
            shop.rolled_out(name).await?;
        }
        shop.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=120s"]).await?;
        Ok(shop)
    }

    /// What `kubectl` prints of this namespace; it must end well.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespace = ["-n", &self.namespace];
        self.cluster.kubectl(&[&namespace, arguments].concat(), "").await
    }

    /// Applies a text.
    pub(crate) async fn apply(&self, text: &str) -> Result<()> {
        let arguments = ["-n", &self.namespace, "apply", "-f", "-"];
        self.cluster.kubectl(&arguments, text).await.map(drop)
    }

    /// Waits for a deployment.
    pub(crate) async fn rolled_out(&self, name: &str) -> Result<()> {
        let deployment = format!("deployment/{name}");
        self.kubectl(&["rollout", "status", &deployment, "--timeout=150s"]).await.map(drop)
    }

    /// Has the client send so many requests, one after the other on a few connections.
    pub(crate) async fn requests(&self, number: u32) -> Result<Counts> {
        let number = number.to_string();
        let load = ["exec", "client", "-c", "client", "--", "/meshctl", "shop", "load"];
        let what = ["--target", "http://api/", "--requests", &number, "--connections", "8"];
        Counts::read(&self.kubectl(&[&load[..], &what].concat()).await?)
    }

    /// Begins to send requests at a rate, by a pod that needs nobody while it does.
    pub(crate) async fn begin(&self, per_second: u32, seconds: u32) -> Result<()> {
        self.apply(&format!(
            r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: load}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{app: load}}}}
    spec:
      nodeName: node1
      restartPolicy: Never
      containers:
      - name: load
        image: heddle/shop:0.1.0
        args: [shop, load, --target, "http://api/", --rate, "{per_second}", --duration, {seconds}s, --wait-for-target, 60s]
"#
        ))
        .await?;
        let api = async || self.kubectl(&["get", "pods", "-l", "app=load", "-o", RUNNING]).await;
        wait::until("the load runs", Duration::from_secs(90), async || {
            let phases = api().await?;
            ensure!(phases.contains("Running"), "its pod is {phases:?}");
            Ok(())
        })
        .await
    }

    /// Has the load end before its time, by its node: nobody else need hear of that. It says what it counted.
    pub(crate) async fn stop(&self) -> Result<()> {
        let id = "jsonpath={.items[0].status.containerStatuses[?(@.name=='load')].containerID}";
        let id = self.kubectl(&["get", "pods", "-l", "app=load", "-o", id]).await?;
        let id = id.strip_prefix("containerd://").with_context(|| format!("no container: {id}"))?;
        let tasks = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "tasks"];
        let kill = ["kill", "--signal", "SIGTERM", id];
        self.cluster.ask_node("node1", &[&tasks[..], &kill].concat()).await.map(drop)
    }

    /// Waits until all was sent that was begun.
    pub(crate) async fn ended(&self, within: Duration) -> Result<Counts> {
        let outcome = wait::until("the load has ended", within, async || {
            // Shorter than a command may take; that it fails says nothing yet.
            let wait = ["wait", "--for=condition=Complete", "job/load", "--timeout=20s"];
            drop(self.kubectl(&wait).await);
            let conditions = "{.status.conditions[?(@.status=='True')].type}";
            let said = self.field("job/load", conditions).await?;
            let end = said.split_whitespace().find(|word| matches!(*word, "Complete" | "Failed"));
            end.map(str::to_owned).with_context(|| format!("its job is {said:?}"))
        })
        .await;
        let said = self.kubectl(&["logs", "job/load", "-c", "load"]).await?;
        let end = outcome.with_context(|| format!("the load says {said}"))?;
        ensure!(end == "Complete", "the load says {said}");
        Counts::read(&said)
    }

    /// What a jsonpath says of an object.
    pub(crate) async fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")]).await
    }

    /// The addresses of the pods of a label, `app=api`.
    pub(crate) async fn addresses(&self, label: &str) -> Result<Vec<String>> {
        let get = ["get", "pods", "-l", label, "-o", "jsonpath={.items[*].status.podIP}"];
        Ok(self.kubectl(&get).await?.split_whitespace().map(str::to_owned).collect())
    }

    /// Deletes the namespace, and does not wait for it.
    pub(crate) async fn end(self) -> Result<()> {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        self.cluster.kubectl(&delete, "").await.map(drop)
    }
}

impl Counts {
    /// Reads `sent 200, succeeded 200, failed 0 in 0.5 s` and `version v1: 200`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut counts = Self::default();
        let number = |words: &str, name: &str| -> Option<u64> {
            words.split_once(name)?.1.split([',', ' ']).next()?.parse().ok()
        };
        let line = text.lines().find(|line| line.starts_with("sent ")).unwrap_or_default();
        let missing = || format!("no count in {text:?}");
        counts.sent = number(line, "sent ").with_context(missing)?;
        counts.failed = number(line, "failed ").with_context(missing)?;
        for line in text.lines().filter_map(|line| line.strip_prefix("version ")) {
            let (version, number) = line.split_once(": ").with_context(missing)?;
            counts.versions.insert(version.to_owned(), number.trim().parse()?);
        }
        Ok(counts)
    }

    /// Nothing failed, and it was enough to say so.
    pub(crate) fn ensure_whole(&self, at_least: u64) -> Result<()> {
        ensure!(self.failed == 0 && self.sent >= at_least, "{self:?}, of {at_least} or more");
        Ok(())
    }

    /// The share of a version, in percent.
    pub(crate) fn percent(&self, version: &str) -> f64 {
        let of = |number: u64| u32::try_from(number).map_or(f64::MAX, f64::from);
        let answers = self.versions.get(version).copied().unwrap_or_default();
        100.0 * of(answers) / of(self.sent.max(1))
    }
}

const RUNNING: &str = "jsonpath={.items[*].status.phase}";
