//! The trust anchor and the issuer are replaced under load.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::{echo_http, echo_tcp, tcp_client};
use heddle_tests::identity::{self, Identity};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn root_and_issuer_are_rotated_under_load_and_nothing_is_lost() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let server = Pod::new("server").command(&echo_http(8080, "server")).port(8080).strict();
    let lines = Pod::new("lines").command(&echo_tcp(7000)).port(7000).strict();
    let services = [
        Service::new("server").port_speaking(8080, 8080, "http"),
        Service::new("lines").port_speaking(7000, 7000, "tcp"),
    ];
    let world = Plan::new("rotation")
        .leaf_lifetime(Duration::from_secs(30))
        .file("pods.yaml", documents(&[Pod::new("client"), server, lines]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    let rotated = CancellationToken::new();
    let load = Load::on("http://server:8080/").rate(200).connections(8).seconds(SECONDS);
    let (report, opened, steps) = tokio::join!(
        load.run(&world, "client"),
        new_connections(&world, &rotated),
        rotate_both(&world, &rotated)
    );
    steps?;
    let (report, opened) = (report?, opened?);
    report.nothing_lost()?;
    ensure!(report.sent >= 200 * SECONDS * 95 / 100, "{report:?}");
    ensure!(opened > 30, "only {opened} connections of their own");
    nothing_was_plain_or_refused(&world).await?;
    eprintln!("{} requests and {opened} connections of TCP, none lost", report.sent);
    world.finish().await
}

#[tokio::test]
async fn a_proxy_that_stood_still_through_a_rotation_comes_back() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080).strict();
    let services =
        [Service::new("awake").port(8080, 8080), Service::new("sleeper").port(8080, 8080)];
    let world = Plan::new("away")
        .leaf_lifetime(Duration::from_secs(30))
        .file("pods.yaml", documents(&[Pod::new("client"), server("awake"), server("sleeper")]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    let before = Identity::read(&world).await?;
    let sleeper = || Target::Proxy("sleeper".to_owned());
    world.mesh()?.stop(sleeper(), Signal::Pause).await?;
    identity::rotate(&world, "--root").await?;
    let after = Identity::read(&world).await?;
    ensure!(after.anchors.len() == 1 && after.anchors != before.anchors, "{after:?}");
    Load::on("http://awake:8080/").requests(50).run(&world, "client").await?.nothing_lost()?;
    world.mesh()?.stop(sleeper(), Signal::Continue).await?;
    wait::until("the sleeper serves again", Duration::from_secs(30), async || {
        let url = "http://sleeper:8080/";
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}", url];
        let code = world.curl("client", &code).await?;
        ensure!(code == "200", "{code}");
        Ok(())
    })
    .await?;
    all_proxies_go_by_what_counts(&world).await?;
    world.finish().await
}

