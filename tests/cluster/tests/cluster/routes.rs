//! The other kinds of routes on a real API server: what they do, what their objects say, and that what others say
//! there stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_cluster::wait;
use serde_json::{Value, json};

use super::mesh;
use super::shop::Shop;
use super::traffic::shop;

/// Waits until the conditions of an object say all of this, as `type status reason: message`.
async fn says(shop: &Shop<'_>, object: &str, wanted: &[&str]) -> Result<()> {
    let each = "{range .status.parents[?(@.controllerName==\"heddle.dev/control-plane\")].conditions[*]}{.type} \
                {.status} {.reason}: {.message}{\"\\n\"}{end}";
    wait::until("a route says what became of it", Duration::from_secs(60), async || {
        let found = shop.field(object, each).await?;
        for wanted in wanted {
            ensure!(found.contains(wanted), "{wanted:?} is not in {found}");
        }
        Ok(())
    })
    .await
}

/// Waits until these versions, and no others, answer.
async fn answer(shop: &Shop<'_>, versions: &[&str]) -> Result<()> {
    wait::until("the right versions answer", Duration::from_secs(60), async || {
        let counts = shop.requests(200).await?;
        counts.ensure_whole(200)?;
        let found: Vec<&str> = counts.versions.keys().map(String::as_str).collect();
        ensure!(found == versions, "{counts:?}");
        Ok(())
    })
    .await
}

fn split_of_group(path_regex: &str) -> String {
    format!(
        r#"
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: chosen}}
spec: {{matches: [{{name: chosen, pathRegex: "{path_regex}", methods: ["*"]}}]}}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: api}}
spec:
  service: api
  matches: [{{kind: HTTPRouteGroup, name: chosen}}]
  backends: [{{service: api-v2, weight: 100}}]
"#
    )
}

#[tokio::test]
async fn a_split_with_a_group_moves_the_requests_that_it_chooses() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "group").await?;
    answer(&shop, &["v1", "v2"]).await?;
    shop.apply(&split_of_group("/.*")).await?;
    answer(&shop, &["v2"]).await?;
    shop.apply(&split_of_group("/never/.*")).await?;
    answer(&shop, &["v1", "v2"]).await?;
    shop.end().await
}

const TCP: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: "", kind: Service, name: api, port: 80}]
  rules: [{backendRefs: [{name: api-v2, port: 80}]}]
"#;

const TLS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: api}
spec:
  parentRefs: [{group: "", kind: Service, name: api-v1, port: 80}]
  hostnames: [api.example.com]
  rules: [{backendRefs: [{name: api-v2, port: 80}]}]
"#;

#[tokio::test]
async fn connections_go_where_a_tcp_route_says_and_it_says_so() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "tcp").await?;
    let opaque = ["annotate", "service", "api", "api-v1", "api-v2", "heddle.dev/opaque-ports=80"];
    shop.kubectl(&opaque).await?;
    answer(&shop, &["v1", "v2"]).await?;
    shop.apply(&format!("{TCP}---{TLS}")).await?;
    answer(&shop, &["v2"]).await?;
    let good =
        ["Accepted True Accepted", "ResolvedRefs True", "Programmed True Programmed: 1 of 1"];
    says(&shop, "tcproute/api", &good).await?;
    // Nobody asks for what it is about.
    says(&shop, "tlsroute/api", &["Accepted True Accepted", "ResolvedRefs True", "NoProxies"])
        .await?;
    shop.end().await
}

/// A route of ours, to a Service of another namespace.
fn abroad(namespace: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: abroad}}\nspec:\n  parentRefs: \
         [{{group: \"\", kind: Service, name: api, port: 80}}]\n  rules: [{{backendRefs: [{{name: api-v2, port: 80, \
         namespace: {namespace}}}]}}]\n"
    )
}

/// What the other namespace says of that.
fn grant(from: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: welcome}}\nspec:\n  \
         from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {from}}}]\n  to: [{{group: \"\", kind: \
         Service}}]\n"
    )
}

#[tokio::test]
async fn what_is_of_another_namespace_has_to_be_granted_and_strangers_words_stay() -> Result<()> {
    let mesh = mesh::installed().await?;
    let (own, other) = tokio::try_join!(shop(mesh, "own"), shop(mesh, "other"))?;
    own.apply(&abroad(&other.namespace)).await?;
    says(&own, "httproute/abroad", &["Accepted True", "ResolvedRefs False RefNotPermitted"])
        .await?;

    // Another controller says something of the same route.
    let route = own.kubectl(&["get", "httproute/abroad", "-o", "json"]).await?;
    let route: Value = serde_json::from_str(&route)?;
    let mut parents = route["status"]["parents"].as_array().cloned().unwrap_or_default();
    let stranger = json!({
        "controllerName": "example.com/stranger",
        "parentRef": {"group": "", "kind": "Service", "name": "api", "port": 80},
        "conditions": [{"type": "Accepted", "status": "False", "reason": "Stranger", "message": "no",
            "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": 1}],
    });
    parents.insert(0, stranger.clone());
    let patch = json!({"status": {"parents": parents}}).to_string();
    let written =
        ["patch", "httproute/abroad", "--subresource=status", "--type=merge", "-p", &patch];
    own.kubectl(&written).await?;

    other.apply(&grant(&own.namespace)).await?;
    let good = ["Accepted True", "ResolvedRefs True", "Programmed"];
    says(&own, "httproute/abroad", &good).await?;
    answer(&own, &["v2"]).await?;
    says(&own, "httproute/abroad", &["Programmed True Programmed: 1 of 1 proxies"]).await?;
    let route = own.kubectl(&["get", "httproute/abroad", "-o", "json"]).await?;
    let route: Value = serde_json::from_str(&route)?;
    let first = &route["status"]["parents"][0];
    ensure!(*first == stranger, "the stranger's words are now {first}");
    own.end().await?;
    other.end().await
}
