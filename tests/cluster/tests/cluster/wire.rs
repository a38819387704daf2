//! What travels between nodes: the pods' own ports, encrypted, so that a network policy on those ports means what it says.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::mesh;
use super::shared;
use super::shop::{Counts, Shop};

/// A capture on a node, running, and what it has printed.
struct Capture {
    child: Child,
    printed: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Capture {
    /// Begins; returns once packets are seen. What it prints is read at once: a capture whose output nobody takes
    /// stops writing, and the kernel drops the packets that it does not come for.
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends with the capture, whose output it reads"
    )]
    async fn begin(cluster: &Cluster, node: &str, what: &[&str]) -> Result<Self> {
        let arguments = [&["tcpdump", "-i", "any", "-nn", "-l", "-B", "16384"], what].concat();
        let mut child = cluster
            .on_node(node, &arguments)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start tcpdump")?;
        let mut output = BufReader::new(child.stdout.take().context("it has an output")?);
        let mut lines = BufReader::new(child.stderr.take().context("and one for errors")?).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("listening on") {
                    return Ok(());
                }
            }
            anyhow::bail!("tcpdump ended: is it installed?")
        };
        tokio::time::timeout(Duration::from_secs(20), listens).await.context("tcpdump")??;
        let printed = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&printed);
        let reader = tokio::spawn(async move {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                if let Ok(mut text) = text.lock() {
                    text.push_str(&String::from_utf8_lossy(&line));
                }
                line.clear();
            }
        });
        Ok(Self { child, printed, reader })
    }

    /// Waits until it has seen this, which was sent after everything else that counts; what it saw until then.
    async fn until(mut self, last: &str) -> Result<String> {
        let text = wait::until("the capture sees the last of it", PATIENCE, async || {
            let text = self.printed.lock().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
            ensure!(text.contains(last), "no {last:?} in {} bytes", text.len());
            Ok(text.clone())
        })
        .await?;
        self.child.kill().await?;
        self.reader.await?;
        Ok(text)
    }
}

/// How long what was sent may take until it is printed, while other tests load the same node.
const PATIENCE: Duration = Duration::from_secs(60);

/// The part of a capture's filter that leaves out everybody else on the node: other tests load it, too.
fn of_hosts(addresses: &[String]) -> String {
    let hosts: Vec<String> = addresses.iter().map(|address| format!("host {address}")).collect();
    format!("({})", hosts.join(" or "))
}

/// A database, and somebody who asks it, with nothing added to either.
const POSTGRES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: database}
spec: {selector: {app: database}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: database, labels: {app: database}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: postgres
    image: postgres:15
    readinessProbe: {tcpSocket: {port: 5432}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: clerk, labels: {app: clerk}}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers: [{name: clerk, image: "postgres:15", command: [sleep, "100000"]}]
"#;

#[tokio::test]
async fn meshed_pods_talk_on_their_own_ports_and_in_secret() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = mesh.namespace("wire").await?;
    let shop = Shop::deploy(cluster, namespace, 1).await?;
    shop.apply(POSTGRES).await?;
    for pod in ["pod/database", "pod/clerk"] {
        shop.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=120s"]).await?;
    }
    let mut pods = Vec::new();
    for label in ["app=api", "app=store", "app=client", "app=database", "app=clerk"] {
        pods.extend(shop.addresses(label).await?);
    }
    // On each node, since nobody says which pods share one.
    let stranger = shared::namespace(cluster, "stranger").await?;
    let mut watches = Vec::new();
    for node in cluster.nodes() {
        watches.push(Watch::begin(cluster, &node, &stranger, &pods).await?);
    }
    for service in ["api-v1", "api-v2"] {
        let url = format!("http://{service}/said-in-secret");
        let load = ["exec", "client", "-c", "client", "--", "/meshctl", "shop", "load"];
        let what = ["--requests", "5", "--target", &url];
        Counts::read(&shop.kubectl(&[&load[..], &what].concat()).await?)?.ensure_whole(5)?;
    }
    let select =
        ["psql", "-h", "database", "-U", "postgres", "-tAc", "select 'asked-' || 'in-secret'"];
    let rows = wait::until("the database answers", Duration::from_secs(30), async || {
        shop.kubectl(&[&["exec", "clerk", "-c", "clerk", "--"], &select[..]].concat()).await
    })
    .await?;
    ensure!(rows.trim() == "asked-in-secret", "{rows}");

    let mut opened = String::new();
    for watch in watches {
        let (lines, bytes) = watch.end(&shop, &stranger).await?;
        for secret in ["said-in-secret", "asked-in-secret"] {
            ensure!(!bytes.contains(secret), "{secret} is on the wire");
        }
        opened.push_str(&lines);
    }
    let ports = ports_between(&opened, &pods);
    eprintln!("ports between meshed pods: {ports:?}");
    ensure!(ports == ["5432", "8080", "9000"], "{ports:?} in {opened}");
    cluster.kubectl(&["delete", "namespace", &stranger, "--wait=false"], "").await?;
    shop.end().await
}

