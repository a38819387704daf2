//! Where connections go that a workload opens without knowing of a mesh: the cases that every mesh got
//! wrong once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::BRIDGE;
use heddle_tests::applications::{echo_http, echo_http_on};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::Value;
use tokio::time::Instant;

#[tokio::test]
async fn an_unknown_destination_passes_through_unchanged() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("unknown", &[]).await?;
    let command = echo_http(18_080, "outside");
    let outside = world.run(BRIDGE, &command);
    let observed = async {
        // The bridge's own address belongs to no pod and no service.
        let url = "http://10.42.0.1:18080/unchanged?yes=1";
        let answer = wait::until("the outside answers", Duration::from_secs(20), async || {
            world.curl("client", &["--header", "x-mark: kept", url]).await
        })
        .await?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(
            answer["path"] == "/unchanged?yes=1" && answer["headers"]["x-mark"] == "kept",
            "{answer}"
        );
        ensure!(answer["headers"]["x-forwarded-client-cert"].is_null(), "{answer}");
        // Nobody listens there: an error as without a mesh, and not after a long while.
        let began = Instant::now();
        let refused = world.try_curl("client", &["http://10.42.0.1:18081/"]).await?;
        ensure!([7, 52, 56].contains(&refused.code), "{refused:?}");
        ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
        anyhow::Ok(())
    };
    tokio::select! {
        ended = outside => anyhow::bail!("the outside ended: {}", ended?.stderr_text()),
        observed = observed => observed?,
    }
    let plain = world.address("plain").await?;
    let answer = ask(&world, "client", &format!("http://{plain}:8080/")).await?;
    ensure!(answer["name"] == "plain", "a pod without a proxy: {answer}");
    // Its own, not that of the cable with the lowest one: a pod that comes would change it under all others.
    let bridge = world.ask(BRIDGE, &["ip", "-oneline", "link", "show", "heddle0"]).await?;
    ensure!(bridge.contains("link/ether 02:68:65:64:64:01"), "{bridge}");
    world.finish().await
}

#[tokio::test]
async fn an_undefined_port_of_a_known_service_is_refused_at_once() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("undefined", &[]).await?;
    ask(&world, "client", "http://server:8080/").await?;
    let began = Instant::now();
    let outcome = world.try_curl("client", &["http://server:8081/"]).await?;
    ensure!([7, 52, 56].contains(&outcome.code) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    let metrics = Metrics::of(&world, "client").await?;
    let refused =
        metrics.require("heddle_connections_refused_total", &[("direction", "outbound")])?;
    ensure!(refused >= 1.0, "{}", metrics.show("heddle_connections_refused_total"));
    world.finish().await
}

#[tokio::test]
async fn a_workload_calls_itself_through_its_own_service_and_by_its_own_address() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("itself", &[]).await?;
    let own = world.address("server").await?;
    for url in [
        "http://server:8080/".to_owned(),
        format!("http://{own}:8080/"),
        "http://localhost:8080/".to_owned(),
    ] {
        for _ in 0..5 {
            let answer = ask(&world, "server", &url).await.with_context(|| url.clone())?;
            ensure!(answer["name"] == "server", "{url}: {answer}");
        }
    }
    world.finish().await
}

#[tokio::test]
async fn a_pod_called_by_its_own_address_is_called_over_mutual_tls() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let headless = Pod::new("headless").command(&echo_http(8080, "headless")).port(8080).strict();
    let world = world("by-address", &[headless]).await?;
    let address = world.address("headless").await?;
    let url = format!("http://{address}:8080/");
    let answer = ask(&world, "client", &url).await?;
    ensure!(answer["name"] == "headless", "{answer}");
    // Strict, so it came over mutual TLS; and the application is told from whom.
    let told = answer["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
    ensure!(told.contains("spiffe://cluster.local/ns/default/sa/client"), "{answer}");
    let forged = [
        "--header",
        "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/admin",
        &url,
    ];
    let answer: Value = serde_json::from_str(&world.curl("client", &forged).await?)?;
    ensure!(!answer.to_string().contains("sa/admin"), "a caller names itself: {answer}");
    let metrics = Metrics::of(&world, "headless").await?;
    let mutual = metrics
        .require("heddle_http_requests_total", &[("direction", "inbound"), ("tls", "mtls")])?;
    ensure!(mutual >= 2.0, "{}", metrics.show("heddle_http_requests_total"));
    world.finish().await
}

