//! What is done to a cluster between its first process and "ready": waiting for the nodes, and the few objects that
//! every cluster has.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::control::{self, Phase, Request};
use crate::directory::Directory;
use crate::wait;
use crate::{addresses, client, dns};

/// Waits until the API server takes requests of whoever this kubeconfig is for.
pub async fn api_server_is_ready(kubeconfig: &Path) -> Result<()> {
    let client = client::from_kubeconfig(kubeconfig).await?;
    wait::until("the API server is ready", START_LIMIT, async || client::is_ready(&client).await)
        .await
}

/// Waits until everything on all nodes serves, and the nodes take pods; makes what every cluster has.
pub async fn complete(directory: &Directory, nodes: u8) -> Result<()> {
    for number in 1..=nodes {
        node_serves(directory, number).await?;
    }
    let client = client::from_kubeconfig(&directory.inner_kubeconfig()).await?;
    make_name_service(&client).await?;
    let api: Api<Node> = Api::all(client.clone());
    let labels = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let first = format!("node{}", addresses::FIRST_NODE);
    wait::until("the first node is registered", START_LIMIT, async || {
        Ok(api.patch(&first, &PatchParams::default(), &Patch::Merge(&labels)).await?)
    })
    .await?;
    for number in 1..=nodes {
        let name = format!("node{number}");
        wait::until(&format!("{name} takes pods"), START_LIMIT, async || {
            takes_pods(&api.get(&name).await?)
        })
        .await?;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    wait::until("the default service account exists", START_LIMIT, async || {
        Ok(accounts.get("default").await.map(drop)?)
    })
    .await
}

/// Waits until a node's components serve; a failure of one is not waited out.
async fn node_serves(directory: &Directory, number: u8) -> Result<()> {
    let phase = wait::until(&format!("node{number} serves"), START_LIMIT, async || {
        match control::ask(directory, number, &Request::Status).await?.0 {
            Phase::Starting => bail!("it is starting"),
            phase @ (Phase::Ready | Phase::Failed { .. }) => Ok(phase),
        }
    })
    .await?;
    match phase {
        Phase::Failed { reason } => bail!("{reason}"),
        Phase::Ready | Phase::Starting => Ok(()),
    }
}

fn takes_pods(node: &Node) -> Result<()> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .context("it has no condition Ready")?;
    ensure!(ready.status == "True", "{}", ready.message.as_deref().unwrap_or("it is not ready"));
    let tainted = node.spec.as_ref().is_some_and(|spec| spec.taints.is_some());
    ensure!(!tainted, "it is tainted still");
    Ok(())
}

/// The service `kube-dns`, before the name server, which is not a pod.
async fn make_name_service(client: &Client) -> Result<()> {
    let ports =
        |name: &str, protocol: &str| json!({"name": name, "port": dns::PORT, "protocol": protocol});
    let ports = [ports("dns", "UDP"), ports("dns-tcp", "TCP")];
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": addresses::DNS_SERVICE, "ports": ports},
    });
    let endpoints = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-1", "labels": {
            "kubernetes.io/service-name": "kube-dns",
            "endpointslice.kubernetes.io/managed-by": MANAGER,
        }},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [addresses::of_node(addresses::FIRST_NODE)],
            "conditions": {"ready": true}}],
        "ports": ports,
    });
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let parameters = PatchParams::apply(MANAGER).force();
    wait::until("the service kube-dns is made", START_LIMIT, async || {
        services.patch("kube-dns", &parameters, &Patch::Apply(&service)).await?;
        Ok(slices.patch("kube-dns-1", &parameters, &Patch::Apply(&endpoints)).await.map(drop)?)
    })
    .await
}

const START_LIMIT: Duration = Duration::from_secs(180);
const MANAGER: &str = "heddle-cluster";
