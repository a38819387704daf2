//! Who is let in, and who is believed: only whoever holds a certificate of this mesh that is good now, and
//! on the way out only the pod that is meant.

use anyhow::{Result, ensure};
use heddle_local::protocol::BRIDGE;
use heddle_tests::applications::echo_http;
use heddle_tests::certificate::{Authority, Wish};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::peer::{self, Attempt, Presented};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn a_plain_connection_to_a_strict_workload_is_refused_and_to_a_permissive_one_served()
-> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = servers("plain").await?;
    for from in ["outsider", BRIDGE] {
        let open = format!("http://{}:8080/", world.address("permissive").await?);
        let answer = world.curl(from, &[&open]).await?;
        ensure!(answer.contains("\"name\": \"permissive\""), "from {from}: {answer}");
        let closed = format!("http://{}:8080/", world.address("strict").await?);
        let outcome = world.try_curl(from, &[&closed]).await?;
        // An empty answer or a reset, but no word of HTTP.
        ensure!([52, 56].contains(&outcome.code), "from {from}: curl ends with {outcome:?}");
        ensure!(outcome.stdout.is_empty(), "from {from}: {}", outcome.stdout_text());
    }
    for service in ["permissive", "strict"] {
        let answer = world.curl("client", &[&format!("http://{service}:8080/")]).await?;
        ensure!(answer.contains(&format!("\"name\": \"{service}\"")), "{answer}");
    }
    let metrics = Metrics::of(&world, "strict").await?;
    let refused =
        metrics.require("heddle_connections_refused_total", &[("direction", "inbound")])?;
    ensure!(refused >= 2.0, "{}", metrics.show("heddle_connections_refused_total"));
    world.finish().await
}

#[tokio::test]
async fn an_inbound_proxy_refuses_every_certificate_but_a_good_one_and_counts_why() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = servers("inbound").await?;
    let mesh = Authority::of(&world)?;
    let stranger = Authority::stranger()?;
    let good = Wish::good(TRUST_DOMAIN, "client", "some-pod");
    let elsewhere = Wish::good("elsewhere.example", "client", "some-pod");
    let mut two_uris = good.clone();
    two_uris.uris.push(format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/strict"));
    let expired = Wish { expired: true, ..good.clone() };
    let no_pod = Wish { dns: format!("strict.default.svc.{TRUST_DOMAIN}"), ..good.clone() };
    // The control experiment, before and after: nothing else is wrong with these connections.
    ensure_served(&world, &mesh, &good).await?;
    for (case, authority, wish, outcome) in [
        ("another trust domain's own", &stranger, &elsewhere, "wrong_trust_domain"),
        ("another trust domain's, signed here", &mesh, &elsewhere, "wrong_trust_domain"),
        ("an unknown authority's", &stranger, &good, "unknown_authority"),
        ("expired", &mesh, &expired, "expired"),
        ("two URI names", &mesh, &two_uris, "two_uri_names"),
        ("bound to no pod", &mesh, &no_pod, "not_a_pod_name"),
    ] {
        let presented = Presented::write(&world, outcome, &authority.certify(wish)?)?;
        let attempt = attempt(&world, "strict", Some(&presented)).await?;
        ensure_refused(&world, &attempt, case, outcome).await?;
    }
    let nothing = attempt(&world, "strict", None).await?;
    ensure_refused(&world, &nothing, "no certificate", "no_certificate").await?;
    ensure_served(&world, &mesh, &good).await?;
    // A connection that was meant for another pod, such as one whose address was reused.
    let presented = Presented::write(&world, "good", &mesh.certify(&good)?)?;
    let mut misdirected = attempt(&world, "strict", Some(&presented)).await?;
    misdirected.server_name =
        format!("8080.{}.pod.{TRUST_DOMAIN}", world.pod_uid("permissive").await?);
    let outcome = peer::connect(&world, BRIDGE, &misdirected).await?;
    ensure!(outcome.answer.is_empty(), "another pod's name: {outcome:?}");
    world.finish().await
}

