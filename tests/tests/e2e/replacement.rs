//! Replicas that are replaced, and one that is killed, while all of them are called at a rate.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::http2;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::settings;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;

/// 200 requests a second for a minute, which a debug build does on two shared cores;
/// `HEDDLE_TEST_RATE=1000` for more.
#[tokio::test]
async fn all_replicas_are_replaced_one_by_one_and_no_request_is_lost() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let rate = settings::number("HEDDLE_TEST_RATE", 200)?;
    let seconds = settings::number("HEDDLE_TEST_SECONDS", 60)?;
    let world = replicas("rolling").await?;
    for version in ["--http1.1", "--http2"] {
        let load = Load::on("http://api:8080/").rate(rate).connections(32).seconds(seconds);
        let load = if version == "--http2" { load.http2() } else { load };
        // The second time the replicas of the first are replaced.
        let first = if version == "--http2" { 6 } else { 1 };
        let began = Instant::now();
        let replacing = async {
            for number in first..first + REPLICAS {
                let (old, new) = (name(number), name(number + REPLICAS));
                world.write(&format!("{new}.yaml"), &replica(&new)?.to_string())?;
                until_ready(&world, &new).await?;
                world.remove(&format!("{old}.yaml"))?;
                until_gone(&world, &old).await?;
            }
            ensure!(began.elapsed() < Duration::from_secs(seconds), "the load ended before");
            Ok(())
        };
        let (report, replaced) = tokio::join!(load.run(&world, "client"), replacing);
        let report = report?;
        eprintln!("{version}: {} requests in {:.1} s: {report:?}", report.sent, report.seconds);
        replaced?;
        report.nothing_lost().context(version)?;
        for number in first..first + 2 * REPLICAS {
            ensure!(report.of(&name(number)) > 0, "{version}: none of {number}: {report:?}");
        }
        ensure!(report.sent >= rate * seconds * 95 / 100, "{version}: too few: {report:?}");
    }
    world.finish().await
}

#[tokio::test]
async fn when_one_of_five_is_killed_only_its_requests_in_flight_fail() -> Result<()> {
    only_requests_in_flight_fail("killed-one", Load::on("http://api:8080/")).await
}

#[tokio::test]
async fn over_http_2_too_only_requests_in_flight_on_a_killed_pod_fail() -> Result<()> {
    only_requests_in_flight_fail("killed-two", Load::on("http://api:8080/").http2()).await
}

async fn only_requests_in_flight_fail(name_of_world: &str, load: Load) -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let rate = settings::number("HEDDLE_TEST_RATE", 200)?;
    let world = replicas(name_of_world).await?;
    let killed = name(3);
    let connections = 32;
    let load = load.rate(rate).connections(connections).seconds(25);
    let killing = async {
        wait::until("all five are called", Duration::from_secs(20), async || {
            for number in 1..=REPLICAS {
                ensure!(answers_of(&world, &name(number)).await? > 20.0, "few of {number}");
            }
            Ok(())
        })
        .await?;
        let (lost, ()) = tokio::try_join!(waiting_on(&world, &killed), kill(&world, &killed))?;
        ensure!(lost.starts_with("HTTP/1.1 502 "), "what was in flight: {lost}");
        for line in ["backend_lost", "-source: outbound", &format!("-peer: {killed}")] {
            ensure!(lost.contains(line), "no {line:?} in {lost}");
        }
        let at_once = answers_of(&world, &killed).await?;
        let before = all_answers(&world).await?;
        wait::until("the others are called", Duration::from_secs(10), async || {
            ensure!(all_answers(&world).await? > before + 500.0, "few since");
            Ok(())
        })
        .await?;
        // Of the next 500 none went there.
        anyhow::Ok((at_once, answers_of(&world, &killed).await?))
    };
    let (report, counted) = tokio::join!(load.run(&world, "client"), killing);
    let (report, (at_once, later)) = (report?, counted?);
    eprintln!("{} sent, {} failed: {:?}", report.sent, report.failed, report.failures);
    // Each connection of the load has at most one request in flight, and a fifth of them are there.
    ensure!(report.failed <= connections / 2, "{report:?}\n{}", report.errors);
    ensure!(report.sent >= rate * 15 * 95 / 100, "too few: {report:?}");
    ensure!(later <= at_once, "{at_once} answers of the killed one, then {later}");
    let after = Load::on("http://api:8080/").requests(500).run(&world, "client").await?;
    after.nothing_lost()?;
    ensure!(after.of(&killed) == 0, "{after:?}");
    world.finish().await
}

/// A request that may not be sent twice, to this pod, which takes its time to answer.
async fn waiting_on(world: &World, pod: &str) -> Result<String> {
    let url = format!("http://{}:8080/wait", world.address(pod).await?);
    world.curl("client", &["--include", "--data", "once", &url]).await
}

/// Kills a pod as when its machine fails, once the request is there. The proxy first: while it answers
/// for an application that is gone, it says so.
async fn kill(world: &World, pod: &str) -> Result<()> {
    wait::until("the request is in flight", Duration::from_secs(10), async || {
        let url = format!("http://{}:8080/waiting", world.address(pod).await?);
        let waiting = world.curl("client", &[&url]).await?;
        ensure!(waiting == "1", "{waiting} are waiting");
        Ok(())
    })
    .await?;
    world.mesh()?.stop(Target::Proxy(pod.to_owned()), Signal::Kill).await?;
    Ok(world.mesh()?.stop(Target::Application(pod.to_owned()), Signal::Kill).await?)
}

/// Answers of one pod, as the caller's proxy counts them; none once it has forgotten the pod.
async fn answers_of(world: &World, pod: &str) -> Result<f64> {
    let metrics = Metrics::of(world, "client").await?;
    let labels = [("direction", "outbound"), ("backend_pod", pod), ("status", "200")];
    Ok(metrics.sum("heddle_http_requests_total", &labels))
}

async fn all_answers(world: &World) -> Result<f64> {
    let metrics = Metrics::of(world, "client").await?;
    Ok(metrics.sum("heddle_http_request_duration_seconds_count", &[("direction", "outbound")]))
}

async fn until_ready(world: &World, pod: &str) -> Result<()> {
    wait::until("the new pod is ready", Duration::from_secs(30), async || {
        let status = world.mesh()?.status().await?;
        let workload = status.workload(pod).with_context(|| format!("no {pod} yet"))?;
        ensure!(workload.ready, "{workload:?}");
        Ok(())
    })
    .await
}

async fn until_gone(world: &World, pod: &str) -> Result<()> {
    wait::until("the old pod is gone", Duration::from_secs(60), async || {
        let status = world.mesh()?.status().await?;
        ensure!(status.workload(pod).is_none(), "{:?}", status.workload(pod));
        Ok(())
    })
    .await
}

fn name(number: u32) -> String {
    format!("r{number}")
}

fn replica(name: &str) -> Result<Pod> {
    let command = http2(&["serve", "--port", "8080", "--name", name])?;
    Ok(Pod::new(name).label("part-of", "api").command(&command).port(8080).strict())
}

async fn replicas(name_of_world: &str) -> Result<World> {
    let service = Service::new("api").selector("part-of", "api").port(8080, 8080);
    let mut plan = Plan::new(name_of_world)
        .file("client.yaml", documents(&[Pod::new("client")]))
        .file("service.yaml", service.to_string());
    for number in 1..=REPLICAS {
        let name = name(number);
        plan = plan.file(&format!("{name}.yaml"), replica(&name)?.to_string());
    }
    plan.start().await
}

const REPLICAS: u32 = 5;