/// What is seen on one node: who opens connections to which ports, and what is said; and a pod there without a proxy.
struct Watch {
    pod: String,
    address: String,
    opened: Capture,
    bytes: Capture,
}

impl Watch {
    async fn begin(cluster: &Cluster, node: &str, stranger: &str, pods: &[String]) -> Result<Self> {
        let pod = format!("stranger-{node}");
        let run = ["-n", stranger, "run", &pod, "--image=busybox:1", "--restart=Never"];
        let spec = format!(
            r#"--overrides={{"spec":{{"nodeName":"{node}","terminationGracePeriodSeconds":0}}}}"#
        );
        let sleep = ["--image-pull-policy=IfNotPresent", &spec, "--", "sleep", "100000"];
        cluster.kubectl(&[&run[..], &sleep].concat(), "").await?;
        let of_pod = ["-n", stranger];
        let ready = ["wait", "--for=condition=Ready", "pod", &pod, "--timeout=60s"];
        cluster.kubectl(&[&of_pod[..], &ready].concat(), "").await?;
        let get = ["get", "pod", &pod, "-o", "jsonpath={.status.podIP}"];
        let address = cluster.kubectl(&[&of_pod[..], &get].concat(), "").await?;
        let hosts = of_hosts(&[pods, std::slice::from_ref(&address)].concat());
        let opened = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 10.244.0.0/16";
        let opened = Capture::begin(cluster, node, &[&format!("{opened} and {hosts}")]).await?;
        let talk = format!("tcp and (port 8080 or port 5432) and {hosts}");
        let bytes = Capture::begin(cluster, node, &["-A", "-s0", &talk]).await?;
        Ok(Self { pod, address, opened, bytes })
    }

    /// What was seen, until the pod without a proxy was let in: that the capture sees it shows that it would have seen the rest.
    async fn end(self, shop: &Shop<'_>, stranger: &str) -> Result<(String, String)> {
        let url = format!("http://api-v1.{}/said-aloud", shop.namespace);
        let exec = ["-n", stranger, "exec", &self.pod, "--", "curl", "-sS", "-m", "20", &url];
        shop.cluster.kubectl(&exec, "").await?;
        let bytes = self.bytes.until("said-aloud").await?;
        let opened = self.opened.until(&format!("IP {}.", self.address)).await?;
        Ok((opened, bytes))
    }
}

