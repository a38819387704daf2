//! Clients that are slow in every way there is, by the hundred: each is ended by the timer that is meant for
//! it, while a good client loses nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::adversary::connection::Ended;
use heddle_tests::adversary::shape::{Cover, Shape};
use heddle_tests::adversary::{self, mute, patient};
use heddle_tests::certificate::{Authority, Wish};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::peer::Presented;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

/// Short, each different from what it is by default; else as in production.
const TIMERS: [&str; 9] = [
    "--request-head-timeout=2s",
    "--detection-timeout=1s",
    "--handshake-timeout=1s",
    "--body-idle-timeout=2s",
    "--stream-idle-timeout=20s",
    "--opaque-idle-timeout=3s",
    "--inbound-idle-timeout=3s",
    "--http2-ping-interval=1s",
    "--http2-ping-timeout=1s",
];
const CONNECTIONS: usize = 200;
/// The longest sum of timers is 6 s; the rest is for a machine that is busy.
const LIMIT_SECONDS: u64 = 40;

/// How an end is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    /// By the timer.
    Limit(&'static str),
    /// As a handshake that failed.
    Handshake(&'static str),
}

/// A shape, the pod that it is played against, and how its end is counted.
type Case = (Shape, &'static str, Counted);

/// Those that run at the same time.
const WAVES: [&[Case]; 7] = [
    &[
        (Shape::Nothing, "server", Counted::Limit("opaque_idle")),
        (Shape::Nothing, "declared", Counted::Limit("silence")),
        (Shape::Nothing, "strict", Counted::Limit("detection")),
        (Shape::PartialHello, "strict", Counted::Limit("detection")),
    ],
    &[
        (Shape::WholeHello, "server", Counted::Handshake("timeout")),
        (Shape::MeshHttp2, "server", Counted::Limit("http2_preface")),
        (Shape::Http2Preface, "declared", Counted::Limit("http2_preface")),
        (Shape::Opaque, "mute", Counted::Limit("opaque_idle")),
        (Shape::HalfClosed, "mute", Counted::Limit("opaque_idle")),
    ],
    &[
        (Shape::Http2Mute, "server", Counted::Limit("http2_ping_unanswered")),
        (Shape::Http2OpenHeaders, "declared", Counted::Limit("http2_ping_unanswered")),
        (Shape::Http2Idle, "server", Counted::Limit("http2_idle")),
    ],
    &[
        (Shape::Http2HalfBody, "server", Counted::Limit("body_timeout")),
        (Shape::Http2ZeroWindow, "declared", Counted::Limit("response_unread")),
    ],
    &[
        (Shape::OneByte, "server", Counted::Limit("head_timeout")),
        (Shape::PartialRequestLine, "declared", Counted::Limit("head_timeout")),
        (Shape::DrippedHead, "server", Counted::Limit("head_timeout")),
    ],
    &[
        (Shape::NoBody, "server", Counted::Limit("body_timeout")),
        (Shape::KeptAlive, "declared", Counted::Limit("http1_idle")),
        (Shape::MeshHttp1, "server", Counted::Limit("http1_idle")),
    ],
    &[
        (Shape::Unread, "declared", Counted::Limit("response_unread")),
        // Its least rate is no setting: heddle_proxy::listen::REQUEST_BODY_GRACE is 20 s.
        (Shape::DrippedBody, "server", Counted::Limit("body_too_slow")),
    ],
];

#[tokio::test]
async fn each_slow_peer_is_ended_by_its_own_timer_and_a_good_client_loses_nothing() -> Result<()> {
    let world = world().await?;
    let is_over = AtomicBool::new(false);
    let (asked, played) = tokio::join!(good_client(&world, &is_over), async {
        let played = play(&world).await;
        is_over.store(true, Ordering::Relaxed);
        played
    });
    played?;
    let asked = asked?;
    ensure!(asked > 500, "the good client asked {asked} times only");
    world.finish().await
}

async fn world() -> Result<World> {
    let server =
        |name: &str| Ok::<_, anyhow::Error>(Pod::new(name).command(&patient(8080)?).port(8080));
    Plan::new("slow")
        .proxies(&TIMERS)
        .file(
            "servers.yaml",
            documents(&[server("server")?, server("declared")?, server("strict")?.strict()]),
        )
        .file("mute.yaml", Pod::new("mute").command(&mute(9000)?).port(9000).to_string())
        .file("clients.yaml", documents(&[Pod::new("client"), Pod::new("outside").unmeshed()]))
        .file(
            "services.yaml",
            documents(&[
                Service::new("server").port(8080, 8080),
                Service::new("declared").port_speaking(8080, 8080, "http"),
            ]),
        )
        .start()
        .await
}

async fn good_client(world: &World, is_over: &AtomicBool) -> Result<u64> {
    let mut asked = 0;
    while !is_over.load(Ordering::Relaxed) {
        let load = Load::on("http://server:8080/").http2().rate(50).connections(2).seconds(3);
        let report = load.run(world, "client").await?;
        report.nothing_lost()?;
        asked += report.sent;
    }
    Ok(asked)
}

async fn play(world: &World) -> Result<()> {
    for wave in WAVES {
        let before = counts(world, wave).await?;
        let played = wave.iter().map(|case| play_one(world, case));
        futures(played).await?;
        // What is counted is counted when the connection has ended on our side.
        wait::until("every end is counted", Duration::from_secs(5), async || {
            let after = counts(world, wave).await?;
            for (key, expected) in expected(wave) {
                let count = |counts: &Counts| counts.get(&key).copied().unwrap_or_default();
                let counted = count(&after) - count(&before);
                let connections = f64::from(u32::try_from(expected)?);
                ensure!(counted >= connections, "{key:?}: {counted} of {expected} were counted");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

type Counts = BTreeMap<(&'static str, Counted), f64>;

fn expected(wave: &[Case]) -> BTreeMap<(&'static str, Counted), usize> {
    let mut expected = BTreeMap::new();
    for (_shape, pod, counted) in wave {
        *expected.entry((*pod, *counted)).or_default() += CONNECTIONS;
    }
    expected
}

async fn counts(world: &World, wave: &[Case]) -> Result<Counts> {
    let mut counts = Counts::new();
    for (_shape, pod, counted) in wave {
        let metrics = Metrics::of(world, pod).await?;
        let count = match counted {
            Counted::Limit(limit) => metrics
                .sum("heddle_limits_reached_total", &[("direction", "inbound"), ("limit", limit)]),
            Counted::Handshake(outcome) => metrics
                .sum("heddle_tls_handshakes_total", &[("side", "server"), ("outcome", outcome)]),
        };
        counts.insert((*pod, *counted), count);
    }
    Ok(counts)
}

async fn play_one(world: &World, (shape, pod, counted): &Case) -> Result<()> {
    let port = if *pod == "mute" { 9000 } else { 8080 };
    let address = format!("{}:{port}", world.address(pod).await?);
    let shape_name = clap::ValueEnum::to_possible_value(shape).context("a shape without a name")?;
    let mut arguments = vec!["slow".to_owned(), format!("--shape={}", shape_name.get_name())];
    arguments.push(format!("--address={address}"));
    arguments.push(format!("--connections={CONNECTIONS}"));
    arguments.push(format!("--seconds={LIMIT_SECONDS}"));
    if shape.script().cover != Cover::Plain {
        let wish = Wish::good("cluster.local", "outside", &world.pod_uid("outside").await?);
        let presented = Presented::write(world, "slow", &Authority::of(world)?.certify(&wish)?)?;
        arguments.extend(presented.arguments());
        let uid = world.pod_uid(pod).await?;
        arguments.push(format!("--server-name={port}.{uid}.pod.cluster.local"));
    }
    let ended: Ended = adversary::run(world, "outside", &arguments).await?;
    eprintln!("{shape:?} at {pod}, {counted:?}: {ended:?}");
    ensure!(
        ended.made == CONNECTIONS && ended.ended == CONNECTIONS,
        "{shape:?} at {pod}: {ended:?}"
    );
    // None was turned away at once, as if by another limit.
    ensure!(ended.first_ms >= 500, "{shape:?} at {pod}: {ended:?}");
    Ok(())
}

/// All at the same time; fails with the first that does, after all have ended.
async fn futures(all: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    for outcome in futures_util::future::join_all(all).await {
        outcome?;
    }
    Ok(())
}