#[tokio::test]
async fn an_outbound_proxy_believes_only_the_identity_and_the_pod_that_it_was_told_of() -> Result<()>
{
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    // The control plane is told that a proxy stands beside this pod; what stands there is an impostor.
    let impostor = Pod::new("impostor").unmeshed().annotation("heddle.dev/injected", "true");
    let mut service = Service::new("impostor");
    let mut world_cases = Vec::new();
    for (index, (_, outcome)) in IMPOSTORS.into_iter().enumerate() {
        let port = 8440 + u16::try_from(index)?;
        service = service.port_speaking(port, port, "http");
        world_cases.push((port, outcome));
    }
    let world = Plan::new("impostor")
        .file("pods.yaml", documents(&[Pod::new("client"), impostor]))
        .file("service.yaml", service.to_string())
        .start()
        .await?;
    let script = impostors(&world, &world_cases).await?;
    let serving = world.run("impostor", &script);
    let observed = async {
        for (port, expected) in world_cases {
            let port_is_open = port_is_open(&world, port);
            Box::pin(port_is_open).await?;
            let before = handshakes(&world, expected).await?;
            let url = format!("http://impostor:{port}/");
            let answer = world.curl("client", &["--include", &url]).await?;
            let served = answer.contains("x-shop-version: impostor");
            ensure!(served == (expected == "ok"), "{expected}: {answer}");
            ensure!(served || answer.starts_with("HTTP/1.1 50"), "{expected}: {answer}");
            let after = handshakes(&world, expected).await?;
            ensure!(after > before, "a handshake that ends in {expected} was not counted");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = serving => anyhow::bail!("the impostor ended: {:?}", ended?.stderr_text()),
        observed = observed => observed?,
    }
    world.finish().await
}

/// What an impostor may hold, and what an outbound proxy makes of it.
const IMPOSTORS: [(&str, &str); 7] = [
    ("good", "ok"),
    ("another pod's", "wrong_pod"),
    ("another identity's", "wrong_identity"),
    ("expired", "expired"),
    ("two URI names", "two_uri_names"),
    ("another trust domain's", "wrong_trust_domain"),
    ("an unknown authority's", "unknown_authority"),
];

const TRUST_DOMAIN: &str = "cluster.local";

/// The command that serves each case on its port, with its certificate.
async fn impostors(world: &World, cases: &[(u16, &str)]) -> Result<Vec<String>> {
    let uid = world.pod_uid("impostor").await?;
    let mesh = Authority::of(world)?;
    let stranger = Authority::stranger()?;
    let good = Wish::good(TRUST_DOMAIN, "impostor", &uid);
    let mut script = String::new();
    for (port, outcome) in cases {
        let mut wish = good.clone();
        let mut authority = &mesh;
        match *outcome {
            "wrong_pod" => wish = Wish::good(TRUST_DOMAIN, "impostor", "another-pod"),
            "wrong_identity" => wish = Wish::good(TRUST_DOMAIN, "client", &uid),
            "expired" => wish.expired = true,
            "two_uri_names" => {
                wish.uris.push(format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/client"))
            }
            "wrong_trust_domain" => {
                (wish, authority) = (Wish::good("elsewhere.example", "impostor", &uid), &stranger);
            }
            "unknown_authority" => authority = &stranger,
            _ => {}
        }
        let presented = Presented::write(world, outcome, &authority.certify(&wish)?)?;
        script.push_str(&format!("{} & ", peer::serve(*port, &presented)?.join(" ")));
    }
    Ok(["sh".to_owned(), "-c".to_owned(), format!("{script} wait")].into())
}

async fn port_is_open(world: &World, port: u16) -> Result<()> {
    let wanted = format!(":{port:04X} ");
    wait::until("the impostor listens", std::time::Duration::from_secs(10), async || {
        let sockets = world.ask("impostor", &["cat", "/proc/net/tcp6"]).await?;
        ensure!(sockets.contains(&wanted), "no {wanted} in {sockets}");
        Ok(())
    })
    .await
}

async fn handshakes(world: &World, outcome: &str) -> Result<f64> {
    let metrics = Metrics::of(world, "client").await?;
    Ok(metrics.sum("heddle_tls_handshakes_total", &[("side", "client"), ("outcome", outcome)]))
}

async fn servers(name: &str) -> Result<World> {
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080);
    let pods = [
        server("permissive"),
        server("strict").strict(),
        Pod::new("client"),
        Pod::new("outsider").unmeshed(),
    ];
    let services = ["permissive", "strict"].map(|name| Service::new(name).port(8080, 8080));
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .start()
        .await
}

/// A connection to a workload's proxy as another proxy would open it.
async fn attempt<'a>(
    world: &World,
    workload: &str,
    presented: Option<&'a Presented>,
) -> Result<Attempt<'a>> {
    Ok(Attempt {
        address: format!("{}:8080", world.address(workload).await?),
        server_name: format!("8080.{}.pod.{TRUST_DOMAIN}", world.pod_uid(workload).await?),
        presented,
        request: "GET / HTTP/1.1\r\nhost: strict\r\nconnection: close\r\n\r\n",
    })
}

async fn ensure_served(world: &World, mesh: &Authority, good: &Wish) -> Result<()> {
    let presented = Presented::write(world, "good", &mesh.certify(good)?)?;
    let outcome =
        peer::connect(world, BRIDGE, &attempt(world, "strict", Some(&presented)).await?).await?;
    ensure!(outcome.answer.starts_with("HTTP/1.1 200"), "a good certificate: {outcome:?}");
    ensure!(outcome.answer.contains("\"name\": \"strict\""), "a good certificate: {outcome:?}");
    Ok(())
}

async fn ensure_refused(
    world: &World,
    attempt: &Attempt<'_>,
    case: &str,
    expected: &str,
) -> Result<()> {
    let labels = [("side", "server"), ("outcome", expected)];
    let before = Metrics::of(world, "strict").await?.sum("heddle_tls_handshakes_total", &labels);
    let outcome = peer::connect(world, BRIDGE, attempt).await?;
    ensure!(outcome.answer.is_empty(), "{case}: {outcome:?}");
    ensure!(outcome.error.is_some(), "{case}: {outcome:?}");
    let metrics = Metrics::of(world, "strict").await?;
    let counted = metrics.sum("heddle_tls_handshakes_total", &labels) - before;
    let all = metrics.show("heddle_tls_handshakes_total");
    ensure!(counted > 0.5, "{case}: not counted as {expected}:\n{all}");
    Ok(())
}
