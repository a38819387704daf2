//! What meshctl shows of the demo's shop while it runs: the tables as snapshots have them, the JSON as `docs/schema`
//! has it, and how its shows end. How numbers are masked: tests/src/shown.rs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications;
use heddle_tests::program::{self, Said};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::schema;
use heddle_tests::shown;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::Value;
use tokio::process::Command;

#[tokio::test]
async fn the_running_shop_is_shown_as_the_snapshots_and_the_schemas_have_it() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = shop("shown").await?;
    everything_is_told(&world).await?;
    let signals = ["RPS", "P50", "P95", "P99", "TCP_CONN"];
    for (case, arguments, varying) in [
        ("stat_workloads", &["stat"][..], &signals[..]),
        ("stat_services", &["stat", "svc"], &signals),
        ("stat_backends", &["stat", "backend"], &signals),
        ("edges", &["edges"], &[]),
        ("top", &["top", "--once", "--sort", "name"], &signals),
        ("split", &["split"], &[]),
        ("routes", &["routes"], &[]),
    ] {
        let said = meshctl(&world, arguments).await?;
        ensure!(said.code == Some(0), "{case}: {said:?}");
        insta::assert_snapshot!(case, shown::table(&said.stdout, varying));
    }
    let said = meshctl(&world, &["why", "pod/frontend", "api:8080", "GET", "/"]).await?;
    insta::assert_snapshot!("why", shown::prose(&said.stdout));
    let tap = ["tap", "pod/api-v2", "--direction", "inbound", "--method", "GET"];
    let first = shell(&world, &tap, "| head -n 1").await?;
    insta::assert_snapshot!("tap", shown::prose(&first.stdout));
    for (name, arguments) in SHOWS {
        let said = meshctl(&world, &[arguments, &["--output", "json"]].concat()).await?;
        let mut value: Value = serde_json::from_str(&said.stdout)
            .with_context(|| format!("{arguments:?} said {said:?}"))?;
        schema::hold(name, &value)?;
        let yaml = meshctl(&world, &[arguments, &["--output", "yaml"]].concat()).await?.stdout;
        for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
            let has = yaml.lines().any(|line| line.starts_with(&format!("{key}:")));
            ensure!(has, "{arguments:?} has no {key} as YAML: {yaml}");
        }
        let one = if value.is_array() { &mut value[0] } else { &mut value };
        one["surprise"] = Value::from(1);
        ensure!(schema::hold(name, &value).is_err(), "{name}: an unknown field is let through");
    }
    let status = serde_json::to_value(world.mesh()?.status().await?)?;
    schema::hold("local-status", &status)?;
    world.finish().await
}

#[tokio::test]
async fn whatever_is_watched_ends_with_its_reader_and_silence_is_told_of() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = shop("watched").await?;
    for (_, arguments) in SHOWS {
        let watch: &[&str] = if arguments.first() == Some(&"top") { &[] } else { &["--watch"] };
        let line = shell(&world, &[arguments, watch].concat(), "| head -n 1").await?;
        ensure!(line.stdout.lines().count() == 1, "{arguments:?}: {line:?}");
    }
    // Two tables of one kind of row: it goes on while somebody reads.
    let twice = shell(&world, &["top", "svc", "--interval", "200ms"], "| grep -m 2 NAME").await?;
    ensure!(twice.stdout.lines().count() == 2, "{twice:?}");
    for arguments in [
        &["stat"][..],
        &["stat", "route"],
        &["edges"],
        &["top", "--once"],
        &["routes"],
        &["split"],
        &["proxy", "status"],
    ] {
        let said = meshctl(&world, &[arguments, &["--namespace", "nowhere"]].concat()).await?;
        let text = format!("{}{}", said.stdout, said.stderr);
        ensure!(text.split_whitespace().count() > 5, "{arguments:?} says nothing: {said:?}");
        ensure!(said.code == Some(0), "{arguments:?}: {said:?}");
    }
    world.finish().await
}

#[tokio::test]
async fn top_leaves_the_terminal_as_it_was_however_it_ends() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = shop("top").await?;
    everything_is_told(&world).await?;
    let meshctl = program::binaries()?.path("meshctl").to_string_lossy().into_owned();
    let socket = world.mesh()?.files().admin_socket().to_string_lossy().into_owned();
    let top = [&meshctl, "top", "--admin-socket", &socket, "--interval", "200ms"];
    let top = top.map(str::to_owned);
    for (size, wanted, deed) in [
        ("120x40", "pod/frontend", "keys:q"),
        ("80x24", "pod/frontend", "keys:\u{3}"),
        ("80x24", "LAST_5M", "keys:/front\r \u{1b}\u{1b}q"),
        ("80x24", "pod/frontend", "signal:TERM"),
        ("80x24", "pod/frontend", "signal:HUP"),
        ("120x40", "pod/frontend", "resize:60x12"),
    ] {
        let command = applications::terminal(size, wanted, deed, &top);
        let said = run(&command).await?;
        let outcome: Value =
            serde_json::from_str(&said.stdout).with_context(|| format!("{deed}: {said:?}"))?;
        ensure!(outcome["code"] == 0 && outcome["restored"] == true, "{deed}: {outcome}");
        let written = outcome["written"].as_str().context("nothing was written")?;
        let (entered, left) = (written.find("\u{1b}[?1049h"), written.rfind("\u{1b}[?1049l"));
        ensure!(entered.is_some() && entered < left, "{deed}: {written:?}");
        ensure!(written.contains("\u{1b}[?25h"), "{deed}: the cursor is gone: {written:?}");
    }
    world.finish().await
}

