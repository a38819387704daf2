//! A thousand connections in proxies that may take 64 MiB, and what becomes of more than there is room for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::adversary::hold::Held;
use heddle_tests::adversary::{self, patient};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::process::{ControlGroup, Memory, Proxy};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

const CONNECTIONS: u32 = 1000;
/// Of a program that is built to be debugged more of its own code is in memory, and counts: 8 MiB of it.
const LIMIT_BYTES: u64 = if cfg!(debug_assertions) { 72 << 20 } else { 64 << 20 };

#[tokio::test]
async fn a_thousand_connections_fit_into_64_mib() -> Result<()> {
    let world = world("thousand", &[]).await?;
    // The first requests make what a proxy keeps for ever.
    Load::on("http://server:8080/").requests(100).run(&world, "client").await?.nothing_lost()?;
    let (client, server) = (Proxy::of(&world, "client").await?, Proxy::of(&world, "server").await?);
    let groups = limited(&[client, server])?;
    let base = (client.memory()?, server.memory()?);
    eprintln!("without connections: client {:?}, server {:?}", base.0, base.1);

    // From the application, kept without a request: the client's proxy holds them.
    held(&world, "client", "server:8080", "/").await?;
    show("idle, from the application", "client", base.0, client.memory()?);
    // From outside of the mesh, kept: the server's proxy holds them.
    let address = format!("{}:8080", world.address("server").await?);
    held(&world, "outside", &address, "/").await?;
    show("idle, plain to the server", "server", base.1, server.memory()?);
    // In use, in turn: slowly, so that on a machine that stands still for a moment there are not many
    // at once, each with a connection of its own between the proxies.
    let load = Load::on("http://server:8080/").connections(CONNECTIONS.into()).rate(90).seconds(12);
    load.run(&world, "client").await?.nothing_lost()?;
    show("in use, from the application", "client", base.0, client.memory()?);
    show("in use, from the application", "server", base.1, server.memory()?);
    no_refusal(&world).await?;

    // All with a request under way at the same moment, each over a connection of its own between the
    // proxies. There may be no room for that; what there is room for is served.
    let arguments = hold("server:8080", "/slow/3000", CONNECTIONS, Duration::from_secs(1));
    let crowd: Held = adversary::run(&world, "client", &arguments).await?;
    eprintln!("a request under way on each: {crowd:?}");
    show("a request under way on each", "client", base.0, client.memory()?);
    show("a request under way on each", "server", base.1, server.memory()?);
    ensure!(crowd.answered >= 100, "{crowd:?}");
    for (name, proxy) in [("client", client), ("server", server)] {
        // The same processes: none was killed and started again.
        let Memory { peak_kib, .. } = proxy.memory()?;
        ensure!(peak_kib < LIMIT_BYTES / 1024, "the {name}'s proxy took {peak_kib} KiB");
    }
    wait::until("requests are served as before", Duration::from_secs(10), async || {
        let load = Load::on("http://server:8080/").requests(50).run(&world, "client").await?;
        load.nothing_lost()
    })
    .await?;
    world.finish().await?;
    drop(groups);
    Ok(())
}

async fn no_refusal(world: &World) -> Result<()> {
    for pod in ["client", "server"] {
        let metrics = Metrics::of(world, pod).await?;
        let refused = metrics.sum("heddle_connections_refused_total", &[("reason", "memory")]);
        ensure!(refused < 0.5, "{pod} refused {refused}");
    }
    Ok(())
}

/// Holds all connections, and returns once all have been answered again.
async fn held(world: &World, workload: &str, address: &str, path: &str) -> Result<()> {
    let arguments = hold(address, path, CONNECTIONS, Duration::from_secs(2));
    let held: Held = adversary::run(world, workload, &arguments).await?;
    let all = usize::try_from(CONNECTIONS)?;
    ensure!(held.answered == all && held.answered_again == all, "{path}: {held:?}");
    Ok(())
}

fn hold(address: &str, path: &str, connections: u32, time: Duration) -> Vec<String> {
    vec![
        "hold".to_owned(),
        format!("--address={address}"),
        format!("--path={path}"),
        format!("--connections={connections}"),
        format!("--millis={}", time.as_millis()),
    ]
}

