//! The injector on a real API server, and what it makes on a real kubelet.

#[path = "../../../../injector/tests/reviews/corpus.rs"]
mod corpus;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::mesh::{self, Mesh, NAMESPACE};
use super::shared;
use corpus::Expected;

/// A strict workload with every kind of probe, as restricted as its owner can make it, and a job that calls it.
const STRICT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {heddle.dev/inbound-mode: strict}
    spec:
      terminationGracePeriodSeconds: 3
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 2000}
      automountServiceAccountToken: false
      shareProcessNamespace: true
      initContainers:
      - name: first
        image: busybox:1
        command: [sh, -c, "echo inside"]
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, "mkdir -p /tmp/w; echo ok > /tmp/w/healthz; echo hello > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"]
        ports: [{name: http, containerPort: 8080}]
        startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 30}
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 2}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: once
        image: busybox:1
        command: [sh, -c, "for i in $(seq 60); do wget -qO- http://web/ && exit 0; sleep 1; done; exit 1"]
"#;

const SLEEPER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: sleeper, image: "busybox:1", command: [sleep, "1000"]}]
"#;

#[tokio::test]
async fn a_strict_workload_answers_its_node_and_the_mesh_and_a_job_beside_it_ends() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("strict").await?;
    let cluster = mesh.cluster;
    let ask = async |arguments: &[&str], input: &str| {
        let whole = [&["-n", &namespace], arguments].concat();
        cluster.kubectl(&whole, input).await
    };
    ask(&["apply", "-f", "-"], STRICT).await?;
    ask(&["rollout", "status", "deployment/web", "--timeout=180s"], "").await?;
    ask(&["wait", "job/once", "--for=condition=complete", "--timeout=180s"], "").await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, &namespace);
    let pods = pods.list(&ListParams::default().labels("app=web")).await?.items;
    ensure!(pods.len() == 2, "there are {} pods", pods.len());
    for pod in &pods {
        let status = pod.status.as_ref().context("a pod without a status")?;
        let containers = status.container_statuses.iter().flatten();
        for container in containers.chain(status.init_container_statuses.iter().flatten()) {
            let (name, restarts) = (&container.name, container.restart_count);
            ensure!(restarts == 0, "{name} was started again {restarts} times");
        }
        let spec = pod.spec.as_ref().context("a pod without a spec")?;
        let node = spec.node_name.as_deref().context("a pod without a node")?;
        let address = status.pod_ip.as_deref().context("a pod without an address")?;
        for (path, expected) in [("/healthz", "200"), ("/", "403"), ("/healthz?x", "403")] {
            let url = format!("http://{address}:8080{path}");
            let told = cluster
                .ask_node(
                    node,
                    &["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url],
                )
                .await?;
            ensure!(told.trim() == expected, "the node asks for {path} and gets {told}");
        }
        refused_to_others(address).await?;
    }
    Ok(())
}

/// Who is neither in the mesh nor the node gets nothing, not even the path of a probe.
async fn refused_to_others(address: &str) -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = shared::namespace(cluster, "outside").await?;
    cluster.kubectl(&["-n", &namespace, "apply", "-f", "-"], SLEEPER).await?;
    let ready =
        ["-n", &namespace, "wait", "pod/sleeper", "--for=condition=ready", "--timeout=120s"];
    cluster.kubectl(&ready, "").await?;
    let url = format!("http://{address}:8080/healthz");
    let call = ["-n", &namespace, "exec", "sleeper", "--", "curl", "-s", "-m", "5", &url];
    let told = cluster.kubectl(&call, "").await;
    ensure!(told.is_err(), "a pod outside the mesh got {told:?}");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_slipped_through_is_reported_on_itself() -> Result<()> {
    mesh::installed().await?;
    let cluster = shared::cluster().await?;
    let namespace = shared::namespace(cluster, "slipped").await?;
    cluster.kubectl(&["-n", &namespace, "apply", "-f", "-"], SLEEPER).await?;
    let label = ["label", "namespace", &namespace, "heddle.dev/inject=enabled"];
    cluster.kubectl(&label, "").await?;
    let about = "involvedObject.name=sleeper,reason=ProxyMissing";
    let events = ["-n", &namespace, "get", "events", "--field-selector", about, "-o", "name"];
    until("the pod has an event", async || {
        Ok(!cluster.kubectl(&events, "").await?.trim().is_empty())
    })
    .await
}

