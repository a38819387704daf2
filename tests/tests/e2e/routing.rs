//! Routes of producers and consumers: who calls decides which one counts.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

#[tokio::test]
async fn callers_of_a_namespace_with_a_route_of_its_own_follow_that() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let server = |name: &str| {
        Pod::new(name).label("part-of", "api").command(&echo_http(8080, name)).port(8080)
    };
    let services = [
        Service::new("api").selector("part-of", "api").port_speaking(8080, 8080, "http"),
        Service::new("v1").port_speaking(8080, 8080, "http"),
        Service::new("v2").port_speaking(8080, 8080, "http"),
    ];
    let clients = [Pod::new("client"), Pod::new("visitor").namespace("web")];
    let world = Plan::new("consumer")
        .file("pods.yaml", documents(&[server("v1"), server("v2")]))
        .file("clients.yaml", documents(&clients))
        .file("services.yaml", documents(&services))
        .file("producer.yaml", route("default", "v1").to_string())
        .file("consumer.yaml", route("web", "v2").to_string())
        .start()
        .await?;
    until_all_from(&world, "client", "v1").await?;
    until_all_from(&world, "web/visitor", "v2").await?;
    world.write("producer.yaml", &route("default", "v2").to_string())?;
    world.write("consumer.yaml", &route("web", "v1").to_string())?;
    until_all_from(&world, "client", "v2").await?;
    until_all_from(&world, "web/visitor", "v1").await?;
    world.remove("consumer.yaml")?;
    until_all_from(&world, "web/visitor", "v2").await?;
    world.finish().await
}

/// In one namespace, for the service `api` of the other.
fn route(namespace: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "api", "namespace": namespace },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "api", "namespace": "default" }],
            "rules": [{
                "backendRefs": [{ "name": backend, "namespace": "default", "port": 8080 }],
            }],
        },
    })
}

async fn until_all_from(world: &World, client: &str, version: &str) -> Result<()> {
    let what = format!("{client} is answered by {version}");
    wait::until(&what, Duration::from_secs(10), async || {
        let report = Load::on("http://api.default:8080/").requests(50).run(world, client).await?;
        report.nothing_lost()?;
        ensure!(report.of(version) == 50, "{:?}", report.versions);
        Ok(())
    })
    .await
}
