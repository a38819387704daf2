//! Many bytes on one connection: all of them arrive, and no proxy keeps more of them than its buffers hold.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{bulk_client, bulk_server, farewell};
use heddle_tests::conversation::Conversation;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::settings;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;

/// 1 GiB each way; `HEDDLE_TEST_BULK_BYTES=10737418240` for 10.
#[tokio::test]
async fn gigabytes_pass_both_ways_at_once_in_bounded_memory() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let bytes = settings::number("HEDDLE_TEST_BULK_BYTES", 1 << 30)?;
    let world = Plan::new("bulk")
        .file(
            "pods.yaml",
            documents(&[
                Pod::new("client"),
                Pod::new("server").command(&bulk_server(7000)).port(7000).strict(),
            ]),
        )
        .file("service.yaml", Service::new("server").port(7000, 7000).to_string())
        .start()
        .await?;
    // What a proxy holds after it has carried something at all.
    world.ask("client", &bulk_client("server", 7000, 1_000_000)).await?;
    let before = peaks(&world).await?;
    let command = bulk_client("server", 7000, bytes);
    let began = Instant::now();
    // As slow as a busy machine may be, which is no matter of this test.
    let limit = Duration::from_secs(60 + bytes / 10_000_000);
    let run = world.mesh()?.run("client", &command, Vec::new());
    let output = tokio::time::timeout(limit, run).await.context("it takes too long")??;
    let took = began.elapsed();
    ensure!(output.stdout_text().trim() == format!("{{\"received\": {bytes}}}"), "{output:?}");
    for (workload, direction) in [("client", "outbound"), ("server", "inbound")] {
        let metrics = Metrics::of(&world, workload).await?;
        for flow in ["to_server", "to_client"] {
            let labels = [("direction", direction), ("flow", flow)];
            let counted = metrics.require("heddle_tcp_bytes_total", &labels)?;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let sent = bytes as f64;
            ensure!(counted >= sent, "{workload}: {}", metrics.show("heddle_tcp_bytes_total"));
        }
    }
    let after = peaks(&world).await?;
    eprintln!(
        "{bytes} bytes each way in {took:?}; peaks of memory in KiB: {before:?}, then {after:?}"
    );
    for (before, after) in before.iter().zip(&after) {
        ensure!(after - before < GROWTH_LIMIT_KIB, "memory grew from {before} to {after} KiB");
    }
    world.finish().await
}

#[tokio::test]
async fn a_server_that_ends_its_half_of_a_connection_still_gets_the_rest() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = Plan::new("farewell")
        .file(
            "pods.yaml",
            documents(&[
                Pod::new("client"),
                Pod::new("server").command(&farewell(7000)).port(7000).strict(),
            ]),
        )
        .file("service.yaml", Service::new("server").port(7000, 7000).to_string())
        .start()
        .await?;
    let bytes = 3_000_000;
    // The server's end arrives while the client's direction is open, and what follows on that arrives.
    let conversation = Conversation::new().rest().fill(bytes).end();
    let read = conversation.held(&world, "client", ("server", 7000)).await?;
    ensure!(read == ["221 good night\n"], "{read:?}");
    wait::until("all of it is there", Duration::from_secs(10), async || {
        let metrics = Metrics::of(&world, "server").await?;
        let labels = [("direction", "inbound"), ("flow", "to_server")];
        let arrived = metrics.require("heddle_tcp_bytes_total", &labels)?;
        ensure!(arrived >= 3_000_000.0, "{arrived} bytes");
        Ok(())
    })
    .await?;
    world.finish().await
}

/// The most memory that each of both proxies has held so far, in KiB.
async fn peaks(world: &World) -> Result<[u64; 2]> {
    Ok([peak(world, "client").await?, peak(world, "server").await?])
}

async fn peak(world: &World, workload: &str) -> Result<u64> {
    let status = world.mesh()?.status().await?;
    let status = status.workload(workload).context("no such workload")?;
    let proxy = status.processes.iter().find(|process| process.name == "proxy");
    let pid = proxy.and_then(|proxy| proxy.pid).context("its proxy does not run")?;
    let text = world.ask(workload, &["cat".to_owned(), format!("/proc/{pid}/status")]).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A few buffers of 64 KiB for each direction and TLS, and what the allocator makes of them.
const GROWTH_LIMIT_KIB: u64 = 8 * 1024;