/// Each show with its schema, and arguments with which it has something to show.
const SHOWS: [(&str, &[&str]); 12] = [
    ("stat", &["stat"]),
    ("stat", &["stat", "svc"]),
    ("stat", &["stat", "route"]),
    ("edges", &["edges"]),
    ("top", &["top", "svc"]),
    ("routes", &["routes"]),
    ("split", &["split"]),
    ("why", &["why", "pod/frontend", "api:8080"]),
    ("status", &["status"]),
    ("proxy-status", &["proxy", "status"]),
    ("proxy-config", &["proxy", "config", "frontend"]),
    ("identity", &["identity"]),
];

/// The demo's shop, with a fifth of the requests for v2.
async fn shop(name: &str) -> Result<World> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../install/examples/shop");
    let read = |file: &str| std::fs::read_to_string(folder.join(file));
    let mut plan = Plan::new(name).proxies(&["--telemetry-interval=1s"]);
    for file in ["frontend.yaml", "api.yaml", "store.yaml"] {
        plan = plan.file(file, read(file)?);
    }
    let canary = read("canary.yaml")?;
    let canary = canary.replace("weight: 100", "weight: 80").replace("weight: 0", "weight: 20");
    let world = plan.file("canary.yaml", canary).start().await?;
    // Later than the others, as in the demo: nothing it sends meets somebody who is not ready.
    world.write("load.yaml", &read("load.yaml")?)?;
    Ok(world)
}

/// Every pair that talks has been told of, and everybody has acknowledged the split.
async fn everything_is_told(world: &World) -> Result<()> {
    wait::until("everything is told", Duration::from_secs(90), async || {
        let edges = json(world, &["edges"]).await?;
        let found = edges["edges"].as_array().context("no edges")?;
        let busy = |from: &str, to: &str| {
            found
                .iter()
                .any(|edge| edge["source"]["name"] == from && edge["destination"]["name"] == to)
        };
        for (from, to) in [
            ("load", "frontend:8080"),
            ("frontend", "api-v1:8080"),
            ("frontend", "api-v2:8080"),
            ("api-v1", "store:9000"),
            ("api-v2", "store:9000"),
        ] {
            ensure!(busy(from, to), "nobody told of {from} asking {to}: {edges}");
        }
        // Of ten seconds that have ended.
        let top = json(world, &["top"]).await?;
        for name in ["frontend", "api-v1", "api-v2"] {
            let rows = top["rows"].as_array().context("no rows")?;
            let row = rows.iter().find(|row| row["name"] == name).context(name)?;
            let steps = row["history"].as_array().context("no history")?;
            ensure!(steps.iter().any(|step| step["requests"].as_u64() > Some(0)), "{row}");
        }
        let split = json(world, &["split"]).await?;
        ensure!(split["splits"][0]["state"] == "acknowledged", "{split}");
        Ok(())
    })
    .await
}

async fn json(world: &World, arguments: &[&str]) -> Result<Value> {
    let said = meshctl(world, &[arguments, &["--output", "json"]].concat()).await?;
    serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))
}

async fn meshctl(world: &World, arguments: &[&str]) -> Result<Said> {
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let target = ["--admin-socket", &socket];
    program::meshctl(&[arguments, &target].concat()).await
}

/// meshctl in a shell, whose words and what follows have no need of quotes.
async fn shell(world: &World, arguments: &[&str], pipe: &str) -> Result<Said> {
    let meshctl = program::binaries()?.path("meshctl");
    let socket = world.mesh()?.files().admin_socket();
    let words = arguments.join(" ");
    let line = format!("{} {words} --admin-socket {} {pipe}", meshctl.display(), socket.display());
    run(&["bash".to_owned(), "-c".to_owned(), line]).await
}

async fn run(words: &[String]) -> Result<Said> {
    let (name, arguments) = words.split_first().context("no command")?;
    let mut command = Command::new(name);
    command.args(arguments);
    program::finish(command, Duration::from_secs(90)).await
}
