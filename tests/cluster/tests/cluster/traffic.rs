//! Canaries on a real API server, changed while requests are made, and what their objects say of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::mesh::{self, Mesh};
use super::shop::Shop;

/// SMI's kinds as Flagger and Argo Rollouts write them, with as much of a schema as a test needs.
const SMI: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: trafficsplits.split.smi-spec.io}
spec:
  group: split.smi-spec.io
  scope: Namespaced
  names: {kind: TrafficSplit, listKind: TrafficSplitList, plural: trafficsplits, singular: trafficsplit}
  versions:
  - name: v1alpha4
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: httproutegroups.specs.smi-spec.io}
spec:
  group: specs.smi-spec.io
  scope: Namespaced
  names: {kind: HTTPRouteGroup, listKind: HTTPRouteGroupList, plural: httproutegroups, singular: httproutegroup}
  versions:
  - name: v1alpha4
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

/// The definitions of routes, made after the control plane started: it has waited for them.
async fn definitions(cluster: &Cluster) -> Result<()> {
    static DEFINED: OnceCell<()> = OnceCell::const_new();
    DEFINED.get_or_try_init(async || define(cluster).await).await.map(drop)
}

async fn define(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["apply", "-f", "-"], SMI).await?;
    // Those of the version that the conformance suite is of.
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let found = Command::new("go")
        .args(["mod", "download", "-json", "sigs.k8s.io/gateway-api"])
        .current_dir(module)
        .stdin(Stdio::null())
        .output()
        .await
        .context("run go")?;
    ensure!(found.status.success(), "go: {}", String::from_utf8_lossy(&found.stderr));
    let module: serde_json::Value = serde_json::from_slice(&found.stdout)?;
    let folder = module["Dir"].as_str().context("go names no folder")?;
    for kind in ["httproutes", "grpcroutes", "tcproutes", "tlsroutes", "referencegrants"] {
        let file =
            format!("{folder}/config/crd/experimental/gateway.networking.k8s.io_{kind}.yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", &file], "").await?;
    }
    let names = [
        "crd/httproutes.gateway.networking.k8s.io",
        "crd/tlsroutes.gateway.networking.k8s.io",
        "crd/trafficsplits.split.smi-spec.io",
        "crd/httproutegroups.specs.smi-spec.io",
    ];
    let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
    cluster.kubectl(&[&wait[..], &names].concat(), "").await.map(drop)
}

pub(super) async fn shop<'a>(mesh: &'a Mesh<'_>, theme: &str) -> Result<Shop<'a>> {
    definitions(mesh.cluster).await?;
    let namespace = mesh.namespace(theme).await?;
    Shop::deploy(mesh.cluster, namespace, 1).await
}

pub(super) fn split(v2_percent: u32) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: api}}\nspec:\n  service: api\n  \
         backends:\n  - {{service: api-v1, weight: {}}}\n  - {{service: api-v2, weight: {v2_percent}}}\n",
        100 - v2_percent
    )
}

fn route(v2_percent: u32, filters: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: api}}\nspec:\n  parentRefs: \
         [{{group: \"\", kind: Service, name: api, port: 80}}]\n  rules:\n  - filters: [{filters}]\n    backendRefs:\n    \
         - {{name: api-v1, port: 80, weight: {}}}\n    - {{name: api-v2, port: 80, weight: {v2_percent}}}\n",
        100 - v2_percent
    )
}

/// Waits until a canary has this share of a few requests, then counts 5,000.
async fn shared_out(shop: &Shop<'_>, percent: f64) -> Result<()> {
    // The subscription of the client's proxy comes with its first request.
    wait::until("the weights have come", Duration::from_secs(30), async || {
        let counts = shop.requests(300).await?;
        let share = counts.percent("v2");
        ensure!((share - percent).abs() <= 7.0, "v2 has {share} %: {counts:?}");
        Ok(())
    })
    .await?;
    let counts = shop.requests(REQUESTS).await?;
    counts.ensure_whole(REQUESTS.into())?;
    let share = counts.percent("v2");
    eprintln!("{percent} %: {counts:?}");
    ensure!((share - percent).abs() <= 2.0, "v2 has {share} % of {counts:?}");
    Ok(())
}

/// Moves traffic step by step while requests are made.
async fn moved_live(shop: &Shop<'_>, step: impl Fn(u32) -> String) -> Result<()> {
    shop.begin(100, 20).await?;
    for percent in [10, 30, 60, 100] {
        shop.apply(&step(percent)).await?;
        // Each step sees requests: the load goes on for longer than all of them take.
        shop.requests(50).await?;
    }
    let counts = shop.ended(Duration::from_secs(120)).await?;
    eprintln!("while weights changed: {counts:?}");
    // A machine that is busy sends later, and fewer.
    counts.ensure_whole(500)?;
    ensure!(counts.versions.len() == 2, "one version had everything: {counts:?}");
    Ok(())
}

#[tokio::test]
async fn a_traffic_split_shares_as_its_weights_say_and_loses_nothing() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "split").await?;
    shop.apply(&split(10)).await?;
    shared_out(&shop, 10.0).await?;
    moved_live(&shop, split).await?;
    shop.end().await
}

#[tokio::test]
async fn an_http_route_says_what_became_of_it_and_the_old_one_stays_when_it_is_bad() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "route").await?;
    shop.apply(&route(10, "")).await?;
    shared_out(&shop, 10.0).await?;
    says(&shop, &["Accepted True 1 Accepted", "ResolvedRefs True 1", "Programmed True 1"]).await?;
    moved_live(&shop, |percent| route(percent, "")).await?;

    let extension = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Wasm, name: w}}";
    shop.apply(&route(50, extension)).await?;
    says(&shop, &["Accepted False", "ExtensionRef"]).await?;
    let counts = shop.requests(200).await?;
    counts.ensure_whole(200)?;
    ensure!(counts.versions.get("v2") == Some(&200), "the bad route counts: {counts:?}");

    shop.apply(&route(20, "")).await?;
    shared_out(&shop, 20.0).await?;
    says(&shop, &["Accepted True", "Programmed True"]).await?;
    shop.end().await
}

/// Waits until the conditions of the route say all of this, as `type status generation reason: message`.
async fn says(shop: &Shop<'_>, wanted: &[&str]) -> Result<()> {
    let each = "{range .status.parents[?(@.controllerName==\"heddle.dev/control-plane\")].conditions[*]}{.type} \
                {.status} {.observedGeneration} {.reason}: {.message}{\"\\n\"}{end}";
    wait::until("the route says what became of it", Duration::from_secs(60), async || {
        let found = shop.field("httproute/api", each).await?;
        for wanted in wanted {
            ensure!(found.contains(wanted), "{wanted:?} is not in {found}");
        }
        Ok(())
    })
    .await
}

const REQUESTS: u32 = 5000;