/// The ports to which pods of this list opened connections to each other, in lines such as
/// `IP 10.244.1.5.43210 > 10.244.2.6.8080: Flags [S], ...`.
fn ports_between(lines: &str, pods: &[String]) -> Vec<String> {
    let mut ports = Vec::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(arrow) = words.iter().position(|word| *word == ">") else { continue };
        let end = |word: Option<&&str>| -> Option<(String, String)> {
            let (address, port) = word?.trim_end_matches(':').rsplit_once('.')?;
            Some((address.to_owned(), port.to_owned()))
        };
        let source = end(words.get(arrow.wrapping_sub(1)));
        let Some(((from, _), (to, port))) = source.zip(end(words.get(arrow + 1))) else { continue };
        if pods.contains(&from) && pods.contains(&to) {
            ports.push(port);
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

#[tokio::test]
async fn a_strict_workload_refuses_who_has_no_proxy_and_its_probes_stay_green() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = mesh.namespace("strict").await?;
    let shop = Shop::deploy(cluster, namespace, 1).await?;
    let strict = r#"{"spec":{"template":{"metadata":{"annotations":{"heddle.dev/inbound-mode":"strict"}}}}}"#;
    shop.kubectl(&["patch", "deployment/api-v1", "-p", strict]).await?;
    shop.rolled_out("api-v1").await?;
    wait::until("the pod of before is gone", Duration::from_secs(60), async || {
        let pods = shop.addresses("app=api,version=v1").await?;
        ensure!(pods.len() == 1, "there are {pods:?}");
        Ok(())
    })
    .await?;
    let stranger = shared::namespace(cluster, "stranger").await?;
    let host = format!("http://api-v1.{}/", shop.namespace);
    let call = ["--image=busybox:1", "--image-pull-policy=IfNotPresent", "--restart=Never", "--"];
    let run = ["-n", &stranger, "run", "stranger"];
    let script = format!("curl -sS -m 20 {host}; echo code $?");
    cluster.kubectl(&[&run[..], &call, &["sh", "-c", &script]].concat(), "").await?;
    let logs = ["-n", &stranger, "logs", "stranger"];
    wait::until("the stranger is refused", Duration::from_secs(60), async || {
        let said = cluster.kubectl(&logs, "").await?;
        ensure!(said.contains("code "), "it says {said:?}");
        ensure!(!said.contains("code 0") && !said.contains("version"), "it is served: {said:?}");
        Ok(())
    })
    .await?;
    // Who has a proxy is served, and the kubelet, which has none, finds the pod ready.
    shop.requests(100).await?.ensure_whole(100)?;
    let ready = shop.field("deployment/api-v1", "{.status.readyReplicas}").await?;
    ensure!(ready == "1", "{ready:?} pods are ready");
    cluster.kubectl(&["delete", "namespace", &stranger, "--wait=false"], "").await?;
    shop.end().await
}

/// On every node, before anything else: of what comes to these pods, only their application's port passes.
fn rules(pods: &[String]) -> String {
    format!(
        "table ip heddle_test {{\nchain ingress {{\ntype filter hook forward priority -10; policy accept\n\
         ct state established,related accept\nip daddr {{ {} }} tcp dport != 8080 counter drop\n}}\n}}\n",
        pods.join(", ")
    )
}

#[tokio::test]
async fn a_node_that_lets_nothing_in_but_the_applications_port_does_not_cut_the_mesh_off()
-> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = mesh.namespace("policy").await?;
    let shop = Shop::deploy(cluster, namespace, 1).await?;
    let mut pods = shop.addresses("app=api").await?;
    pods.extend(shop.addresses("app=client").await?);
    let nodes: Vec<String> = cluster.nodes().collect();
    for node in &nodes {
        cluster.ask_node(node, &["nft", &rules(&pods)]).await?;
    }
    let outcome = async {
        enforced(&shop).await?;
        measured(mesh, &shop).await
    };
    let outcome = outcome.await;
    let stopped = stopped(&shop, &pods).await;
    let mut dropped = 0;
    for node in &nodes {
        let seen = cluster.ask_node(node, &["nft", "list", "table", "ip", "heddle_test"]).await?;
        dropped += packets(&seen)?;
        cluster.ask_node(node, &["nft", "delete", "table", "ip", "heddle_test"]).await?;
    }
    outcome?;
    stopped?;
    ensure!(dropped > 0, "the rules dropped nothing: they show nothing");
    shop.end().await
}

