//! TCP connections of an application that its proxy carries over connections it has kept.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::{echo_tcp, many_tcp, tcp_client};
use heddle_tests::conversation::Conversation;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use tokio::time::Instant;

const CONNECTIONS: u32 = 200;

#[tokio::test]
async fn two_hundred_connections_make_a_handful_of_handshakes() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = lines("warm", &[]).await?;
    let handshakes = talk(&world).await?;
    ensure!(handshakes <= 5.0, "{handshakes} handshakes for {CONNECTIONS} connections");
    let client = Metrics::of(&world, "client").await?;
    let reused = client.require("heddle_warm_connections_total", &[("outcome", "reused")])?;
    ensure!(reused >= f64::from(CONNECTIONS) - 5.0, "only {reused} were reused");
    let lost = client.sum("heddle_warm_connections_total", &[("outcome", "lost")]);
    ensure!(lost < 1.0, "{lost} were lost");
    world.finish().await
}

#[tokio::test]
async fn told_not_to_a_proxy_makes_a_handshake_for_each() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = lines("cold", &["--warm-connections", "0"]).await?;
    let handshakes = talk(&world).await?;
    ensure!(handshakes >= f64::from(CONNECTIONS), "only {handshakes} handshakes");
    world.finish().await
}

#[tokio::test]
async fn certificates_that_are_renewed_end_what_was_made_with_them_and_nothing_is_lost()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = plan("renewed").leaf_lifetime(Duration::from_secs(30)).start().await?;
    let (began, mut opened) = (Instant::now(), 0);
    let renewed = async |workload: &str| {
        let labels = [("outcome", "succeeded")];
        let metrics = Metrics::of(&world, workload).await?;
        metrics.require("heddle_certificate_renewals_total", &labels)
    };
    // The first certificate is counted too. Each that follows takes its connections with it, on either side.
    while renewed("client").await? < 3.0 || renewed("lines").await? < 3.0 {
        ensure!(began.elapsed() < Duration::from_secs(180), "nothing is renewed");
        opened += answered(&world, "client", "lines", 20).await?;
    }
    opened += answered(&world, "client", "lines", 20).await?;
    let handshakes = handshakes(&world, "lines").await?;
    eprintln!("{opened} connections, {handshakes} handshakes, {:?}", began.elapsed());
    ensure!(handshakes >= 3.0, "{handshakes} handshakes: certificates were outlived");
    ensure!(handshakes < f64::from(opened) / 2.0, "{handshakes} handshakes, {opened} connections");
    for workload in ["client", "lines"] {
        let metrics = Metrics::of(&world, workload).await?;
        let plain = metrics.sum("heddle_tcp_connections_total", &[("tls", "plaintext")]);
        // That of the server's proxy with its own application is none of these.
        ensure!(plain < 1.0, "{workload}: {}", metrics.show("heddle_tcp_connections_total"));
        let all = metrics.sum("heddle_tls_handshakes_total", &[]);
        let good = metrics.sum("heddle_tls_handshakes_total", &[("outcome", "ok")]);
        ensure!(all - good < 1.0, "{workload}: {}", metrics.show("heddle_tls_handshakes_total"));
    }
    world.finish().await
}

#[tokio::test]
async fn a_pod_that_was_replaced_is_authenticated_anew() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = lines("replaced", &[]).await?;
    answered(&world, "client", "lines", 10).await?;
    let (address, uid) = (world.address("lines").await?, world.pod_uid("lines").await?);
    world.remove("lines.yaml")?;
    wait::until("the old pod is gone", Duration::from_secs(60), async || {
        let status = world.mesh()?.status().await?;
        ensure!(status.workload("lines").is_none(), "{:?}", status.workload("lines"));
        Ok(())
    })
    .await?;
    world.write("lines.yaml", &server("lines").to_string())?;
    wait::until("the new one answers", Duration::from_secs(60), async || {
        answered(&world, "client", "lines", 1).await.map(drop)
    })
    .await?;
    ensure!(world.pod_uid("lines").await? != uid, "the same pod");
    eprintln!("it was at {address}, and is at {}", world.address("lines").await?);
    answered(&world, "client", "lines", 10).await?;
    let handshakes = handshakes(&world, "lines").await?;
    ensure!((1.0..6.0).contains(&handshakes), "{handshakes} handshakes with the new pod");
    world.finish().await
}

#[tokio::test]
async fn a_port_that_is_declared_otherwise_carries_no_bytes_over_what_is_warm() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = lines("declared", &[]).await?;
    answered(&world, "client", "lines", 10).await?;
    let carried = async || {
        let labels = [("direction", "inbound")];
        Metrics::of(&world, "lines").await?.require("heddle_tcp_connections_total", &labels)
    };
    let says = async |expected: &str| {
        let (client, said) = (tcp_client("lines", 7000), b"hello\n".to_vec());
        let output = world.run_with_input("client", &client, said).await?;
        ensure!(output.stdout_text().starts_with(expected), "{output:?}");
        Ok(())
    };
    world.write("service.yaml", &service("http").to_string())?;
    wait::until("the bytes are refused", Duration::from_secs(30), async || {
        says("HTTP/1.1 400").await
    })
    .await?;
    let before = carried().await?;
    for _connection in 0..5 {
        says("HTTP/1.1 400").await?;
    }
    ensure!(carried().await? - before < 0.5, "bytes were carried");
    world.write("service.yaml", &service("tcp").to_string())?;
    wait::until("bytes are carried again", Duration::from_secs(30), async || {
        says("answered-hello").await
    })
    .await?;
    answered(&world, "client", "lines", 10).await?;
    world.finish().await
}

