//! The access log: as many lines as there were requests and connections, of which proxies can be told at any time.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::applications::{echo_http, echo_tcp, tcp_client};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::status::{Status, acknowledged_by};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::Value;

#[tokio::test]
async fn there_is_a_line_for_each_request_and_each_connection_and_no_secret_in_it() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("access-log", &["--access-log=all", "--access-log-format=json"]).await?;
    const REQUESTS: u64 = 200;
    Load::on("http://api:8080/loaded")
        .requests(REQUESTS)
        .run(&world, "client")
        .await?
        .nothing_lost()?;
    let sent = usize::try_from(REQUESTS)?;
    for (workload, direction, peer) in [("client", "outbound", "api"), ("api", "inbound", "client")]
    {
        let lines =
            lines_until(&world, workload, |line| line["url.path"] == "/loaded", sent).await?;
        for line in &lines {
            let expected = [
                ("event.name", "heddle.http.request"),
                ("severity", "INFO"),
                ("heddle.direction", direction),
                ("heddle.tls", "mtls"),
                ("http.request.method", "GET"),
                ("network.protocol.version", "1.1"),
                ("server.address", "api"),
            ];
            for (name, value) in expected {
                ensure!(line[name] == value, "{workload}: {name} of {line}");
            }
            let identity = format!("spiffe://cluster.local/ns/default/sa/{peer}");
            ensure!(line["heddle.peer.identity"] == identity.as_str(), "{workload}: {line}");
            ensure!(line["http.response.status_code"] == 200, "{workload}: {line}");
            ensure!(line["http.response.body.size"].as_u64() > Some(0), "{workload}: {line}");
            let [head, whole] =
                ["heddle.head_duration", "heddle.duration"].map(|name| line[name].as_f64());
            ensure!(head > Some(0.0) && whole >= head, "{workload}: {line}");
            ensure!(line.get("error.type").is_none(), "{workload}: {line}");
        }
        if direction == "outbound" {
            let line = lines.first().context("no line")?;
            ensure!(line["heddle.service"] == "default/api:8080", "{line}");
            ensure!(line["heddle.backend"] == "default/api:8080", "{line}");
            ensure!(line["heddle.endpoint.pod"] == "api", "{line}");
            let address = world.address("api").await?.to_string();
            ensure!(line["network.peer.address"] == address.as_str(), "{line}");
        }
    }
    nothing_secret_is_told(&world, sent + 1).await?;
    connections_are_told(&world).await?;
    world.finish().await
}

/// With one request more, of which there are `sent` then at the server.
async fn nothing_secret_is_told(world: &World, sent: usize) -> Result<()> {
    // What may be secret, and what would forge a line.
    const AGENT: &str = "curl\" 200 \\n{}";
    let agent = &format!("user-agent: {AGENT}");
    let headers = ["--header", "authorization: Bearer sesame", "--header", "cookie: sesame"];
    let asked = ["--header", agent, "--data", "sesame", "http://api:8080/asked?token=sesame"];
    world.curl("client", &[&headers[..], &asked].concat()).await?;
    let (status, path) = (503, "/nobody");
    let output = world.try_curl("client", &["http://empty:8080/nobody"]).await?;
    ensure!(output.code == 0, "{}", output.stderr_text());
    let line = lines_until(world, "client", |line| line["url.path"] == path, 1).await?.remove(0);
    ensure!(line["http.response.status_code"] == status, "{line}");
    ensure!(line["error.type"] == "no_endpoint" && line["severity"] == "ERROR", "{line}");
    lines_until(world, "api", |line| line["event.name"] == "heddle.http.request", sent).await?;
    for workload in ["client", "api"] {
        let text = std::fs::read_to_string(log(world, workload))?;
        ensure!(!text.contains("sesame"), "{workload}: {text}");
        let asked = |line: &Value| line["url.path"] == "/asked";
        let line = lines_until(world, workload, asked, 1).await?.remove(0);
        ensure!(line["user_agent.original"] == AGENT, "{workload}: {line}");
        ensure!(line["http.request.body.size"] == 6, "{workload}: {line}");
    }
    Ok(())
}

