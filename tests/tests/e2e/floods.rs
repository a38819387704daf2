//! HTTP/2 clients that flood a proxy with frames which cost them nothing: each is ended for what it does, the
//! proxy's memory stays bounded, and a good client loses nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::adversary::flood::{Flood, Flooded};
use heddle_tests::adversary::{self, patient};
use heddle_tests::load::{Load, Report};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::process::Proxy;
use heddle_tests::world::{Plan, World};

/// Each kind, and the label that its end is counted under.
const FLOODS: [(Flood, &str); 9] = [
    (Flood::RapidReset, "http2_reset"),
    (Flood::Continuation, "http2_continuation"),
    (Flood::Ping, "http2_ping"),
    (Flood::PingAck, "http2_ping"),
    (Flood::Settings, "http2_settings"),
    (Flood::WindowUpdate, "http2_window_update"),
    (Flood::EmptyData, "http2_empty_data"),
    (Flood::Priority, "http2_priority"),
    (Flood::Unknown, "http2_unknown_frame"),
];
/// So many that no budget holds them.
const FRAMES: u32 = 20_000;
const CONNECTIONS_PER_SECOND: u32 = 20;
const TIME: Duration = Duration::from_secs(3);
/// What all floods together may add to a proxy's memory. Some is the allocator's, which keeps what it has
/// once needed.
const GROWTH_LIMIT_KIB: u64 = 24 * 1024;

#[tokio::test]
async fn floods_of_frames_are_ended_and_memory_stays_bounded_while_a_good_client_loses_nothing()
-> Result<()> {
    let world = world().await?;
    // The first requests make what the proxy keeps for ever.
    good_client(&world).await?;
    let proxy = Proxy::of(&world, "server").await?;
    let begun = proxy.processor_time()?;
    let calm = p99(&good_client(&world).await?)?;
    let calm_time = proxy.processor_time()? - begun;
    let before = proxy.memory()?;
    for (kind, limit) in FLOODS {
        let begun = proxy.processor_time()?;
        let (flooded, report) = tokio::join!(flood(&world, kind), good_client(&world));
        let (flooded, flooded_p99) = (flooded?, p99(&report?)?);
        // The flood's own work, and that of two cores' other tenants, are in the latency too; not in
        // the proxy's processor time.
        let time = proxy.processor_time()? - begun;
        eprintln!(
            "{kind:?}: {flooded:?}; p99 {flooded_p99:.2} ms, calm {calm:.2} ms: {:.2} times; \
             processor time {time:?}, calm {calm_time:?}",
            flooded_p99 / calm
        );
        ensure!(time < TIME, "{kind:?}: the proxy took {time:?} in {TIME:?}");
        ensure!(flooded.connections > 3, "{kind:?}: {flooded:?}");
        ensure!(flooded.ended == flooded.connections, "{kind:?}: {flooded:?}");
        let metrics = Metrics::of(&world, "server").await?;
        let labels = [("direction", "inbound"), ("limit", limit)];
        let counted = metrics.require("heddle_limits_reached_total", &labels)?;
        ensure!(counted >= f64::from(flooded.connections), "{kind:?}: {counted} of {flooded:?}");
    }
    let after = proxy.memory()?;
    eprintln!("memory: {before:?} before, {after:?} after");
    let grown = after.peak_kib.saturating_sub(before.resident_kib);
    ensure!(grown <= GROWTH_LIMIT_KIB, "{grown} KiB more: {before:?}, {after:?}");
    world.finish().await
}

async fn world() -> Result<World> {
    Plan::new("floods")
        .file("server.yaml", Pod::new("server").command(&patient(8080)?).port(8080).to_string())
        .file("clients.yaml", documents(&[Pod::new("client"), Pod::new("outside").unmeshed()]))
        .file("service.yaml", Service::new("server").port(8080, 8080).to_string())
        .start()
        .await
}

async fn flood(world: &World, kind: Flood) -> Result<Flooded> {
    let name = clap::ValueEnum::to_possible_value(&kind).context("a flood without a name")?;
    let arguments = [
        "flood".to_owned(),
        format!("--kind={}", name.get_name()),
        format!("--address={}:8080", world.address("server").await?),
        format!("--millis={}", TIME.as_millis()),
        format!("--frames={FRAMES}"),
        format!("--per-second={CONNECTIONS_PER_SECOND}"),
    ];
    adversary::run(world, "outside", &arguments).await
}

/// Asks for as long as a flood takes.
async fn good_client(world: &World) -> Result<Report> {
    let load = Load::on("http://server:8080/").rate(100).connections(4).seconds(TIME.as_secs());
    let report = load.run(world, "client").await?;
    report.nothing_lost()?;
    Ok(report)
}

fn p99(report: &Report) -> Result<f64> {
    report.latency_ms.p99.context("no latency")
}
