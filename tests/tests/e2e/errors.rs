//! What callers are told when something fails: by which proxy, of which pod, and how little outsiders learn.

use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::echo_http;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::Plan;

#[tokio::test]
async fn an_answer_of_a_proxy_says_who_failed_and_outsiders_learn_no_names() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let secret = Pod::new("secret-one").label("app", "secret").command(&echo_http(8080, "one"));
    let services = [
        Service::new("secret").port_speaking(8080, 8080, "http"),
        Service::new("nobody").port_speaking(8080, 8080, "http"),
    ];
    let world = Plan::new("errors")
        .file(
            "pods.yaml",
            documents(&[secret.port(8080), Pod::new("client"), Pod::new("outsider").unmeshed()]),
        )
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    let address = world.address("secret-one").await?;

    let said = world.curl("client", &["--include", "http://nobody:8080/"]).await?;
    tells(&said, "503", &["x-heddle-error: no_endpoint", "x-heddle-error-source: outbound"])?;
    ensure!(!said.contains("x-heddle-error-peer"), "{said}");
    ensure!(said.contains("default/nobody:8080"), "{said}");

    // The application is gone, and its proxy is not.
    world.mesh()?.stop(Target::Application("secret-one".to_owned()), Signal::Kill).await?;
    let from_mesh = ["--include", &format!("http://{address}:8080/")];
    let said = wait::until("the application is gone", Duration::from_secs(10), async || {
        let said = world.curl("client", &from_mesh).await?;
        ensure!(said.contains("x-heddle-error: connect"), "{said}");
        Ok(said)
    })
    .await?;
    let expected = ["x-heddle-error-source: inbound", "x-heddle-error-peer: secret-one"];
    tells(&said, "503", &expected)?;

    let said = world.curl("outsider", &from_mesh).await?;
    tells(&said, "503", &["x-heddle-error: connect", "x-heddle-error-source: inbound"])?;
    ensure!(!said.contains("secret") && !said.contains("default"), "{said}");
    ensure!(!said.contains(&address.to_string()), "{said}");
    let grpc = ["-H", "content-type: application/grpc", "--http2-prior-knowledge"];
    let said = world.curl("outsider", &[&grpc[..], &from_mesh].concat()).await?;
    tells(&said, "200", &["grpc-status: 14", "grpc-message: the request failed: connect"])?;
    ensure!(!said.contains("secret"), "{said}");
    world.finish().await
}

fn tells(said: &str, status: &str, lines: &[&str]) -> Result<()> {
    let head = said.lines().next().unwrap_or_default();
    ensure!(head.split(' ').nth(1) == Some(status), "{status} was expected: {said}");
    for line in lines {
        ensure!(said.lines().any(|found| found == *line), "no {line:?} in {said}");
    }
    Ok(())
}
