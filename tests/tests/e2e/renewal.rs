//! Certificates that live for 30 seconds, under load, for two minutes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heddle_local::protocol::BRIDGE;
use heddle_tests::applications::{echo_http, echo_tcp, tcp_client};
use heddle_tests::certificate::{Authority, Wish};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::peer::{self, Attempt, Presented};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, X509Certificate};

#[tokio::test]
async fn certificates_of_thirty_seconds_lose_nothing_at_two_hundred_requests_a_second() -> Result<()>
{
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let server = Pod::new("server").command(&echo_http(8080, "server")).port(8080).strict();
    let lines = Pod::new("lines").command(&echo_tcp(7000)).port(7000).strict();
    let services = [
        Service::new("server").port_speaking(8080, 8080, "http"),
        Service::new("lines").port_speaking(7000, 7000, "tcp"),
    ];
    let world = Plan::new("renewal")
        .leaf_lifetime(Duration::from_secs(30))
        // Each connection of TCP is to be a handshake.
        .proxies(&["--warm-connections", "0"])
        .file("pods.yaml", documents(&[Pod::new("client"), server, lines]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    let load = Load::on("http://server:8080/").rate(200).connections(8).seconds(120);
    let (report, handshakes, keys) =
        tokio::join!(load.run(&world, "client"), new_connections(&world), server_keys(&world));
    let (report, handshakes, keys) = (report?, handshakes?, keys?);
    report.nothing_lost()?;
    ensure!(report.sent >= 23_500, "two minutes at 200 a second: {report:?}");
    ensure!(keys.len() >= 4, "only {} different keys in two minutes", keys.len());
    for workload in ["client", "server", "lines"] {
        let metrics = Metrics::of(&world, workload).await?;
        let renewed =
            metrics.require("heddle_certificate_renewals_total", &[("outcome", "succeeded")])?;
        // The first certificate is counted too.
        ensure!(renewed >= 4.0, "{workload} has renewed {renewed} times");
        let failed =
            metrics.require("heddle_certificate_renewals_total", &[("outcome", "failed")])?;
        ensure!(failed < 1.0, "{workload} has failed to renew {failed} times");
    }
    everything_was_authenticated(&world, report.sent, handshakes).await?;
    eprintln!("{} requests, {handshakes} connections of TCP, {} keys", report.sent, keys.len());
    world.finish().await
}

/// Opens connections that are each a handshake of their own, all through the two minutes.
async fn new_connections(world: &World) -> Result<u32> {
    let began = Instant::now();
    let mut opened = 0;
    while began.elapsed() < Duration::from_secs(118) {
        let output =
            world.run_with_input("client", &tcp_client("lines", 7000), b"hello\n".to_vec()).await?;
        ensure!(
            output.stdout_text().starts_with("answered-hello"),
            "after {:?}: {}{}",
            began.elapsed(),
            output.stdout_text(),
            output.stderr_text()
        );
        opened += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(opened)
}

/// The public keys that the server's proxy presents in these two minutes.
async fn server_keys(world: &World) -> Result<BTreeSet<Vec<u8>>> {
    let uid = world.pod_uid("server").await?;
    let address = format!("{}:8080", world.address("server").await?);
    let minted =
        Authority::of(world)?.certify(&Wish::good("cluster.local", "client", "onlooker"))?;
    let presented = Presented::write(world, "onlooker", &minted)?;
    let attempt = Attempt {
        address,
        server_name: format!("8080.{uid}.pod.cluster.local"),
        presented: Some(&presented),
        request: "GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n",
    };
    let began = Instant::now();
    let mut keys = BTreeSet::new();
    while began.elapsed() < Duration::from_secs(118) {
        let outcome = peer::connect(world, BRIDGE, &attempt).await?;
        let certificate = outcome.certificate.as_ref().with_context(|| format!("{outcome:?}"))?;
        let der = STANDARD.decode(certificate).map_err(|error| anyhow!("{error}"))?;
        let (_, certificate) = X509Certificate::from_der(&der)?;
        let validity = certificate.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        ensure!(seconds <= 30 + 120, "a certificate of {seconds} seconds");
        keys.insert(certificate.public_key().raw.to_vec());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(keys)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
async fn everything_was_authenticated(
    world: &World,
    requests: u64,
    connections: u32,
) -> Result<()> {
    let server = Metrics::of(world, "server").await?;
    let mutual = server
        .require("heddle_http_requests_total", &[("direction", "inbound"), ("tls", "mtls")])?;
    ensure!(mutual >= requests as f64, "{mutual} of {requests} requests came over mTLS");
    let client = Metrics::of(world, "client").await?;
    for (metrics, name) in [(&server, "server"), (&client, "client")] {
        for metric in ["heddle_http_requests_total", "heddle_tcp_connections_total"] {
            let plain = metrics.sum(metric, &[("tls", "plaintext")]);
            ensure!(plain < 1.0, "{name}: plain text:\n{}", metrics.show(metric));
        }
    }
    let lines = Metrics::of(world, "lines").await?;
    let handshakes =
        lines.require("heddle_tls_handshakes_total", &[("side", "server"), ("outcome", "ok")])?;
    ensure!(
        handshakes >= f64::from(connections),
        "{handshakes} handshakes, {connections} connections"
    );
    let all = lines.require("heddle_tls_handshakes_total", &[])?;
    ensure!(all - handshakes < 1.0, "{}", lines.show("heddle_tls_handshakes_total"));
    Ok(())
}