/// Where this machine lets us: elsewhere the peak alone is looked at.
fn limited(proxies: &[Proxy]) -> Result<Vec<ControlGroup>> {
    let mut groups = Vec::new();
    for proxy in proxies {
        match proxy.limit_memory(LIMIT_BYTES)? {
            Some(group) => groups.push(group),
            None => eprintln!("NOT LIMITED: no control group can be made here"),
        }
    }
    Ok(groups)
}

fn show(case: &str, pod: &str, base: Memory, now: Memory) {
    let grown = now.peak_kib.saturating_sub(base.resident_kib);
    eprintln!(
        "{case}: the {pod}'s proxy took at most {} KiB, {:.1} KiB for each connection",
        now.peak_kib,
        f64::from(u32::try_from(grown).unwrap_or(u32::MAX)) / f64::from(CONNECTIONS)
    );
}

#[tokio::test]
async fn without_memory_connections_are_refused_and_those_that_are_there_go_on() -> Result<()> {
    // Less than a proxy takes by itself.
    let world = world("short", &["--memory-limit=4Mi"]).await?;
    let refused = async |reason: &str| {
        let metrics = Metrics::of(&world, "server").await?;
        let labels = [("direction", "inbound"), ("reason", reason)];
        Ok::<_, anyhow::Error>(metrics.sum("heddle_connections_refused_total", &labels))
    };
    let metrics = Metrics::of(&world, "server").await?;
    ensure!(
        metrics.require("heddle_memory_used_bytes", &[])?
            > metrics.require("heddle_memory_limit_bytes", &[])?,
        "{}",
        metrics.show("heddle_memory")
    );
    let address = format!("{}:8080", world.address("server").await?);
    let arguments = hold(&address, "/slow/1000", 60, Duration::from_millis(500));
    let held: Held = adversary::run(&world, "outside", &arguments).await?;
    eprintln!("{held:?}");
    // Some are always served: it is not for a few connections that there is no memory.
    ensure!((10..=17).contains(&held.answered), "{held:?}");
    ensure!(
        refused("memory").await? > 30.0,
        "{}",
        Metrics::of(&world, "server").await?.show("heddle")
    );
    // And again, once those are gone.
    wait::until("a connection is served", Duration::from_secs(10), async || {
        world.curl("outside", &[&format!("http://{address}/")]).await.map(drop)
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn without_descriptors_the_proxy_goes_on_accepting_when_there_are_some_again() -> Result<()> {
    let world = world("descriptors", &[]).await?;
    let address = format!("{}:8080", world.address("server").await?);
    let proxy = Proxy::of(&world, "server").await?;
    let arguments = hold(&address, "/", 1, Duration::ZERO);
    let first: Held = adversary::run(&world, "outside", &arguments).await?;
    ensure!(first.answered_again == 1, "{first:?}");
    proxy.limit_open_files(proxy.open_files()? + 20)?;
    let arguments = hold(&address, "/", 60, Duration::from_millis(500));
    let held: Held = adversary::run(&world, "outside", &arguments).await?;
    eprintln!("{held:?}");
    wait::until("all are served again", Duration::from_secs(20), async || {
        let arguments = hold(&address, "/", 4, Duration::ZERO);
        let held: Held = adversary::run(&world, "outside", &arguments).await?;
        ensure!(held.answered_again == 4, "{held:?}");
        Ok(())
    })
    .await?;
    let metrics = Metrics::of(&world, "server").await?;
    let failed = [("direction", "inbound"), ("reason", "accept_failed")];
    metrics.require("heddle_connections_refused_total", &failed).context("no accept has failed")?;
    world.finish().await
}

async fn world(name: &str, proxies: &[&str]) -> Result<World> {
    Plan::new(name)
        .proxies(proxies)
        .file("server.yaml", Pod::new("server").command(&patient(8080)?).port(8080).to_string())
        .file("clients.yaml", documents(&[Pod::new("client"), Pod::new("outside").unmeshed()]))
        .file("service.yaml", Service::new("server").port(8080, 8080).to_string())
        .start()
        .await
}
