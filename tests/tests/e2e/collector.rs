//! What a real OpenTelemetry collector is sent is what happened; and whatever becomes of the collector, no request is
//! lost of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::collector::{self, Collector, GRPC_PORT, HTTP_PORT, Received};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn a_collector_is_told_by_grpc_exactly_what_was_sent() -> Result<()> {
    exactly_what_was_sent("grpc", GRPC_PORT).await
}

#[tokio::test]
async fn a_collector_is_told_by_http_exactly_what_was_sent() -> Result<()> {
    exactly_what_was_sent("http/protobuf", HTTP_PORT).await
}

async fn exactly_what_was_sent(protocol: &str, port: u16) -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let endpoint = format!("--otel-exporter-otlp-endpoint=http://{}:{port}", collector::NAME);
    let protocol = format!("--otel-exporter-otlp-protocol={protocol}");
    let arguments = [
        &endpoint,
        &protocol,
        "--otel-metric-export-interval=300",
        "--otel-resource-attributes=deployment.environment.name=test",
    ];
    let world = shop(&format!("collector-{port}"), &collector, &arguments).await?;
    const GOOD: u64 = 400;
    const BAD: u64 = 30;
    Load::on("http://api:8080/").requests(GOOD).run(&world, "client").await?.nothing_lost()?;
    let bad = Load::on("http://broken:8080/").requests(BAD).run(&world, "client").await?;
    ensure!(bad.failed == BAD, "{bad:?}");
    let good = [("http.response.status_code", "200"), ("heddle.tls", "mtls")];
    let bad = [("http.response.status_code", "502")];
    wait::until("the counts agree", Duration::from_secs(60), async || {
        let received = collector.metrics()?;
        for (metric, pod, attributes, expected) in [
            ("http.server.request.duration", "api", &good[..], GOOD),
            ("http.client.request.duration", "client", &good[..], GOOD),
            ("http.server.response.body.size", "api", &good[..], GOOD),
            ("http.client.request.duration", "client", &bad[..], BAD),
            ("http.server.request.duration", "broken", &bad[..], BAD),
        ] {
            let found = received.count(metric, pod, attributes)?;
            ensure!(found == expected, "{metric} of {pod}: {found} are told of {expected}");
        }
        let counted = Metrics::of(&world, "api").await?;
        let connections = counted.sum("heddle_tcp_connections_total", &[("direction", "outbound")]);
        let outbound = [("heddle.direction", "outbound")];
        let told = received.count("heddle.tcp.connections", "api", &outbound)?;
        ensure!(told > 0 && told as f64 == connections, "{told} of {connections} connections");
        Ok(())
    })
    .await?;
    all_is_cumulative_and_says_whose_it_is(&world, &collector.metrics()?).await?;
    world.finish().await
}

#[tokio::test]
async fn the_control_plane_passes_on_what_proxies_tell_and_waits_for_nobody() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let world = forwarding("collector-forward", &collector, &[]).await?;
    Load::on("http://api:8080/").requests(200).run(&world, "client").await?.nothing_lost()?;
    passed_on(&collector, 200).await?;
    // Nobody reads for a while: proxies are answered as before.
    let target = || Target::Application(collector::NAME.to_owned());
    world.mesh()?.stop(target(), Signal::Pause).await?;
    wait::until("the control plane gives up", Duration::from_secs(60), async || {
        let metrics = Metrics::of_control_plane(&world).await?;
        metrics.require(FORWARDED, &[("outcome", "timed_out")]).map(drop)
    })
    .await?;
    let to_control_plane = async |outcome: &str| {
        let labels = [("signal", "metrics"), ("receiver", "control_plane"), ("outcome", outcome)];
        let metrics = Metrics::of(&world, "client").await?;
        anyhow::Ok(metrics.sum("heddle_telemetry_exports_total", &labels))
    };
    let before = to_control_plane("succeeded").await?;
    Load::on("http://api:8080/").requests(100).run(&world, "client").await?.nothing_lost()?;
    wait::until("exports go on", Duration::from_secs(60), async || {
        ensure!(to_control_plane("succeeded").await? >= before + 3.0, "no more exports");
        Ok(())
    })
    .await?;
    for outcome in ["timed_out", "failed"] {
        ensure!(to_control_plane(outcome).await? == 0.0, "an export was {outcome}");
    }
    world.mesh()?.stop(target(), Signal::Continue).await?;
    passed_on(&collector, 300).await?;
    for series in collector.metrics()?.latest()?.into_values().flatten() {
        let said = |name: &str| series.resource.get(name).map_or("", String::as_str);
        let pod = said("k8s.pod.name").to_owned();
        let uid = world.pod_uid(&pod).await?;
        for (name, expected) in [
            ("k8s.pod.uid", uid.as_str()),
            ("service.instance.id", uid.as_str()),
            ("k8s.namespace.name", "default"),
            ("heddle.identity", &format!("spiffe://cluster.local/ns/default/sa/{pod}")),
            ("k8s.cluster.name", "east"),
        ] {
            ensure!(said(name) == expected, "{name} of {pod}: {:?}", series.resource);
        }
    }
    world.finish().await
}