#[tokio::test]
async fn an_overwritten_authority_is_written_anew() -> Result<()> {
    mesh::installed().await?;
    let cluster = shared::cluster().await?;
    let bundles = async || {
        let get = ["get", "mutatingwebhookconfiguration", "heddle-injector", "-o"];
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let bundles = cluster.kubectl(&[&get[..], &[path]].concat(), "").await?;
        let bundles: Vec<String> = bundles.split_whitespace().map(ToOwned::to_owned).collect();
        ensure!(bundles.len() == 2, "{bundles:?}");
        Ok(bundles)
    };
    // The webhook of pods that ask by their own label, which no other test relies on.
    let path = "/webhooks/1/clientConfig/caBundle";
    let patch = format!(r#"[{{"op": "replace", "path": "{path}", "value": "{BROKEN}"}}]"#);
    let overwrite =
        ["patch", "mutatingwebhookconfiguration", "heddle-injector", "--type=json", "-p", &patch];
    cluster.kubectl(&overwrite, "").await?;
    // As the other one's, which a renewal changes with it.
    until("the bundle is a good one", async || {
        let bundles = bundles().await?;
        Ok(bundles[0] == bundles[1] && bundles[1] != BROKEN)
    })
    .await
}

/// PEM that holds nobody's certificate, in base64.
const BROKEN: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";

#[tokio::test]
async fn five_hundred_broken_reviews_get_an_answer_from_the_webhook_itself() -> Result<()> {
    let mesh = mesh::installed().await?;
    let mut wrong = Vec::new();
    let mut sender = connect(mesh).await?;
    for corpus::Case { name, body, expected } in corpus::cases() {
        let request = Request::post("/inject")
            .header("host", SERVER_NAME)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        // Whoever gets something else than a review is not kept.
        if sender.ready().await.is_err() {
            sender = connect(mesh).await.with_context(|| format!("before {name}"))?;
        }
        let answer = sender.send_request(request).await.with_context(|| name.clone())?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let found = judged(status, &body);
        if expected.is_some_and(|expected| found != Some(expected)) {
            wrong.push(format!("{name}: want {expected:?}, got {found:?} ({status})"));
        }
        ensure!(status != StatusCode::INTERNAL_SERVER_ERROR || expected.is_none(), "{name}");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn judged(status: StatusCode, body: &[u8]) -> Option<Expected> {
    if status != StatusCode::OK {
        return Some(Expected::Unanswered);
    }
    let review: Value = serde_json::from_slice(body).ok()?;
    let response = review.get("response")?;
    Some(match response.get("allowed")?.as_bool()? {
        false => Expected::Refused,
        true if response.get("patch").is_some_and(Value::is_string) => Expected::Injected,
        true => Expected::Left,
    })
}

/// As the API server connects, but for the way there: to the injector's pod, trusting its authority alone.
pub(crate) async fn connect(mesh: &Mesh<'_>) -> Result<http1::SendRequest<Full<Bytes>>> {
    let client = mesh.cluster.client().await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get("heddle-injector-tls").await?;
    let authority = secret.data.unwrap_or_default().remove("ca.crt").context("no ca.crt")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.0)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=injector");
    let injectors = pods.list(&selector).await?.items;
    let name = injectors.first().and_then(|pod| pod.metadata.name.as_deref());
    let mut forwarded = pods.portforward(name.context("no injector")?, &[15243]).await?;
    let stream = forwarded.take_stream(15243).context("no stream")?;
    let server = ServerName::try_from(SERVER_NAME)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(server, stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let tasks = heddle_runtime::tasks::Tasks::new();
    tasks.spawn("test.connection", async move {
        // What is wrong with it shows at its other end.
        let _ = connection.await;
        drop(forwarded);
    });
    Ok(sender)
}

const SERVER_NAME: &str = "heddle-injector.heddle-system.svc";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waiting = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("not within {LIMIT:?}: {what}")))
}

/// The injector looks every 15 seconds.
const LIMIT: Duration = Duration::from_secs(90);