#[tokio::test]
async fn proxies_that_know_of_no_turns_are_understood_on_either_side() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let old = Service::new("old-lines").port_speaking(7000, 7000, "tcp");
    let world =
        plan("older").later_proxies().file("old-service.yaml", old.to_string()).start().await?;
    world.later_proxies(&["--warm-connections", "0"])?;
    world.write("old.yaml", &documents(&[Pod::new("old-client"), server("old-lines")]))?;
    wait::until("they are there", Duration::from_secs(60), async || {
        answered(&world, "old-client", "old-lines", 1).await.map(drop)
    })
    .await?;
    for (from, to, least, most) in [
        ("client", "lines", 1.0, 5.0),
        ("client", "old-lines", 20.0, 20.0),
        ("old-client", "lines", 20.0, 20.0),
        ("old-client", "old-lines", 20.0, 20.0),
    ] {
        let before = handshakes(&world, to).await?;
        answered(&world, from, to, 20).await?;
        let made = handshakes(&world, to).await? - before;
        ensure!((least..=most).contains(&made), "{from} to {to}: {made} handshakes");
    }
    world.finish().await
}

#[tokio::test]
async fn a_proxy_that_is_killed_in_the_middle_is_an_error_at_the_client_and_not_an_end()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = lines("cut", &[]).await?;
    answered(&world, "client", "lines", 10).await?;
    let warm = async |outcome: &str| {
        let labels = [("outcome", outcome)];
        Metrics::of(&world, "client").await?.require("heddle_warm_connections_total", &labels)
    };
    let flow = [("direction", "outbound"), ("flow", "to_client")];
    let heard =
        async || Metrics::of(&world, "client").await?.require("heddle_tcp_bytes_total", &flow);
    let (reused, before) = (warm("reused").await?, heard().await?);
    let conversation = Conversation::new().send("one\n").until("answered-one\n").rest();
    let killing = async {
        wait::until("it has begun", Duration::from_secs(10), async || {
            ensure!(heard().await? - before >= 13.0, "nothing was answered");
            Ok(())
        })
        .await?;
        ensure!(warm("reused").await? > reused, "it is on a connection of its own");
        let proxy = Target::Proxy("lines".to_owned());
        anyhow::Ok(world.mesh()?.stop(proxy, Signal::Kill).await?)
    };
    let (said, killed) =
        tokio::join!(conversation.hold(&world, "client", ("lines", 7000)), killing);
    killed?;
    let said = said?;
    ensure!(said.read.first().is_some_and(|read| read == "answered-one\n"), "{said:?}");
    let error = said.error.as_deref().context("taken for an end")?;
    ensure!(error.to_lowercase().contains("reset"), "{said:?}");
    world.mesh()?.start_again(Target::Proxy("lines".to_owned())).await?;
    wait::until("it is called again", Duration::from_secs(60), async || {
        answered(&world, "client", "lines", 5).await.map(drop)
    })
    .await?;
    world.finish().await
}

async fn lines(name: &str, arguments: &[&str]) -> Result<World> {
    plan(name).proxies(arguments).start().await
}

fn plan(name: &str) -> Plan {
    Plan::new(name)
        .file("client.yaml", Pod::new("client").to_string())
        .file("lines.yaml", server("lines").to_string())
        .file("service.yaml", service("tcp").to_string())
}

fn server(name: &str) -> Pod {
    Pod::new(name).command(&echo_tcp(7000)).port(7000).strict()
}

fn service(protocol: &str) -> Service {
    Service::new("lines").port_speaking(7000, 7000, protocol)
}

/// Connects so often, one after the other; each is answered as one of its own would be. Says how often.
async fn answered(world: &World, from: &str, to: &str, number: u32) -> Result<u32> {
    let answered = world.ask(from, &many_tcp(to, 7000, number)).await?;
    ensure!(answered.trim() == number.to_string(), "{answered}");
    Ok(number)
}

/// That other proxies have made with this one.
async fn handshakes(world: &World, workload: &str) -> Result<f64> {
    let labels = [("side", "server"), ("outcome", "ok")];
    Ok(Metrics::of(world, workload).await?.sum("heddle_tls_handshakes_total", &labels))
}

/// Connects again and again; each is seen as one connection from the client, authenticated. Says how many
/// handshakes that took.
async fn talk(world: &World) -> Result<f64> {
    let before = handshakes(world, "lines").await?;
    answered(world, "client", "lines", CONNECTIONS).await?;
    let metrics = Metrics::of(world, "lines").await?;
    let carried = [("direction", "inbound"), ("tls", "mtls")];
    let counted = metrics.require("heddle_tcp_connections_total", &carried)?;
    ensure!(counted >= f64::from(CONNECTIONS), "{counted} were counted");
    let named = metrics.show("heddle_tcp_connections_total");
    ensure!(named.contains("/sa/"), "nobody knows who called: {named}");
    Ok(handshakes(world, "lines").await? - before)
}
