//! Pods that leave while they are used.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn a_pod_that_leaves_and_one_that_comes_lose_no_request() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = servers("leaving").await?;
    let load = Load::on("http://api:8080/").rate(200).connections(8).seconds(12);
    let changes = async {
        until_answered_by(&world, &["one", "two"]).await?;
        world.remove("two.yaml")?;
        until_gone(&world, "two").await?;
        until_answered_by(&world, &["one"]).await?;
        world.write("three.yaml", &server("three").to_string())?;
        until_answered_by(&world, &["one", "three"]).await
    };
    let (report, changed) = tokio::join!(load.run(&world, "client"), changes);
    let report = report?;
    changed?;
    report.nothing_lost()?;
    ensure!(
        ["one", "two", "three"].iter().all(|name| report.of(name) > 0),
        "{:?}",
        report.versions
    );
    world.finish().await
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_its_pod_is_gone() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = servers("finishing").await?;
    let url = format!("http://{}:8080/slow?3", world.address("two").await?);
    let arguments = [url.as_str()];
    let slow = world.curl("client", &arguments);
    let leaving = async {
        wait::until("the request is under way", Duration::from_secs(10), async || {
            let sockets = world.ask("two", &["cat", "/proc/net/tcp6", "/proc/net/tcp"]).await?;
            // Port 8080, in the state ESTABLISHED.
            let open = sockets
                .lines()
                .filter(|line| line.contains(":1F90 ") && line.contains(" 01 "))
                .count();
            ensure!(open > 0, "no connection in {sockets}");
            Ok(())
        })
        .await?;
        world.remove("two.yaml")
    };
    let (answer, left) = tokio::join!(slow, leaving);
    left?;
    let answer = answer?;
    ensure!(answer.contains("\"name\": \"two\""), "{answer}");
    until_gone(&world, "two").await?;
    world.finish().await
}

#[tokio::test]
async fn an_application_that_is_shutting_down_can_still_call_others() -> Result<()> {
    const CALLS: f64 = 5.0;
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = servers("late").await?;
    let call = "curl --silent --max-time 5 --output /dev/null http://api:8080/late";
    let farewell = format!("for number in 1 2 3 4 5; do {call}; sleep 0.4; done; exit 0");
    let script = format!("trap '{farewell}' TERM; while :; do sleep 0.1; done");
    let pod = Pod::new("late").command(&["sh", "-c", &script]);
    world.write("late.yaml", &pod.to_string())?;
    wait::until("the pod is ready", Duration::from_secs(20), async || {
        world.curl("late", &["http://api:8080/"]).await.map(drop)
    })
    .await?;
    let asked = async || {
        let mut sum = 0.0;
        for server in ["one", "two"] {
            let labels = [("direction", "inbound"), ("status", "200"), ("tls", "mtls")];
            sum += Metrics::of(&world, server).await?.sum("heddle_http_requests_total", &labels);
        }
        Ok::<_, anyhow::Error>(sum)
    };
    let before = asked().await?;
    world.remove("late.yaml")?;
    until_gone(&world, "late").await?;
    let calls = asked().await? - before;
    ensure!((calls - CALLS).abs() < 0.5, "{calls} of {CALLS} calls arrived");
    world.finish().await
}

fn server(name: &str) -> Pod {
    Pod::new(name).label("part-of", "api").command(&echo_http(8080, name)).port(8080).strict()
}

async fn servers(name: &str) -> Result<World> {
    Plan::new(name)
        .file("one.yaml", documents(&[server("one"), Pod::new("client")]))
        .file("two.yaml", server("two").to_string())
        .file(
            "service.yaml",
            Service::new("api").selector("part-of", "api").port(8080, 8080).to_string(),
        )
        .start()
        .await
}

/// Asks until exactly these answer.
async fn until_answered_by(world: &World, names: &[&str]) -> Result<()> {
    wait::until("exactly these pods answer", Duration::from_secs(20), async || {
        let report = Load::on("http://api:8080/").requests(40).run(world, "client").await?;
        report.nothing_lost()?;
        let all =
            report.versions.len() == names.len() && names.iter().all(|name| report.of(name) > 0);
        ensure!(all, "{names:?} were expected: {:?}", report.versions);
        Ok(())
    })
    .await
}

async fn until_gone(world: &World, workload: &str) -> Result<()> {
    wait::until("the pod is gone", Duration::from_secs(40), async || {
        let status = world.mesh()?.status().await?;
        ensure!(status.workload(workload).is_none(), "{:?}", status.workload(workload));
        Ok(())
    })
    .await
}
