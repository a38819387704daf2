//! A strict pod and its node: the kubelet's probes, and whoever else has the node's address.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_cluster::wait;

use super::mesh;

/// An application with TLS and a certificate of its own, and a pod in the network of its node.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: application, annotations: {heddle.dev/inbound-mode: strict}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: application
    image: heddle/shop:0.1.0
    command: [/echo, server, --port=8443, --tls=8443, --port=8080]
    readinessProbe: {httpGet: {scheme: HTTPS, port: 8443, path: "/healthz?by=tls"}, periodSeconds: 1}
    livenessProbe: {httpGet: {port: 8080, path: /healthz, httpHeaders: [{name: x-probe, value: told}]}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour}
spec:
  nodeName: node2
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers: [{name: neighbour, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}]
"#;

#[tokio::test]
async fn a_strict_pod_is_probed_by_tls_and_its_node_may_ask_nothing_else() -> Result<()> {
    let mesh = mesh::installed().await?;
    let cluster = mesh.cluster;
    let namespace = mesh.namespace("probed").await?;
    let kubectl = async |arguments: &[&str], input: &str| {
        cluster.kubectl(&[&["-n", &namespace], arguments].concat(), input).await
    };
    kubectl(&["apply", "-f", "-"], PODS).await?;
    for pod in ["pod/application", "pod/neighbour"] {
        // The kubelet's own: a pod that is not probed well does not become ready.
        kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=120s"], "").await?;
    }
    let field = "jsonpath={.status.podIP} {.status.containerStatuses[0].restartCount}";
    let told = kubectl(&["get", "pod", "application", "-o", field], "").await?;
    let (address, restarts) = told.split_once(' ').unwrap_or_default();
    ensure!(restarts == "0", "its liveness probe fails: {restarts} restarts");
    for (case, path, expected) in [
        ("the probe itself", format!("https://{address}:8443/healthz?by=tls"), "200"),
        ("another path", format!("https://{address}:8443/admin"), "403"),
        ("no TLS to a port of TLS", format!("http://{address}:8443/healthz?by=tls"), "000"),
        ("the other probe", format!("http://{address}:8080/healthz"), "200"),
        ("another path of that", format!("http://{address}:8080/"), "403"),
        ("TLS to a port without", format!("https://{address}:8080/healthz"), "000"),
    ] {
        let ask = format!("curl -sk -m 20 -o /dev/null -w '%{{http_code}}' '{path}' || true");
        let code = wait::until("the neighbour can ask", Duration::from_secs(60), async || {
            kubectl(&["exec", "neighbour", "--", "sh", "-c", &ask], "").await
        })
        .await?;
        ensure!(code.trim() == expected, "{case}: {path}: {code}");
    }
    // What the application saw of a caller who sends more than the kubelet does.
    let more = format!(
        "curl -s -m 20 -H 'cookie: a=b' -H 'x-probe: told' --data evil -X GET http://{address}:8080/healthz"
    );
    let seen = kubectl(&["exec", "neighbour", "--", "sh", "-c", &more], "").await?;
    let seen = seen.to_lowercase();
    ensure!(seen.contains("x-probe") && !seen.contains("cookie"), "{seen}");
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await?;
    Ok(())
}