/// That the rules drop what they say: who asks a pod for another port than its application's gets no answer.
async fn stopped(shop: &Shop<'_>, pods: &[String]) -> Result<()> {
    let stranger = shared::namespace(shop.cluster, "stranger").await?;
    let address = pods.first().context("there are pods")?;
    let run = ["-n", &stranger, "run", "stranger", "--image=busybox:1", "--restart=Never"];
    let script = format!("curl -sS -m 3 http://{address}:15190/metrics; echo code $?");
    let call = ["--image-pull-policy=IfNotPresent", "--", "sh", "-c", &script];
    shop.cluster.kubectl(&[&run[..], &call].concat(), "").await?;
    let logs = ["-n", &stranger, "logs", "stranger"];
    wait::until("the stranger gives up", Duration::from_secs(60), async || {
        let said = shop.cluster.kubectl(&logs, "").await?;
        ensure!(said.contains("code 28"), "it says {said:?}");
        Ok(())
    })
    .await?;
    let delete = ["delete", "namespace", &stranger, "--wait=false"];
    shop.cluster.kubectl(&delete, "").await.map(drop)
}

/// The packets that the one counter of a table counted, from `counter packets 3 bytes 180 drop`.
fn packets(table: &str) -> Result<u64> {
    let counted = table.split_once("counter packets ").context("it has no counter")?.1;
    let number = counted.split_whitespace().next().context("and no number")?;
    number.parse().with_context(|| format!("read {number:?}"))
}

/// What proxies behind the rules measure arrives, since they are who tells it: `meshctl stat` knows of requests that were
/// sent while the rules were in force.
async fn measured(mesh: &mesh::Mesh<'_>, shop: &Shop<'_>) -> Result<()> {
    let stat =
        ["stat", "deploy", "-n", shop.namespace.as_str(), "--window", "10m", "--output", "json"];
    wait::until("the control planes are told", Duration::from_secs(90), async || {
        shop.requests(20).await?.ensure_whole(20)?;
        let said: Value = serde_json::from_str(&mesh.ask(&stat).await?)?;
        let rows = said["rows"].as_array().context("no rows")?;
        let of_api = rows
            .iter()
            .filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with("api-")));
        let requests: u64 = of_api.filter_map(|row| row["requests"].as_u64()).sum();
        ensure!(requests >= 20, "{said}");
        Ok(())
    })
    .await
}

/// Proxies that begin anew behind the rules get configuration and certificates, since they are who asks.
async fn enforced(shop: &Shop<'_>) -> Result<()> {
    for pod in shop.field("pods", "{.items[*].metadata.name}").await?.split_whitespace() {
        if !pod.starts_with("api-") && pod != "client" {
            continue;
        }
        let pod = format!("pod/{pod}");
        let proxy = ".status.initContainerStatuses[?(@.name==\"heddle-proxy\")]";
        let of_proxy = async |field: &str| shop.field(&pod, &format!("{{{proxy}{field}}}")).await;
        let container = of_proxy(".containerID").await?;
        let container = container.strip_prefix("containerd://").context("it has an ID")?.to_owned();
        let node = shop.field(&pod, "{.spec.nodeName}").await?;
        let socket = "--address=/run/containerd/containerd.sock";
        let kill = ["ctr", socket, "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", &container];
        shop.cluster.ask_node(&node, &kill).await?;
        wait::until("its proxy is ready again", Duration::from_secs(90), async || {
            let (id, ready) = (of_proxy(".containerID").await?, of_proxy(".ready").await?);
            ensure!(ready == "true" && !id.ends_with(&container), "{id} is ready: {ready}");
            Ok(())
        })
        .await?;
    }
    let served = wait::until("the application is served", Duration::from_secs(30), async || {
        shop.requests(200).await.and_then(|counts| counts.ensure_whole(200).map(|()| counts))
    });
    served.await.map(drop)
}
