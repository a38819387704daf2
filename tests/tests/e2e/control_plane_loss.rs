//! What goes on without the control plane, and what it makes good when it is back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::status::Status;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test]
async fn traffic_goes_on_without_the_control_plane_also_to_what_was_idle_for_a_minute() -> Result<()>
{
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080).strict();
    let services = [Service::new("busy").port(8080, 8080), Service::new("idle").port(8080, 8080)];
    let world = Plan::new("loss")
        .file("pods.yaml", documents(&[Pod::new("client"), server("busy"), server("idle")]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    for service in ["busy", "idle"] {
        let url = format!("http://{service}:8080/");
        Load::on(&url).requests(5).run(&world, "client").await?.nothing_lost()?;
    }
    kill_control_plane(&world).await?;
    // The minute in which one of them is idle is spent with the other.
    let load = Load::on("http://busy:8080/").rate(50).connections(4).seconds(60);
    let began = Instant::now();
    let new_connections = async {
        let mut opened = 0;
        while began.elapsed() < Duration::from_secs(55) {
            // Each run of curl is a connection that the proxy has not seen before.
            let status =
                ["--output", "/dev/null", "--write-out", "%{http_code}", "http://busy:8080/"];
            let status = world.curl("client", &status).await?;
            ensure!(status == "200", "a new connection got {status} after {:?}", began.elapsed());
            opened += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(opened)
    };
    let (report, opened) = tokio::join!(load.run(&world, "client"), new_connections);
    let (report, opened) = (report?, opened?);
    report.nothing_lost()?;
    ensure!(began.elapsed() >= Duration::from_secs(60), "the minute was short");
    ensure!(opened > 20 && report.sent >= 2900, "{opened} connections, {report:?}");
    let idle = Load::on("http://idle:8080/").requests(50).run(&world, "client").await?;
    idle.nothing_lost()?;
    ensure!(idle.of("idle") == 50, "{idle:?}");
    ensure!(Status::read(&world).await.is_err(), "the control plane is not gone at all");
    world.mesh()?.start_again(Target::ControlPlane).await?;
    all_connected(&world, 3).await?;
    Load::on("http://idle:8080/").requests(50).run(&world, "client").await?.nothing_lost()?;
    world.finish().await
}

#[tokio::test]
async fn endpoints_removed_meanwhile_are_gone_two_seconds_after_the_control_planes_return()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    // Both pods stay alive, so that a proxy that knows no better would be answered by both.
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080).strict();
    let world = Plan::new("stale")
        .file("pods.yaml", documents(&[Pod::new("client"), server("stays"), server("leaves")]))
        .file("services.yaml", Service::new("api").without_selector().port(8080, 8080).to_string())
        .file("policy.yaml", IN_TURN)
        .start()
        .await?;
    let mut measured = Vec::new();
    for attempt in 1..=3 {
        write_slice(&world, &["stays", "leaves"]).await?;
        all_answer(&world, 2).await?;
        kill_control_plane(&world).await?;
        write_slice(&world, &["stays"]).await?;
        let meanwhile = Load::on("http://api:8080/").requests(200).run(&world, "client").await?;
        meanwhile.nothing_lost()?;
        ensure!(
            meanwhile.of("leaves") > 0,
            "without a control plane nobody can know: {meanwhile:?}"
        );
        let took = return_until_gone(&world).await?;
        eprintln!(
            "attempt {attempt}: the endpoint was gone {took:?} after the control plane's start"
        );
        measured.push(took);
        if took < Duration::from_secs(2) {
            return world.finish().await;
        }
    }
    bail!("endpoints removed meanwhile were used for {measured:?}")
}

/// Starts the control plane and asks until the removed endpoint answers no more, which must last.
async fn return_until_gone(world: &World) -> Result<Duration> {
    world.mesh()?.start_again(Target::ControlPlane).await?;
    let began = Instant::now();
    let took = wait::until("the removed endpoint is gone", Duration::from_secs(30), async || {
        let report =
            Load::on("http://api:8080/").requests(40).connections(1).run(world, "client").await?;
        report.nothing_lost()?;
        ensure!(report.of("leaves") == 0, "it answers still: {report:?}");
        Ok(began.elapsed())
    })
    .await?;
    let after = Load::on("http://api:8080/").requests(400).run(world, "client").await?;
    after.nothing_lost()?;
    ensure!(after.of("leaves") == 0, "it came back: {after:?}");
    let older = [("outcome", "ignored_older")];
    let older =
        Metrics::of(world, "client").await?.require("heddle_config_updates_total", &older)?;
    ensure!(older < 1.0, "a control plane that returns starts with older versions: {older}");
    Ok(took)
}

/// An EndpointSlice as the endpoint controller would write it, for these pods.
async fn write_slice(world: &World, pods: &[&str]) -> Result<()> {
    let mut endpoints = Vec::new();
    for pod in pods {
        endpoints.push(json!({
            "addresses": [world.address(pod).await?],
            "conditions": { "ready": true },
            "targetRef": {
                "kind": "Pod", "name": pod, "namespace": "default", "uid": world.pod_uid(pod).await?,
            },
        }));
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": "api-by-hand", "labels": { "kubernetes.io/service-name": "api" } },
        "addressType": "IPv4",
        "ports": [{ "name": "p8080", "port": 8080 }],
        "endpoints": endpoints,
    });
    world.write("slice.yaml", &slice.to_string())
}

/// Asks until so many endpoints answer, all of them well.
async fn all_answer(world: &World, endpoints: usize) -> Result<()> {
    wait::until("all endpoints answer", Duration::from_secs(10), async || {
        let report = Load::on("http://api:8080/").requests(40).run(world, "client").await?;
        report.nothing_lost()?;
        ensure!(report.versions.len() == endpoints, "{report:?}");
        Ok(())
    })
    .await
}

async fn kill_control_plane(world: &World) -> Result<()> {
    world.mesh()?.stop(Target::ControlPlane, Signal::Kill).await?;
    wait::until("the control plane is dead", Duration::from_secs(10), async || {
        let status = world.mesh()?.status().await?;
        ensure!(!status.control_plane.running, "{:?}", status.control_plane);
        Ok(())
    })
    .await
}

async fn all_connected(world: &World, proxies: usize) -> Result<()> {
    wait::until("every proxy is connected again", Duration::from_secs(30), async || {
        let status = Status::read(world).await?;
        let connected = status.proxies.iter().filter(|proxy| proxy.connected).count();
        ensure!(connected == proxies, "{connected} of {proxies}");
        Ok(())
    })
    .await
    .context("after the control plane's return")
}

/// Whoever is not asked for a while is gone then, and was not merely slower.
const IN_TURN: &str = "apiVersion: heddle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: api}
spec:
  targetRefs: [{group: '', kind: Service, name: api}]
  loadBalancing: {type: RoundRobin}
";