#[tokio::test]
async fn a_caller_without_a_certificate_cannot_name_itself_either() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("forged", &[]).await?;
    let url = format!("http://{}:8080/", world.address("server").await?);
    let forged = [
        "--header",
        "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/admin",
        &url,
    ];
    let answer: Value = serde_json::from_str(&world.curl("plain", &forged).await?)?;
    ensure!(answer["headers"]["x-forwarded-client-cert"].is_null(), "{answer}");
    world.finish().await
}

#[tokio::test]
async fn both_families_of_addresses_are_meshed() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let strict = Pod::new("strict").command(&echo_http(8080, "strict")).port(8080).strict();
    let world = world("families", &[strict]).await?;
    let pod = world.addresses("strict").await?;
    let service = world.service_addresses("strict").await?;
    ensure!(pod.iter().any(std::net::IpAddr::is_ipv6), "the pod has no IPv6 address: {pod:?}");
    ensure!(
        service.iter().any(std::net::IpAddr::is_ipv6),
        "the service has no IPv6 address: {service:?}"
    );
    for address in pod.into_iter().chain(service) {
        let url = format!("http://{}/", std::net::SocketAddr::new(address, 8080));
        let answer = ask(&world, "client", &url).await.with_context(|| url.clone())?;
        ensure!(answer["name"] == "strict", "{url}: {answer}");
        // A plain connection is refused in both families, so interception holds in both.
        let outcome = world.try_curl("plain", &[&url]).await?;
        ensure!(outcome.code != 0 && outcome.stdout.is_empty(), "{url}: {outcome:?}");
    }
    for family in ["-4", "-6"] {
        let answer = world.curl("client", &[family, "http://strict:8080/"]).await?;
        ensure!(answer.contains("\"name\": \"strict\""), "{family}: {answer}");
    }
    world.finish().await
}

#[tokio::test]
async fn an_application_that_listens_on_loopback_only_stays_unreachable() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let private = |name: &str| Pod::new(name).command(&echo_http_on(8080, name, "127.0.0.1"));
    let world =
        world("loopback", &[private("private"), private("plain-private").unmeshed()]).await?;
    for workload in ["private", "plain-private"] {
        wait::until("it listens", Duration::from_secs(10), async || {
            ask(&world, workload, "http://127.0.0.1:8080/").await
        })
        .await?;
    }
    // As it is without a mesh.
    let without = format!("http://{}:8080/", world.address("plain-private").await?);
    let outcome = world.try_curl("plain", &[&without]).await?;
    ensure!(outcome.code == 7, "without a mesh: {outcome:?}");
    let with = format!("http://{}:8080/", world.address("private").await?);
    for from in ["client", "plain", BRIDGE] {
        for url in [with.as_str(), "http://private:8080/"].into_iter().take(if from == "client" {
            2
        } else {
            1
        }) {
            let outcome = world.try_curl(from, &["--include", url]).await?;
            let text = outcome.stdout_text();
            ensure!(!text.contains("\"name\""), "{url} from {from}: {text}");
            ensure!(
                outcome.code != 0 || text.starts_with("HTTP/1.1 50"),
                "{url} from {from}: {text}"
            );
        }
    }
    world.finish().await
}

/// A client, a server with a service, a pod without a proxy, and what the test adds; services for all.
async fn world(name: &str, more: &[Pod]) -> Result<World> {
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080);
    let pods = [Pod::new("client"), server("server"), server("plain").unmeshed()];
    let services = ["server", "private", "strict"].map(|name| Service::new(name).port(8080, 8080));
    Plan::new(name)
        .file("pods.yaml", documents(&[&pods, more].concat()))
        .file("services.yaml", documents(&services))
        .start()
        .await
}

/// What the echo server was asked.
async fn ask(world: &World, from: &str, url: &str) -> Result<Value> {
    let answer = world.curl(from, &[url]).await?;
    serde_json::from_str(&answer).with_context(|| format!("{url} from {from} answers {answer}"))
}
