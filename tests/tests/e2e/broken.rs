//! Servers that die in the middle of their answers: the client sees an error, and never takes what came for all.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_local::protocol::{Output, Signal, Target};
use heddle_tests::applications::{http2, odd_http};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_at_the_client() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = servers("broken").await?;
    // Through both proxies, through the caller's only, and through that of the server only.
    for (from, odd, two) in [
        ("client", "odd", "two"),
        ("client", "odd-plain", "two-plain"),
        ("client-plain", "odd", "two"),
    ] {
        let odd =
            if from == "client" { odd.to_owned() } else { world.address(odd).await?.to_string() };
        let two =
            if from == "client" { two.to_owned() } else { world.address(two).await?.to_string() };
        // Whole answers first, so that an error is one of the break.
        for (version, url, answer) in [
            ("--http1.1", format!("http://{odd}:8080/until-close"), "all of it"),
            ("--http2-prior-knowledge", format!("http://{two}:9000/"), "an answer"),
        ] {
            let said = world.curl(from, &[version, &url]).await?;
            ensure!(said == answer, "{from}: {url}: {said}");
        }
        for path in ["/short-length", "/short-chunks"] {
            let url = format!("http://{odd}:8080{path}");
            is_error(&url, &world.try_curl(from, &["--http1.1", &url]).await?)?;
        }
        // A reset takes with it what was not read: the server waits until the client has it.
        for path in ["/reset-length", "/reset-chunks", "/reset-until-close"] {
            let url = format!("http://{odd}:8080{path}");
            is_error(&url, &reset_after_arrival(&world, from, &url, &odd).await?)?;
        }
        for path in ["/reset", "/cut"] {
            let url = format!("http://{two}:9000{path}");
            let arguments = ["--http2-prior-knowledge", &url];
            is_error(&url, &world.try_curl(from, &arguments).await?)?;
        }
    }
    let call = ["--http2-prior-knowledge", "-H", "content-type: application/grpc"];
    let call = [&call[..], &["http://two:9000/reset"]].concat();
    is_error("gRPC", &world.try_curl("client", &call).await?)?;
    let metrics = Metrics::of(&world, "client").await?;
    let labels = [("status", "200"), ("grpc_status", "broken")];
    let counted = metrics.sum("heddle_http_requests_total", &labels);
    ensure!(counted > 0.5, "{}", metrics.show("heddle_http_requests_total"));
    let broken = metrics.sum("heddle_http_errors_total", &[("reason", "response_broken")]);
    ensure!(broken >= 14.0, "{}", metrics.show("heddle_http_errors_total"));

    // Before the head there is still an answer to give.
    let url = "http://odd:8080/nothing";
    let said = world.curl("client", &["--include", url]).await?.to_lowercase();
    ensure!(said.starts_with("http/1.1 502 "), "{said}");
    ensure!(said.contains("x-heddle-error: backend_lost"), "{said}");
    ensure!(said.contains("x-heddle-error-source: inbound"), "{said}");
    ensure!(said.contains("x-heddle-error-peer: odd\r"), "{said}");
    world.finish().await
}

#[tokio::test]
async fn a_pod_that_is_killed_in_the_middle_of_its_answer_is_an_error_at_the_client() -> Result<()>
{
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    for who in ["application", "proxy"] {
        let world = servers("killed").await?;
        let target = match who {
            "application" => Target::Application("odd".to_owned()),
            _ => Target::Proxy("odd".to_owned()),
        };
        let arguments = ["--http1.1", "--no-buffer", "http://odd:8080/events"];
        let killing = async {
            head_has_come(&world, "client").await?;
            anyhow::Ok(world.mesh()?.stop(target, Signal::Kill).await?)
        };
        let (output, killed) = tokio::join!(world.try_curl("client", &arguments), killing);
        killed?;
        let output = output?;
        ensure!(output.stdout_text() == "data: first\n\n", "{who}: {output:?}");
        ensure!(output.code != 0 && output.code != 28, "{who}: {output:?}");
        world.finish().await?;
    }
    Ok(())
}

/// curl has an error of its own, and no time limit was it.
fn is_error(url: &str, output: &Output) -> Result<()> {
    ensure!(output.code != 0, "{url}: taken for whole: {output:?}");
    ensure!(output.code != 28, "{url}: it hangs: {output:?}");
    ensure!(output.stdout_text() == "only these", "{url}: not what was sent: {output:?}");
    Ok(())
}

/// Asks, waits until curl has written what came, and tells the server to reset the connection.
async fn reset_after_arrival(world: &World, from: &str, url: &str, odd: &str) -> Result<Output> {
    let file = world.path("arrived");
    let _ = std::fs::remove_file(&file);
    let path = file.to_string_lossy().into_owned();
    let arguments = ["--http1.1", "--no-buffer", "--output", &path, url];
    let telling = async {
        wait::until("the bytes have arrived", Duration::from_secs(10), async || {
            let arrived = std::fs::read(&file)?;
            ensure!(arrived == b"only these", "{} bytes", arrived.len());
            Ok(())
        })
        .await?;
        world.curl(from, &[&format!("http://{odd}:8080/tell/reset")]).await
    };
    let (output, told) = tokio::join!(world.try_curl(from, &arguments), telling);
    told?;
    let mut output = output?;
    output.stdout = std::fs::read(&file)?;
    Ok(output)
}

async fn head_has_come(world: &World, workload: &str) -> Result<()> {
    wait::until("the head has come", Duration::from_secs(10), async || {
        let metrics = Metrics::of(world, workload).await?;
        metrics.require("heddle_http_requests_total", &[("status", "200")]).map(drop)
    })
    .await
}

async fn servers(name: &str) -> Result<World> {
    let odd = |name: &str| Pod::new(name).command(&odd_http(8080)).port(8080);
    let command = http2(&["serve", "--port", "9000"])?;
    let two = |name: &str| Pod::new(name).command(&command).port(9000);
    let pods = [
        odd("odd"),
        two("two"),
        odd("odd-plain").unmeshed(),
        two("two-plain").unmeshed(),
        Pod::new("client"),
        Pod::new("client-plain").unmeshed(),
    ];
    let services = [
        Service::new("odd").port(8080, 8080),
        Service::new("two").port(9000, 9000),
        Service::new("odd-plain").port(8080, 8080),
        Service::new("two-plain").port(9000, 9000),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .start()
        .await
}