#[tokio::test]
async fn what_a_proxy_exports_itself_is_not_passed_on_once_more() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let endpoint = format!("--otel-exporter-otlp-endpoint=http://{}:{HTTP_PORT}", collector::NAME);
    let own = [&endpoint, "--otel-metric-export-interval=300"];
    let world = forwarding("collector-once", &collector, &own).await?;
    Load::on("http://api:8080/").requests(200).run(&world, "client").await?.nothing_lost()?;
    passed_on(&collector, 200).await?;
    wait::until("the control plane is told, too", Duration::from_secs(60), async || {
        let metrics = Metrics::of_control_plane(&world).await?;
        let told = metrics.require("heddle_control_plane_telemetry_exports_total", &[])?;
        ensure!(told >= 8.0, "only {told} exports");
        ensure!(metrics.sum(FORWARDED, &[]) == 0.0, "{}", metrics.show(FORWARDED));
        Ok(())
    })
    .await?;
    for series in collector.metrics()?.latest()?.into_values().flatten() {
        // What only the control plane says.
        ensure!(!series.resource.contains_key("heddle.identity"), "{:?}", series.resource);
    }
    world.finish().await
}

/// The shop, whose control plane passes on to the collector what it is told.
async fn forwarding(name: &str, collector: &Collector, proxies: &[&str]) -> Result<World> {
    let endpoint = format!("--otel-exporter-otlp-endpoint=http://{FIRST_ADDRESS}:{GRPC_PORT}");
    let plan = shop_plan(name, collector)?
        .proxies(&[&["--telemetry-interval=300ms"], proxies].concat())
        .control_plane(&[
            &endpoint,
            "--otel-exporter-otlp-protocol=grpc",
            "--otel-exporter-otlp-timeout=1000",
            "--otel-resource-attributes=k8s.cluster.name=east",
        ]);
    let world = plan.start().await?;
    let address = world.address(collector::NAME).await?.to_string();
    ensure!(address == FIRST_ADDRESS, "the collector's pod is the first, and it is at {address}");
    Ok(world)
}

/// Waits until the collector knows of exactly so many requests.
async fn passed_on(collector: &Collector, expected: u64) -> Result<()> {
    wait::until("the counts agree", Duration::from_secs(60), async || {
        let received = collector.metrics()?;
        for (metric, pod) in
            [("http.server.request.duration", "api"), ("http.client.request.duration", "client")]
        {
            let found = received.count(metric, pod, &[("http.response.status_code", "200")])?;
            ensure!(found == expected, "{metric} of {pod}: {found} are told of {expected}");
        }
        Ok(())
    })
    .await
}

