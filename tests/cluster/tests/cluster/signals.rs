//! What proxies tell of requests, in a cluster: the access log, as annotations switch it; metrics and spans, to a collector
//! that the chart's values name, with headers from a Secret.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use serde_json::{Value, json};

use super::mesh::{self, Mesh};
use super::shared;

/// Its readiness probe asks each second.
const PROBED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: application}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: application
    image: heddle/shop:0.1.0
    command: [/echo, server, --port=8080]
    readinessProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}
"#;

#[tokio::test]
async fn annotations_of_a_namespace_and_of_a_pod_that_runs_switch_the_access_log() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("logged").await?;
    let place = Place { cluster: mesh.cluster, namespace };
    let annotate = async |object: &[&str], annotation: &str| {
        place.kubectl(&[&["annotate", "--overwrite"][..], object, &[annotation]].concat(), "").await
    };
    // The injector hears of it a moment later.
    annotate(&["namespace", &place.namespace], "heddle.dev/access-log=on").await?;
    wait::until("the pod is refused", SOON, async || {
        match place.kubectl(&["apply", "-f", "-", "--dry-run=server"], PROBED).await {
            Ok(said) => anyhow::bail!("it is taken: {said}"),
            Err(error) => {
                let said = format!("{error:#}");
                let expected = "heddle.dev/access-log of the namespace: \"on\" will not do";
                ensure!(said.contains(expected), "{said}");
                Ok(())
            }
        }
    })
    .await?;
    annotate(&["namespace", &place.namespace], "heddle.dev/access-log=errors").await?;
    wait::until("the pod is taken", SOON, async || {
        place.kubectl(&["apply", "-f", "-"], PROBED).await
    })
    .await?;
    place.is_ready("application").await?;
    let before = place.log("application").await?;
    ensure!(before.contains("access-log=errors"), "the namespace is not heard: {before}");
    // One that came before the application listened has failed, and is told of.
    let tells = |log: &str| {
        log.lines().any(|line| {
            line.contains("\"url.path\":\"/healthz\"")
                && line.contains("\"http.response.status_code\":200")
        })
    };
    ensure!(!tells(&before), "{before}");

    annotate(&["pod", "application"], "heddle.dev/access-log=all").await?;
    wait::until("probes are told of", SOON, async || {
        let said = place.log("application").await?;
        ensure!(tells(&said), "{said}");
        Ok(())
    })
    .await?;
    annotate(&["pod", "application"], "heddle.dev/access-log-").await?;
    wait::until("it is as before", SOON, async || {
        let said = place.log("application").await?;
        let switched = said.lines().filter(|line| line.contains("access log switched"));
        let switched: Vec<&str> = switched.collect();
        let [_, back] = switched[..] else { anyhow::bail!("{switched:?}") };
        ensure!(back.contains("errors"), "{back}");
        Ok(())
    })
    .await?;
    let restarts =
        "jsonpath={.status.initContainerStatuses[?(@.name==\"heddle-proxy\")].restartCount}";
    let restarts = place.kubectl(&["get", "pod", "application", "-o", restarts], "").await?;
    ensure!(restarts == "0", "the proxy was started again: {restarts}");
    place.end().await
}

/// A collector without a proxy, a server, and two clients: one is as the mesh has it, one names a Secret that is not there.
const OBSERVED: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: heddle/shop:0.1.0
    command: [/echo, server, --port=8080]
    readinessProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: keyless, annotations: {heddle.dev/collector-headers-secret: nowhere}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}]
"#;