#[tokio::test]
async fn a_rotation_goes_on_without_a_proxy_that_stands_still_when_somebody_says_so() -> Result<()>
{
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080).strict();
    let world = Plan::new("without")
        .leaf_lifetime(Duration::from_secs(30))
        .file("pods.yaml", documents(&[Pod::new("client"), server("sleeper")]))
        .file("services.yaml", documents(&[Service::new("sleeper").port(8080, 8080)]))
        .start()
        .await?;
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let rotate = async |what: &[&str]| {
        let common = ["identity", "rotate", "--admin-socket", &*socket];
        program::meshctl(&[&common, what].concat()).await
    };
    let said = rotate(&["--without", "default/sleeper"]).await?;
    ensure!(said.code != Some(0) && said.stderr.contains("no rotation is under way"), "{said:?}");

    let sleeper = || Target::Proxy("sleeper".to_owned());
    world.mesh()?.stop(sleeper(), Signal::Pause).await?;
    let said = rotate(&["--root"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let said = rotate(&["--without", "default/nobody"]).await?;
    ensure!(said.code != Some(0) && said.stderr.contains("no pod with a proxy"), "{said:?}");
    let said = rotate(&["--without", "default/sleeper"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let rotation = Identity::read(&world).await?.rotation.context("none is under way")?;
    ensure!(rotation.without == ["default/sleeper"], "{rotation:?}");
    wait::until("the issuer is switched", Duration::from_secs(60), async || {
        let rotation = Identity::read(&world).await?.rotation;
        let step = rotation.as_ref().map(|rotation| rotation.step.as_str());
        ensure!(step != Some("announced"), "{rotation:?}");
        Ok(())
    })
    .await?;
    world.mesh()?.stop(sleeper(), Signal::Continue).await?;
    wait::until("the sleeper serves again", Duration::from_secs(60), async || {
        let url = "http://sleeper:8080/";
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}", url];
        let code = world.curl("client", &code).await?;
        ensure!(code == "200", "{code}");
        Ok(())
    })
    .await?;
    world.finish().await
}

/// Rotates one after the other, and looks at every step.
async fn rotate_both(world: &World, rotated: &CancellationToken) -> Result<()> {
    let _done = rotated.clone().drop_guard();
    let first = Identity::read(world).await?;
    ensure!(first.anchors.len() == 1 && first.rotation.is_none(), "{first:?}");
    let (seen, said) = watched(world, "--root").await?;
    let steps = ["announced", "switched", "turning-over"];
    ensure!(steps.iter().all(|step| seen.steps.contains(*step)), "saw only {seen:?}");
    ensure!(seen.anchors == BTreeSet::from([1, 2]), "{seen:?}");
    for step in ["is announced", "is switched to the new trust anchor", "run out", "done after"] {
        ensure!(said.contains(step), "not told of \"{step}\":\n{said}");
    }
    all_proxies_go_by_what_counts(world).await?;
    let second = Identity::read(world).await?;
    ensure!(second.anchors.len() == 1, "{second:?}");
    ensure!(second.anchors != first.anchors && second.issuer != first.issuer, "{second:?}");

    let (seen, said) = watched(world, "--issuer").await?;
    ensure!(seen.steps.contains("turning-over"), "saw only {seen:?}");
    ensure!(seen.anchors == BTreeSet::from([1]), "{seen:?}");
    ensure!(said.contains("the issuer is switched") && said.contains("done after"), "{said}");
    all_proxies_go_by_what_counts(world).await?;
    let third = Identity::read(world).await?;
    ensure!(third.anchors == second.anchors && third.issuer != second.issuer, "{third:?}");
    Ok(())
}

/// What was seen while a rotation went on.
#[derive(Debug, Default)]
struct Seen {
    steps: BTreeSet<String>,
    anchors: BTreeSet<usize>,
}

async fn watched(world: &World, what: &str) -> Result<(Seen, String)> {
    let over = CancellationToken::new();
    let looking = async {
        let mut seen = Seen::default();
        while !over.is_cancelled() {
            let identity = Identity::read(world).await?;
            seen.steps.extend(identity.rotation.map(|rotation| rotation.step));
            seen.anchors.insert(identity.anchors.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(seen)
    };
    let rotating = async {
        let _over = over.clone().drop_guard();
        identity::rotate(world, what).await
    };
    let (seen, said) = tokio::join!(looking, rotating);
    Ok((seen?, said?))
}

async fn all_proxies_go_by_what_counts(world: &World) -> Result<()> {
    wait::until("every proxy goes by what counts", Duration::from_secs(30), async || {
        let identity = Identity::read(world).await?;
        let proxies = identity.proxies;
        ensure!(proxies.connected == 3 && proxies.current_bundle == 3, "{proxies:?}");
        ensure!(proxies.current_issuer == 3, "{proxies:?}");
        Ok(())
    })
    .await
}

/// Opens connections, of which those that follow each other share a handshake while its certificates count,
/// until all is rotated.
async fn new_connections(world: &World, rotated: &CancellationToken) -> Result<u32> {
    let began = Instant::now();
    let mut opened = 0;
    while !rotated.is_cancelled() {
        let client = tcp_client("lines", 7000);
        let output = world.run_with_input("client", &client, b"hello\n".to_vec()).await?;
        ensure!(
            output.stdout_text().starts_with("answered-hello"),
            "after {:?}: {}{}",
            began.elapsed(),
            output.stdout_text(),
            output.stderr_text()
        );
        opened += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    ensure!(began.elapsed() < Duration::from_secs(SECONDS), "the load ended before the rotation");
    Ok(opened)
}

async fn nothing_was_plain_or_refused(world: &World) -> Result<()> {
    for workload in ["client", "server", "lines"] {
        let metrics = Metrics::of(world, workload).await?;
        for metric in ["heddle_http_requests_total", "heddle_tcp_connections_total"] {
            let plain = metrics.sum(metric, &[("tls", "plaintext")]);
            ensure!(plain < 1.0, "{workload}: plain text:\n{}", metrics.show(metric));
        }
        let handshakes = "heddle_tls_handshakes_total";
        let all = metrics.sum(handshakes, &[]);
        let good = metrics.sum(handshakes, &[("outcome", "ok")]);
        ensure!(all - good < 1.0, "{workload}:\n{}", metrics.show(handshakes));
        let failed = metrics.require("heddle_certificate_renewals_total", &[("outcome", "failed")]);
        ensure!(failed.context("renewals")? < 1.0, "{workload} has failed to renew");
    }
    Ok(())
}

/// Two rotations with certificates of 30 seconds, and some time before and after.
const SECONDS: u64 = 170;
