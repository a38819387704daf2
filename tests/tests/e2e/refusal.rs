//! Configuration that cannot be meant: what worked before goes on, and the status says what is wrong.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents, traffic_split};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::status::{self, Status};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_broken_traffic_split_changes_nothing_and_the_status_names_file_object_and_field()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = two_versions("split", &traffic_split("api", &[("v1", 100), ("v2", 0)])).await?;
    all_from(&world, "v1").await?;
    let good = |weight: &str, field: &str| {
        format!(
            "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata:\n  name: api\nspec:\n  \
             service: api\n  backends:\n    - service: v1\n      weight: 0\n    - service: v2\n      {field}: {weight}\n"
        )
    };
    for (case, text, words) in [
        ("bad YAML", "kind: [TrafficSplit\nspec: }".to_owned(), vec!["route.yaml"]),
        ("a weight in words", good("plenty", "weight"), vec!["route.yaml", "api", "weight"]),
        ("a negative weight", good("-1", "weight"), vec!["route.yaml", "api", "weight"]),
        ("a mistyped field", good("100", "wieght"), vec!["route.yaml", "api", "wieght"]),
    ] {
        world.write("route.yaml", &text)?;
        let complaint = complained(&world, &words).await.context(case)?;
        let table = status::table(&world).await?;
        ensure!(table.code == Some(3), "{case}: the table ends with {:?}", table.code);
        for word in &words {
            ensure!(
                table.stdout.contains(word),
                "{case}: no {word:?} in the table:\n{}",
                table.stdout
            );
        }
        eprintln!("{case}: {complaint}");
        all_from(&world, "v1").await.context(case)?;
    }
    world.write("route.yaml", &traffic_split("api", &[("v1", 0), ("v2", 100)]))?;
    mended(&world).await?;
    until_all_from(&world, "v2").await?;
    world.finish().await
}

#[tokio::test]
async fn a_bad_regular_expression_is_refused_and_the_other_routes_of_its_service_go_on()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = two_versions("regex", &http_route("/.*", "v1").to_string()).await?;
    all_from(&world, "v1").await?;
    world.write("route.yaml", &http_route("/(unclosed", "v2").to_string())?;
    let words =
        ["route.yaml", "HTTPRoute", "api", "spec.rules[0].matches[0].path.value", "(unclosed"];
    complained(&world, &words).await?;
    let table = status::table(&world).await?;
    ensure!(table.code == Some(3), "the table ends with {:?}", table.code);
    for word in words {
        ensure!(table.stdout.contains(word), "no {word:?} in the table:\n{}", table.stdout);
    }
    all_from(&world, "v1").await?;

    // It is the fault of that route only: another one of the service counts.
    let mut other = http_route("/.*", "v2");
    other["metadata"]["name"] = "other".into();
    other["spec"]["rules"][0]["matches"][0]["path"] = json!({ "type": "Exact", "value": "/" });
    world.write("other.yaml", &other.to_string())?;
    until_all_from(&world, "v2").await?;
    world.write("route.yaml", &http_route("/[a-z]*", "v2").to_string())?;
    mended(&world).await?;
    world.finish().await
}

/// Two versions behind one name, a client, and a route.
async fn two_versions(name: &str, route: &str) -> Result<World> {
    let server = |name: &str| {
        Pod::new(name).label("part-of", "api").command(&echo_http(8080, name)).port(8080)
    };
    let services = [
        Service::new("api").selector("part-of", "api").port_speaking(8080, 8080, "http"),
        Service::new("v1").port_speaking(8080, 8080, "http"),
        Service::new("v2").port_speaking(8080, 8080, "http"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&[server("v1"), server("v2"), Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .file("route.yaml", route)
        .start()
        .await
}

fn http_route(expression: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "api" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "api" }],
            "rules": [{
                "matches": [{ "path": { "type": "RegularExpression", "value": expression } }],
                "backendRefs": [{ "name": backend, "port": 8080 }],
            }],
        },
    })
}

async fn all_from(world: &World, version: &str) -> Result<()> {
    let report = Load::on("http://api:8080/").requests(100).run(world, "client").await?;
    report.nothing_lost()?;
    ensure!(report.of(version) == 100, "all of {version} was expected: {:?}", report.versions);
    Ok(())
}

async fn until_all_from(world: &World, version: &str) -> Result<()> {
    wait::until("all is answered by the new backend", Duration::from_secs(10), async || {
        all_from(world, version).await
    })
    .await
}

/// Waits for a complaint that holds all of these words.
async fn complained(world: &World, words: &[&str]) -> Result<String> {
    wait::until("the status complains", Duration::from_secs(10), async || {
        let status = Status::read(world).await?;
        ensure!(status.refused, "nothing is refused");
        let complaints = status.complaints();
        let found =
            complaints.iter().find(|complaint| words.iter().all(|word| complaint.contains(word)));
        found.cloned().with_context(|| format!("{words:?} in none of {complaints:?}"))
    })
    .await
}

async fn mended(world: &World) -> Result<()> {
    wait::until("the status is content", Duration::from_secs(10), async || {
        let status = Status::read(world).await?;
        ensure!(!status.refused, "{:?} {:?}", status.complaints(), status.proxies);
        Ok(())
    })
    .await?;
    let table = status::table(world).await?;
    ensure!(table.code == Some(0), "the table ends with {:?}: {}", table.code, table.stdout);
    Ok(())
}
