//! What `meshctl stat` and `meshctl edges` say of a load is what the load sent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::program;
use heddle_tests::requirements;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::Value;

#[tokio::test]
async fn stat_and_edges_tell_exactly_what_was_sent() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let command = ["meshctl", "shop", "api", "--listen", "8080", "--store", "store:9000"];
    let api = Pod::new("api").command(&command).port(8080);
    let services = [
        Service::new("store").port(9000, 9000),
        Service::new("api").port_speaking(8080, 8080, "http"),
    ];
    let world = Plan::new("stat")
        .file("pods.yaml", documents(&[store, api, Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .proxies(&["--telemetry-interval=1s"])
        .start()
        .await?;
    let silent = ask(&world, &["stat", "svc"]).await?;
    let rows = silent.stdout["rows"].as_array().context("no rows")?;
    for service in ["api:8080", "store:9000"] {
        ensure!(rows.iter().any(|row| row["name"] == service), "no {service}: {silent:?}");
    }
    ensure!(!silent.hint.is_empty(), "nothing is said of the silence");

    const REQUESTS: u64 = 300;
    Load::on("http://api:8080/").requests(REQUESTS).run(&world, "client").await?.nothing_lost()?;
    for (kind, name) in
        [("svc", "api:8080"), ("pod", "api"), ("workload", "api"), ("backend", "api:8080")]
    {
        let row = wait::until("all requests are told of", Duration::from_secs(30), async || {
            let said = ask(&world, &["stat", kind, name]).await?.stdout;
            let row = said["rows"][0].clone();
            ensure!(row["requests"] == REQUESTS, "{kind}: {said}");
            Ok(row)
        })
        .await?;
        ensure!(row["failures"] == 0 && row["success_rate"] == 1.0, "{row}");
        ensure!(row["mtls_share"] == 1.0, "{row}");
        ensure!(row["meshed"] == 1 && row["pods"] == 1, "{row}");
        let p99 = row["latency_seconds"]["p99"].as_f64().context("no p99")?;
        ensure!(p99 > 0.0 && p99 < 10.0, "{row}");
        // What the proxy takes itself is a part of what the requests took, and known of those who are asked.
        let own = &row["proxy_seconds"]["inbound"]["p50"];
        match kind {
            "pod" | "workload" => {
                let own = own.as_f64().with_context(|| format!("no time of the proxy: {row}"))?;
                ensure!(own > 0.0 && own < p99 * 1.1, "{row}");
            }
            _ => ensure!(row["proxy_seconds"].is_null(), "{row}"),
        }
    }
    let caller = ask(&world, &["stat", "pod", "client"]).await?.stdout["rows"][0].clone();
    ensure!(caller["proxy_seconds"]["outbound"]["p50"].as_f64() > Some(0.0), "{caller}");
    ensure!(caller["requests"] == 0 && caller["proxy_seconds"]["inbound"].is_null(), "{caller}");
    let edges = ask(&world, &["edges"]).await?.stdout;
    let found = edges["edges"].as_array().context("no edges")?;
    let called = found.iter().find(|edge| edge["destination"]["name"] == "api:8080");
    let called = called.with_context(|| edges.to_string())?;
    ensure!(called["source"]["name"] == "client" && called["secured"] == true, "{called}");
    ensure!(called["requests"] == REQUESTS, "{called}");
    let stored = found.iter().find(|edge| edge["destination"]["name"] == "store:9000");
    let stored = stored.with_context(|| edges.to_string())?;
    ensure!(stored["source"]["name"] == "api" && stored["secured"] == true, "{stored}");
    ensure!(stored["connections"].as_u64().is_some_and(|count| count > 0), "{stored}");
    world.finish().await
}

#[derive(Debug)]
struct Answer {
    stdout: Value,
    hint: String,
}

/// Over ten minutes, so that nothing grows too old on a slow machine.
async fn ask(world: &World, arguments: &[&str]) -> Result<Answer> {
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let options = ["--admin-socket", &socket, "--window", "10m", "--output", "json"];
    let said = program::meshctl(&[arguments, &options].concat()).await?;
    let stdout = serde_json::from_str(&said.stdout)
        .with_context(|| format!("meshctl said: {}{}", said.stdout, said.stderr))?;
    Ok(Answer { stdout, hint: said.stderr })
}
