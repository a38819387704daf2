//! The cluster is one: what applications and the mesh rely on works.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::shared;

/// Two servers, one on each node, behind a service with an unnamed port, and a client on the second.
const HELLO: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
      - name: hello
        image: busybox:1
        command: [sh, -c, "hostname > /tmp/index.html; echo begins; exec httpd -f -p 8080 -h /tmp"]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: "busybox:1", command: [sleep, "100000"]}]
"#;

async fn hello(cluster: &Cluster, theme: &str) -> Result<String> {
    let namespace = shared::namespace(cluster, theme).await?;
    cluster.kubectl(&["-n", &namespace, "apply", "-f", "-"], HELLO).await?;
    let wait = ["-n", &namespace, "rollout", "status", "daemonset/hello", "--timeout=60s"];
    cluster.kubectl(&wait, "").await?;
    let wait = ["-n", &namespace, "wait", "--for=condition=Ready", "pod/client", "--timeout=60s"];
    cluster.kubectl(&wait, "").await?;
    Ok(namespace)
}

async fn in_client(cluster: &Cluster, namespace: &str, argv: &[&str]) -> Result<String> {
    let exec = ["-n", namespace, "exec", "client", "--"];
    cluster.kubectl(&[&exec, argv].concat(), "").await
}

async fn end(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.kubectl(&["delete", "namespace", namespace, "--wait=false"], "").await.map(drop)
}

#[tokio::test]
async fn it_is_a_modern_one_with_two_nodes() -> Result<()> {
    let cluster = shared::cluster().await?;
    let client = cluster.client().await?;
    let version = client.apiserver_version().await?;
    let minor: u32 = version.minor.parse()?;
    ensure!(version.major == "1" && minor >= 34, "{}", version.git_version);
    for node in ["node1", "node2"] {
        for component in cluster.components(node).await? {
            ensure!(component.running, "{} does not run on {node}", component.name);
        }
    }
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"], "").await?;
    let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready"));
    ensure!(ready.count() == 2, "{nodes}");
    Ok(())
}

#[tokio::test]
async fn a_service_answers_by_its_name_from_both_nodes() -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = hello(cluster, "service").await?;
    let names = ["hello".to_owned(), format!("hello.{namespace}.svc.cluster.local:80")];
    for name in names {
        let url = format!("http://{name}/");
        let mut answered = BTreeSet::new();
        wait::until("both pods have answered", Duration::from_secs(30), async || {
            let answer = in_client(cluster, &namespace, &["wget", "-qO-", &url]).await?;
            answered.insert(answer.trim().to_owned());
            ensure!(answered.len() == 2, "only {answered:?}");
            Ok(())
        })
        .await?;
    }
    end(cluster, &namespace).await
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_refused_at_once() -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = hello(cluster, "names").await?;
    for name in ["absent", "example.com"] {
        let look = ["nslookup", name];
        let asked = in_client(cluster, &namespace, &look);
        let outcome = tokio::time::timeout(Duration::from_secs(10), asked).await?;
        let error = outcome.err().with_context(|| format!("{name} has an address"))?;
        ensure!(format!("{error:#}").contains("NXDOMAIN"), "{error:#}");
    }
    end(cluster, &namespace).await
}

#[tokio::test]
async fn the_logs_of_a_pod_can_be_read() -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = hello(cluster, "logs").await?;
    let logs = cluster.kubectl(&["-n", &namespace, "logs", "-l", "app=hello"], "").await?;
    ensure!(logs.lines().filter(|line| *line == "begins").count() == 2, "{logs}");
    end(cluster, &namespace).await
}

#[tokio::test]
async fn a_port_of_a_pod_can_be_forwarded() -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = hello(cluster, "forward").await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, &namespace);
    for pod in pods.list(&kube::api::ListParams::default().labels("app=hello")).await? {
        let name = pod.metadata.name.context("a pod has a name")?;
        let mut forwarder = pods.portforward(&name, &[8080]).await?;
        let mut stream = forwarder.take_stream(8080).context("no stream")?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await??;
        ensure!(answer.contains(&name), "{name}: {answer}");
    }
    end(cluster, &namespace).await
}

#[tokio::test]
async fn the_token_of_a_pod_says_which_pod_it_is() -> Result<()> {
    let cluster = shared::cluster().await?;
    let namespace = hello(cluster, "tokens").await?;
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = in_client(cluster, &namespace, &["cat", path]).await?;
    let reviews: Api<TokenReview> = Api::all(cluster.client().await?);
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token), ..TokenReviewSpec::default() },
        ..TokenReview::default()
    };
    let review = reviews.create(&PostParams::default(), &review).await?;
    let status = review.status.context("no status")?;
    let user = status.user.context("no user")?;
    let account = format!("system:serviceaccount:{namespace}:default");
    ensure!(user.username.as_deref() == Some(&account), "{user:?}");
    let extra = user.extra.unwrap_or_default();
    let pod = extra.get("authentication.kubernetes.io/pod-name").context("no pod's name")?;
    ensure!(pod == &["client"], "{pod:?}");
    end(cluster, &namespace).await
}

#[tokio::test]
async fn a_command_on_a_node_sees_the_network_of_the_node() -> Result<()> {
    let cluster = shared::cluster().await?;
    for (node, address) in [("node1", "10.98.0.11"), ("node2", "10.98.0.12")] {
        let printed = cluster.ask_node(node, &["ip", "-4", "-brief", "address"]).await?;
        ensure!(printed.contains(address), "{printed}");
        let name = cluster.ask_node(node, &["uname", "-n"]).await?;
        ensure!(name.trim() == node, "{name}");
    }
    let error = cluster.ask_node("node9", &["true"]).await.unwrap_err();
    ensure!(format!("{error:#}").contains("node1, node2"), "{error:#}");
    Ok(())
}