async fn connections_are_told(world: &World) -> Result<()> {
    // A connection that carries bytes, and one that goes nowhere.
    let said = b"one\ntwo\n".to_vec();
    let heard = world.run_with_input("client", &tcp_client("tcp", 9000), said.clone()).await?;
    ensure!(heard.code == 0, "{}", heard.stderr_text());
    let carried = |line: &Value| {
        line["event.name"] == "heddle.tcp.connection" && line["heddle.outcome"] == "completed"
    };
    for (workload, peer) in [("client", "api"), ("api", "client")] {
        let line = lines_until(world, workload, carried, 1).await?.remove(0);
        ensure!(line["heddle.bytes.to_server"] == said.len(), "{workload}: {line}");
        ensure!(line["heddle.bytes.to_client"] == heard.stdout.len(), "{workload}: {line}");
        ensure!(line["server.port"] == 9000, "{workload}: {line}");
        let identity = format!("spiffe://cluster.local/ns/default/sa/{peer}");
        ensure!(line["heddle.peer.identity"] == identity.as_str(), "{workload}: {line}");
        ensure!(line["client.address"].is_string(), "{workload}: {line}");
    }
    // One address: where the first connection is reset before curl has looked at it, it tries the other.
    world.try_curl("client", &["--ipv4", "http://api:81/"]).await?;
    let refused = |line: &Value| line["heddle.outcome"] == "refused";
    let line = lines_until(world, "client", refused, 1).await?.remove(0);
    ensure!(line["error.type"] == "refused" && line["server.port"] == 81, "{line}");
    ensure!(line["error.message"].as_str().is_some_and(|text| text.contains("81")), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_strict_workload_tells_who_was_refused() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world =
        world("access-log-strict", &["--access-log=errors", "--access-log-format=json"]).await?;
    let address = world.address("strict").await?;
    let outsider = world.address("outsider").await?.to_string();
    world.try_curl("outsider", &[&format!("http://{address}:8080/")]).await?;
    let refused = |line: &Value| line["heddle.outcome"] == "refused";
    let line = lines_until(&world, "strict", refused, 1).await?.remove(0);
    ensure!(line["error.type"] == "plaintext", "{line}");
    ensure!(line["client.address"] == outsider.as_str(), "{line}");
    ensure!(line["heddle.direction"] == "inbound" && line["server.port"] == 8080, "{line}");
    world.finish().await
}

#[tokio::test]
async fn it_is_switched_while_requests_go_on_and_none_is_lost() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = world("access-log-live", &[]).await?;
    let uid = world.pod_uid("client").await?;
    let load = Load::on("http://api:8080/loaded").rate(100).connections(4).seconds(10);
    let switching = async {
        ensure!(lines(&world, "client")?.is_empty(), "there are lines, and nobody asked for any");
        for turn in 0..3 {
            let path = |mode: &str| format!("/{mode}-{turn}");
            switch(&world, "all").await?;
            world.curl("client", &[&format!("http://api:8080{}", path("all"))]).await?;
            lines_until(&world, "client", |line| line["url.path"] == path("all").as_str(), 1)
                .await?;
            switch(&world, "off").await?;
            world.curl("client", &[&format!("http://api:8080{}", path("off"))]).await?;
        }
        Ok(())
    };
    let (report, switched) = tokio::join!(load.run(&world, "client"), switching);
    report?.nothing_lost()?;
    switched?;

    // Exactly what is asked for, from when on the proxy has acknowledged it.
    for (mode, expected) in [("off", [0, 0]), ("errors", [0, 1]), ("all", [20, 1])] {
        let before = lines(&world, "client")?.len();
        switch(&world, mode).await?;
        Load::on("http://api:8080/").requests(20).run(&world, "client").await?.nothing_lost()?;
        world.try_curl("client", &["http://empty:8080/"]).await?;
        // One that is sure to be told of comes after all others.
        switch(&world, "all").await?;
        let last = format!("/last-{mode}");
        world.curl("client", &[&format!("http://api:8080{last}")]).await?;
        lines_until(&world, "client", |line| line["url.path"] == last.as_str(), 1).await?;
        wait::until("as many lines as are asked for", Duration::from_secs(20), async || {
            let told = lines(&world, "client")?.split_off(before);
            let with = |status: u16| {
                let is = |line: &&Value| line["http.response.status_code"] == status;
                told.iter().filter(is).filter(|line| line["url.path"] == "/").count()
            };
            ensure!([with(200), with(503)] == expected, "{mode}: {told:?}");
            Ok(())
        })
        .await?;
    }
    let told = lines(&world, "client")?;
    let is_off =
        |line: &&Value| line["url.path"].as_str().is_some_and(|path| path.starts_with("/off"));
    ensure!(!told.iter().any(|line| is_off(&line)), "a line was written while the log was off");

    // What cannot be read changes nothing, and is said.
    world.write("client.yaml", &client(Some("everything")))?;
    wait::until("it is said", Duration::from_secs(10), async || {
        let complaints = Status::read(&world).await?.complaints().join("\n");
        ensure!(complaints.contains("heddle.dev/access-log: \"everything\""), "{complaints}");
        Ok(())
    })
    .await?;
    world.curl("client", &["http://api:8080/still"]).await?;
    lines_until(&world, "client", |line| line["url.path"] == "/still", 1).await?;
    ensure!(world.pod_uid("client").await? == uid, "the pod was made anew");
    world.finish().await
}