async fn all_is_cumulative_and_says_whose_it_is(world: &World, told: &Received) -> Result<()> {
    const CUMULATIVE: u64 = 2;
    let mut pods = BTreeSet::new();
    let latest = told.latest()?;
    for (metric, all) in &latest {
        for series in all {
            ensure!(
                series.temporality.is_none_or(|it| it == CUMULATIVE),
                "{metric} is not cumulative: {series:?}"
            );
            ensure!(series.kind != "histogram" && series.kind != "summary", "{metric}: {series:?}");
            let said = |name: &str| series.resource.get(name).map_or("", String::as_str);
            let pod = said("k8s.pod.name").to_owned();
            let uid = world.pod_uid(&pod).await?;
            for (name, expected) in [
                ("k8s.pod.uid", uid.as_str()),
                ("service.instance.id", uid.as_str()),
                ("service.name", pod.as_str()),
                ("service.namespace", "default"),
                ("k8s.namespace.name", "default"),
                ("heddle.proxy.version", env!("CARGO_PKG_VERSION")),
                ("deployment.environment.name", "test"),
            ] {
                ensure!(said(name) == expected, "{name} of {pod}: {:?}", series.resource);
            }
            pods.insert(pod);
        }
    }
    ensure!(pods == BTreeSet::from(MESHED.map(ToOwned::to_owned)), "only {pods:?} tell");
    let unit = |metric: &str| latest.get(metric).and_then(|all| all.first()).map(|one| &*one.unit);
    ensure!(unit("http.server.request.duration") == Some("s"), "{latest:?}");
    ensure!(unit("http.server.response.body.size") == Some("By"), "{latest:?}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_stands_still_dies_and_comes_back_costs_no_request() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let endpoint = format!("--otel-exporter-otlp-endpoint=http://{}:{GRPC_PORT}", collector::NAME);
    let arguments = [
        &endpoint,
        "--otel-exporter-otlp-protocol=grpc",
        "--otel-metric-export-interval=200",
        "--otel-exporter-otlp-timeout=500",
    ];
    let world = shop("collector-lost", &collector, &arguments).await?;
    let (done, mut is_done) = tokio::sync::watch::channel(false);
    let load = async {
        let mut sent = 0;
        while !*is_done.borrow_and_update() {
            let load = Load::on("http://api:8080/").requests(100).rate(200).connections(4);
            let report = load.run(&world, "client").await?;
            report.nothing_lost()?;
            sent += report.sent;
        }
        anyhow::Ok(sent)
    };
    let trouble = async {
        let outcome = trouble(&world).await;
        done.send_replace(true);
        outcome
    };
    let (sent, outcome) = tokio::join!(load, trouble);
    outcome?;
    let sent = sent?;
    ensure!(sent > 0, "there was no load");
    let after = collector.metrics()?.0.len();
    wait::until("all of it is told in the end", Duration::from_secs(60), async || {
        let received = collector.metrics()?;
        ensure!(received.0.len() > after, "nothing new was told");
        for (metric, pod) in
            [("http.server.request.duration", "api"), ("http.client.request.duration", "client")]
        {
            let found = received.count(metric, pod, &[("http.response.status_code", "200")])?;
            ensure!(found == sent, "{metric} of {pod}: {found} are told of {sent}");
        }
        Ok(())
    })
    .await?;
    world.finish().await
}

/// Lets the collector stand still, die and come back; each until a proxy has noticed.
async fn trouble(world: &World) -> Result<()> {
    let target = || Target::Application(collector::NAME.to_owned());
    let mesh = world.mesh()?;
    more_of(world, "succeeded").await?;
    mesh.stop(target(), Signal::Pause).await?;
    more_of(world, "timed_out").await?;
    mesh.stop(target(), Signal::Kill).await?;
    more_of(world, "failed").await?;
    mesh.start_again(target()).await?;
    more_of(world, "succeeded").await
}

/// Waits until the client's proxy has had more exports that came to this.
async fn more_of(world: &World, outcome: &str) -> Result<()> {
    let count = async || {
        let labels = [("signal", "metrics"), ("receiver", "collector"), ("outcome", outcome)];
        let metrics = Metrics::of(world, "client").await?;
        anyhow::Ok(metrics.sum("heddle_telemetry_exports_total", &labels))
    };
    let before = count().await?;
    wait::until(outcome, Duration::from_secs(60), async || {
        let now = count().await?;
        ensure!(now >= before + 2.0, "{now} exports {outcome}, {before} before");
        Ok(())
    })
    .await
    .context("of the exports to the collector")
}

/// The demo's shop, a service that nobody serves, and the collector.
async fn shop(name: &str, collector: &Collector, arguments: &[&str]) -> Result<World> {
    shop_plan(name, collector)?.proxies(arguments).start().await
}

fn shop_plan(name: &str, collector: &Collector) -> Result<Plan> {
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let api = |name: &str, store: &str| {
        let command = ["meshctl", "shop", "api", "--listen", "8080", "--version", "v1", "--store"];
        Pod::new(name).command(&[&command[..], &[store]].concat()).port(8080)
    };
    let pods = [
        collector.pod()?,
        store,
        api("api", "store:9000"),
        // Nobody listens there: it answers with 502.
        api("broken", "store:9999"),
        Pod::new("client"),
    ];
    let services = [
        Collector::service(),
        Service::new("store").port(9000, 9000),
        Service::new("api").port_speaking(8080, 8080, "http"),
        Service::new("broken").port_speaking(8080, 8080, "http"),
    ];
    Ok(Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services)))
}

/// Of the first pod of a world, as the control plane knows it, which has no names.
const FIRST_ADDRESS: &str = "10.42.0.2";
const FORWARDED: &str = "heddle_control_plane_telemetry_forwarded_exports_total";
const MESHED: [&str; 4] = ["store", "api", "broken", "client"];