const COLLECTOR: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: collector}
spec: {selector: {app: collector}, ports: [{port: 4318}]}
---
apiVersion: v1
kind: Pod
metadata: {name: collector, labels: {app: collector}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: collector
    image: heddle/shop:0.1.0
    command: [/heddle-test-collector]
    readinessProbe: {tcpSocket: {port: 4318}, periodSeconds: 1}
  - {name: reader, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}
"#;

#[tokio::test]
async fn a_collector_that_the_chart_names_hears_of_injected_pods_with_headers_of_their_secret()
-> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = shared::namespace(mesh.cluster, "observed").await?;
    let place = Place { cluster: mesh.cluster, namespace };
    let secret = format!("--from-literal=headers=api-key={KEY}");
    let create = ["create", "secret", "generic", "collector-key", &secret];
    place.kubectl(&create, "").await?;
    place.kubectl(&["apply", "-f", "-"], COLLECTOR).await?;
    let injected = place.injected(mesh, OBSERVED).await?;
    ensure!(injected.contains("secretKeyRef"), "{injected}");
    place.kubectl(&["apply", "-f", "-"], &injected).await?;
    for pod in ["collector", "server", "client", "keyless"] {
        place.is_ready(pod).await?;
    }
    for (client, span) in [("client", "00f067aa0ba902b7"), ("keyless", "00f067aa0ba902b8")] {
        let parent = format!("traceparent: 00-{TRACE}-{span}-01");
        let curl = ["curl", "-sf", "-m", "20", "-H", &parent, "-H", "tracestate: other=kept"];
        let ask = ["exec", client, "-c", "client", "--"];
        let ask = [&ask[..], &curl, &["-o", "/dev/null", "http://server:8080/"]].concat();
        wait::until("the server is asked", SOON, async || place.kubectl(&ask, "").await).await?;
    }
    let key = |pod: &Value| match pod.as_str() {
        Some("keyless") => Value::Null,
        _ => json!(KEY),
    };
    wait::until("all spans are there", SOON, async || {
        let spans = place.collected("spans").await?;
        let ours: Vec<&Value> = spans.iter().filter(|span| span["trace"] == TRACE).collect();
        for (pod, count) in [("client", 1), ("keyless", 1), ("server", 2)] {
            let of_pod = |span: &&&Value| span["resource"]["k8s.pod.name"] == pod;
            ensure!(ours.iter().filter(of_pod).count() >= count, "{pod}: {ours:#?}");
        }
        for span in ours {
            let pod = &span["resource"]["k8s.pod.name"];
            ensure!(span["resource"]["k8s.namespace.name"] == place.namespace, "{span}");
            ensure!(span["state"] == "other=kept" && span["key"] == key(pod), "{span}");
        }
        Ok(())
    })
    .await?;
    wait::until("all metrics are there", SOON, async || {
        let told = place.collected("metrics").await?;
        for (pod, name) in [
            ("client", "http.client.request.duration"),
            ("keyless", "http.client.request.duration"),
            ("server", "http.server.request.duration"),
        ] {
            let of_pod = told.iter().find(|one| one["resource"]["k8s.pod.name"] == pod);
            let of_pod = of_pod.with_context(|| format!("nothing of {pod}: {told:?}"))?;
            let names = of_pod["names"].as_array().context("no names")?;
            ensure!(names.contains(&json!(name)), "{pod}: {names:?}");
            ensure!(of_pod["key"] == key(&json!(pod)), "{pod}: {}", of_pod["key"]);
        }
        Ok(())
    })
    .await?;
    place.the_key_is_nowhere_and_what_is_missing_is_told().await?;
    place.end().await
}

/// A namespace of a test.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: String,
}

impl Place<'_> {
    async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat(), input).await
    }

    async fn is_ready(&self, pod: &str) -> Result<()> {
        let pod = format!("pod/{pod}");
        self.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=120s"], "").await.map(drop)
    }

    async fn log(&self, pod: &str) -> Result<String> {
        self.kubectl(&["logs", pod, "-c", "heddle-proxy"], "").await
    }

    /// The pods with the proxies that the injector would give them, if the mesh had been installed with the collector.
    async fn injected(&self, mesh: &Mesh<'_>, pods: &str) -> Result<String> {
        let collector = format!("http://collector.{}.svc.cluster.local:4318", self.namespace);
        let values = format!(
            "proxy.telemetry.collector={collector},proxy.telemetry.headersSecret=collector-key"
        );
        let printed = mesh.ask(&["install", "--set", &values, "-o", "json"]).await?;
        let printed: Value = serde_json::from_str(&printed).context(printed)?;
        let objects = printed["items"].as_array().context("no items")?;
        let settings = objects.iter().find_map(|object| object["data"]["injector.yaml"].as_str());
        let files = tempfile::tempdir()?;
        let (config, input) = (files.path().join("injector.yaml"), files.path().join("pods.yaml"));
        std::fs::write(&config, settings.context("no settings of the injector")?)?;
        std::fs::write(&input, pods)?;
        let [config, input] = [&config, &input].map(|path| path.display().to_string());
        mesh.ask(&["inject", "--config", &config, "-f", &input]).await
    }

    /// What the collector shows of a signal.
    async fn collected(&self, signal: &str) -> Result<Vec<Value>> {
        let url = format!("http://127.0.0.1:4318/{signal}");
        let ask = ["exec", "collector", "-c", "reader", "--", "curl", "-sf", "-m", "20", &url];
        Ok(serde_json::from_str(&self.kubectl(&ask, "").await?)?)
    }

    async fn the_key_is_nowhere_and_what_is_missing_is_told(&self) -> Result<()> {
        let objects = self.kubectl(&["get", "pods,events,configmaps", "-o", "yaml"], "").await?;
        ensure!(!objects.contains(KEY), "the key is in an object: {objects}");
        for (pod, is_missing) in [("server", false), ("client", false), ("keyless", true)] {
            let log = self.log(pod).await?;
            ensure!(!log.contains(KEY), "the key is in a log: {log}");
            let warned = log.lines().find(|line| line.contains("no headers for the collector"));
            ensure!(warned.is_some() == is_missing, "{pod}: {warned:?}");
            ensure!(warned.is_none_or(|line| line.contains("nowhere")), "{pod}: {warned:?}");
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        self.cluster.kubectl(&delete, "").await.map(drop)
    }
}

/// For what takes an export, or a moment.
const SOON: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The secret part of the headers.
const KEY: &str = "planted-in-a-secret";