#[tokio::test]
async fn where_nobody_reads_requests_go_on_and_what_is_left_out_is_counted() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world =
        world("access-log-unread", &["--access-log=all", "--access-log-format=json"]).await?;
    // The proxy's outputs become a pipe that nobody reads.
    world.mesh()?.stop(Target::Proxy("client".to_owned()), Signal::Kill).await?;
    let path = log(&world, "client");
    wait::until("the proxy has ended", Duration::from_secs(40), async || {
        let status = world.mesh()?.status().await?;
        let workload = status.workload("client").context("no client")?;
        let text = format!("{workload:?}");
        ensure!(text.contains("stopped"), "{text}");
        Ok(())
    })
    .await?;
    std::fs::remove_file(&path)?;
    let mut command = tokio::process::Command::new("mkfifo");
    command.arg(&path);
    let made = program::finish(command, Duration::from_secs(10)).await?;
    ensure!(made.code == Some(0), "{}", made.stderr);
    // Both ends, so that neither waits for the other to be opened.
    let pipe = File::options().read(true).write(true).open(&path)?;
    world.mesh()?.start_again(Target::Proxy("client".to_owned())).await?;
    wait::until("the proxy is there again", Duration::from_secs(30), async || {
        Metrics::of(&world, "client").await.map(drop)
    })
    .await?;
    // Nobody else is to wait for this pipe, whatever becomes of the test.
    std::fs::remove_file(&path)?;
    let waiting = world.mesh()?.wait_ready(Duration::from_secs(30)).await?;
    ensure!(waiting.is_empty(), "{waiting:?}");

    const REQUESTS: u64 = 8000;
    let load = Load::on("http://api:8080/").requests(REQUESTS).connections(8);
    load.run(&world, "client").await?.nothing_lost()?;
    let of = async |outcome: &str| -> Result<u64> {
        let metrics = Metrics::of(&world, "client").await?;
        let count = metrics.require("heddle_access_log_lines_total", &[("outcome", outcome)])?;
        Ok(format!("{count}").parse()?)
    };
    wait::until("all requests are over", Duration::from_secs(10), async || {
        let metrics = Metrics::of(&world, "client").await?;
        let active = metrics.sum("heddle_http_active_requests", &[("direction", "outbound")]);
        ensure!(active < 0.5, "{active} are under way");
        Ok(())
    })
    .await?;
    let dropped = of("dropped").await?;
    ensure!(dropped > 0, "nothing of {REQUESTS} lines is dropped");
    // What waits is two buffers of 1 MiB and what the pipe holds, of lines that are longer than this.
    const SHORTEST_LINE_BYTES: u64 = 500;
    let kept = REQUESTS - dropped;
    ensure!(kept * SHORTEST_LINE_BYTES <= 3 * 1024 * 1024, "{kept} lines wait");

    // Somebody reads after all: every line that was kept is there, whole, and the proxy says what is not.
    let (done, read) = tokio::sync::oneshot::channel();
    // A thread of its own: one of the runtime's would hold up the end of a test that has failed.
    std::thread::spawn(move || drop(done.send(read_lines(pipe, kept))));
    tokio::time::timeout(Duration::from_secs(60), read).await???;
    wait::until("the rest is written", Duration::from_secs(30), async || {
        let written = of("written").await?;
        ensure!(written == kept, "{written} of {kept}");
        Ok(())
    })
    .await?;
    ensure!(of("dropped").await? == dropped, "more was dropped");
    world.finish().await
}

