//! A TrafficSplit decides who answers: in its shares, at once, and without losing anything.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents, traffic_split};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::status;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;

#[tokio::test]
async fn ten_thousand_requests_at_each_step_of_a_canary_are_shared_as_its_weights_say() -> Result<()>
{
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = shop("shares").await?;
    for percent in [0, 10, 50, 100] {
        step(&world, percent).await?;
        let load = Load::on("http://api:8080/").requests(10_000).connections(8);
        let report = load.run(&world, "client").await?;
        report.nothing_lost()?;
        let (v1, v2) = (report.of("v1"), report.of("v2"));
        eprintln!("{percent} %: v1 {v1}, v2 {v2} in {:.1} s", report.seconds);
        ensure!(report.sent == 10_000 && v1 + v2 == 10_000, "{report:?}");
        let away = (report.percent("v2") - f64::from(percent)).abs();
        ensure!(away <= 2.0, "{percent} % were asked for, {v2} of 10000 came");
        ensure!(percent != 0 || v2 == 0, "a weight of zero got {v2} requests");
        ensure!(percent != 100 || v1 == 0, "a weight of zero got {v1} requests");
    }
    world.finish().await
}

#[tokio::test]
async fn no_request_fails_while_the_split_changes() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = shop("changes").await?;
    let load = Load::on("http://api:8080/").rate(200).connections(8).seconds(20);
    let changes = async {
        for percent in [0, 10, 50, 100, 50, 10, 0, 100, 0, 100] {
            step(&world, percent).await?;
            // Traffic goes this way before the next change comes.
            Load::on("http://api:8080/")
                .requests(50)
                .run(&world, "client")
                .await?
                .nothing_lost()?;
        }
        anyhow::Ok(())
    };
    let (report, changed) = tokio::join!(load.run(&world, "client"), changes);
    changed?;
    let report = report?;
    report.nothing_lost()?;
    ensure!(report.of("v1") > 0 && report.of("v2") > 0, "both were asked for: {report:?}");
    world.finish().await
}

#[tokio::test]
async fn a_change_of_the_file_reaches_the_proxies_in_under_a_second() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = shop("speed").await?;
    step(&world, 0).await?;
    let mut measured = Vec::new();
    for (percent, version) in [(100, "v2"), (0, "v1"), (100, "v2")] {
        let took = until_answered_by(&world, percent, version).await?;
        eprintln!("from the file's change to the first answer of {version}: {took:?}");
        measured.push(took);
    }
    // A busy machine may take longer now and then; the mesh may not.
    let best = measured.iter().min().copied().unwrap_or(Duration::MAX);
    ensure!(best < Duration::from_secs(1), "the changes took {measured:?}");
    world.finish().await
}

/// Changes the file, and asks until the new version answers.
async fn until_answered_by(world: &World, percent: u32, version: &str) -> Result<Duration> {
    let began = Instant::now();
    write_split(world, percent)?;
    wait::until("the new version answers", Duration::from_secs(5), async || {
        let arguments =
            ["--output", "/dev/null", "--write-out", "%header{x-shop-version}", "http://api:8080/"];
        let answer = world.curl("client", &arguments).await?;
        ensure!(answer == version, "{answer} answers");
        Ok(began.elapsed())
    })
    .await
}

/// Changes the split, which must be another one than before, and waits until the client's proxy has
/// acknowledged it.
async fn step(world: &World, percent: u32) -> Result<()> {
    status::acknowledged_by(world, "client", async { write_split(world, percent) }).await
}

fn write_split(world: &World, percent: u32) -> Result<()> {
    world.write(
        "canary.yaml",
        &traffic_split("api", &[("api-v1", 100 - percent), ("api-v2", percent)]),
    )
}

/// Two versions of an api with equal shares, a store that both ask, and a client that has asked them.
async fn shop(name: &str) -> Result<World> {
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let api = |version: &str| {
        let command =
            ["meshctl", "shop", "api", "--listen", "8080", "--store", "store:9000", "--version"];
        let command = [command.as_slice(), &[version]].concat();
        let pod = Pod::new(&format!("api-{version}")).label("app", "api").label("version", version);
        pod.command(&command).port(8080).strict()
    };
    let service = |version: &str| {
        let service = Service::new(&format!("api-{version}")).selector("version", version);
        service.port_speaking(8080, 8080, "http")
    };
    let services = [
        Service::new("store").port(9000, 9000),
        Service::new("api").port_speaking(8080, 8080, "http"),
        service("v1"),
        service("v2"),
    ];
    let world = Plan::new(name)
        .file("pods.yaml", documents(&[store, api("v1"), api("v2"), Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .file("canary.yaml", traffic_split("api", &[("api-v1", 1), ("api-v2", 1)]))
        .start()
        .await?;
    let first = Load::on("http://api:8080/").requests(20).run(&world, "client").await?;
    first.nothing_lost()?;
    ensure!(first.versions.len() == 2, "both at first: {first:?}");
    Ok(world)
}