/// Reads until so many lines were there, and it was said that there are not all.
fn read_lines(pipe: File, count: u64) -> Result<()> {
    let (mut told, mut is_said) = (0, false);
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        if line.starts_with('{') {
            serde_json::from_str::<Value>(&line).with_context(|| line.clone())?;
            told += 1;
        }
        is_said |= line.contains("access log lines dropped");
        if told >= count && is_said {
            return Ok(());
        }
    }
    Ok(())
}

async fn world(name: &str, proxies: &[&str]) -> Result<World> {
    let api = Pod::new("api").command(&both()).port(8080).port(9000);
    let strict = Pod::new("strict").command(&echo_http(8080, "strict")).port(8080).strict();
    let services = [
        Service::new("api").port_speaking(8080, 8080, "http"),
        Service::new("tcp").selector("app", "api").port(9000, 9000),
        Service::new("empty").selector("app", "nobody").port_speaking(8080, 8080, "http"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&[api, strict, Pod::new("outsider").unmeshed()]))
        .file("client.yaml", client(None))
        .file("services.yaml", documents(&services))
        .proxies(proxies)
        .start()
        .await
}

/// An HTTP server, and beside it one that answers lines.
fn both() -> Vec<String> {
    let (http, tcp) = (echo_http(8080, "api"), echo_tcp(9000));
    let words = |command: &[String]| command.join(" ");
    let script = format!("{} & exec {}", words(&tcp), words(&http));
    ["sh", "-c", &script].map(ToOwned::to_owned).to_vec()
}

fn client(access_log: Option<&str>) -> String {
    let pod = Pod::new("client");
    match access_log {
        None => pod.to_string(),
        Some(mode) => {
            let pod = pod.annotation("heddle.dev/access-log-format", "json");
            pod.annotation("heddle.dev/access-log", mode).to_string()
        }
    }
}

/// Returns when the client's proxy does as it is told; at once if it is told what it does already.
async fn switch(world: &World, mode: &str) -> Result<()> {
    let wanted = client(Some(mode));
    if std::fs::read_to_string(world.path("manifests").join("client.yaml"))? == wanted {
        return Ok(());
    }
    acknowledged_by(world, "client", async { world.write("client.yaml", &wanted) }).await
}

fn log(world: &World, workload: &str) -> PathBuf {
    world.state_directory().join("logs").join(format!("default_{workload}_proxy.log"))
}

/// All lines of the access log; what the proxy logs of itself is in the same file.
fn lines(world: &World, workload: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log(world, workload))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Waits until there are so many of a kind, and no more.
async fn lines_until(
    world: &World,
    workload: &str,
    is_one: impl Fn(&Value) -> bool,
    count: usize,
) -> Result<Vec<Value>> {
    wait::until("the lines are there", Duration::from_secs(20), async || {
        let found: Vec<Value> = lines(world, workload)?.into_iter().filter(&is_one).collect();
        ensure!(
            found.len() == count,
            "{workload}: {} lines and not {count}: {found:?}",
            found.len()
        );
        Ok(found)
    })
    .await
}
