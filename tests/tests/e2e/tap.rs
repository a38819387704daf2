//! What `meshctl tap` shows is what was sent, no more and no less, and never a secret; what nobody reads costs no
//! request. `meshctl trace` shows the way of one request.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::process::Proxy;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::schema;
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

const SECRET: &str = "hunter2Secret0fTheWeaver99";

/// Asks `api`, and passes on what belongs to a trace.
const RELAY: &str = "
import http.server, urllib.request
class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        passed = {name: self.headers[name] for name in ('traceparent', 'tracestate') if self.headers[name]}
        asked = urllib.request.Request('http://api:8080' + self.path, headers=passed)
        body = urllib.request.urlopen(asked).read()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(('', 8080), Relay).serve_forever()
";

async fn world(name: &str) -> Result<World> {
    let pods = [
        Pod::new("api").command(&echo_http(8080, "v1")).port(8080),
        Pod::new("web").command(&["python3", "-c", RELAY]).port(8080),
        Pod::new("client"),
    ];
    let services = [
        Service::new("api").port_speaking(8080, 8080, "http"),
        Service::new("web").port_speaking(8080, 8080, "http"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .start()
        .await
}

fn meshctl(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program::binaries()?.path("meshctl"));
    let socket = world.mesh()?.files().admin_socket();
    command.args(arguments).arg("--admin-socket").arg(socket);
    Ok(command)
}

/// `meshctl tap -o json`, and the lines that it has printed.
struct Tap {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Tap {
    async fn start(world: &World, arguments: &[&str]) -> Result<Self> {
        let mut command = meshctl(world, &[&["tap", "-o", "json"], arguments].concat())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let written = Arc::clone(&lines);
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let reader = tokio::spawn(async move {
            let mut text = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = text.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                written.lock().unwrap().push(line);
            }
        });
        let tap = Self { child, lines, reader };
        tap.looks(1).await?;
        Ok(tap)
    }

    fn of(&self, kind: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line["type"] == kind).cloned().collect()
    }

    fn paths(&self) -> Vec<String> {
        let paths = self.of("exchange").into_iter();
        paths.map(|line| line["path"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn left_out(&self) -> u64 {
        self.of("left_out").last().and_then(|line| line["left_out"].as_u64()).unwrap_or_default()
    }

    /// So many proxies look now.
    async fn looks(&self, proxies: u64) -> Result<()> {
        wait::until("proxies look for requests", Duration::from_secs(30), async || {
            let looking = self.of("looking");
            let last = looking.last().context("nothing was told yet")?;
            ensure!(last["proxies"] == proxies, "{last}");
            Ok(())
        })
        .await
    }

    /// As on Ctrl-C; the last line. All lines are as the schema has them.
    async fn end(mut self) -> Result<Value> {
        let pid = self.child.id().context("it has ended already")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await??;
        self.reader.await?;
        let lines = self.lines.lock().unwrap();
        for line in lines.iter() {
            schema::hold("tap", line)?;
        }
        lines.last().cloned().context("nothing was printed")
    }
}

#[tokio::test]
async fn two_taps_show_exactly_what_matches_each() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = world("tap").await?;
    let inbound = ["pod/api", "--direction", "inbound", "--path", "/wanted", "--rate", "1000"];
    let inbound = Tap::start(&world, &inbound).await?;
    let outbound =
        ["pod/client", "--to", "svc/api", "--status", "2xx", "--path", "/other", "--rate", "1000"];
    let outbound = Tap::start(&world, &outbound).await?;
    let elsewhere = Tap::start(&world, &["pod/web"]).await?;
    let ask = async |path: &str| {
        let url = format!("http://api:8080{path}?token={SECRET}");
        world.curl("client", &["--fail", "--output", "/dev/null", &url]).await
    };
    ask("/wanted/[1-150]").await?;
    ask("/other/[1-150]").await?;
    // What does not match would have been told before these.
    ask("/wanted/last").await?;
    ask("/other/last").await?;
    for (tap, prefix) in [(&inbound, "/wanted"), (&outbound, "/other")] {
        let mut expected: Vec<String> =
            (1..=150).map(|number| format!("{prefix}/{number}")).collect();
        expected.push(format!("{prefix}/last"));
        expected.sort();
        wait::until("all are shown", Duration::from_secs(30), async || {
            ensure!(tap.paths().len() >= expected.len(), "{}", tap.paths().len());
            Ok(())
        })
        .await?;
        let mut shown = tap.paths();
        shown.sort();
        ensure!(shown == expected, "{shown:?}");
    }
    let line = outbound.of("exchange").remove(0);
    let identity = "spiffe://cluster.local/ns/default/sa/api";
    ensure!(line["workload"]["pod"] == "client" && line["peer"] == identity, "{line}");
    ensure!(line["service"] == "default/api:8080" && line["tls"] == "mtls", "{line}");
    ensure!(line["endpoint"]["pod"] == "api" && line["status"] == 200, "{line}");
    ensure!(line["whole"] == true && line["attempts"] == 1, "{line}");
    let line = inbound.of("exchange").remove(0);
    let identity = "spiffe://cluster.local/ns/default/sa/client";
    ensure!(line["workload"]["pod"] == "api" && line["peer"] == identity, "{line}");
    let took = line["seconds"]["proxy"].as_f64().context("no time of the proxy")?;
    ensure!(
        took > 0.0 && took <= line["seconds"]["to_head"].as_f64().unwrap_or_default(),
        "{line}"
    );
    let sum = inbound.end().await?;
    ensure!(sum["type"] == "end" && sum["exchanges"] == 151 && sum["left_out"] == 0, "{sum}");
    let sum = elsewhere.end().await?;
    ensure!(sum["exchanges"] == 0 && sum["reason"] == "interrupted", "{sum}");
    world.finish().await
}

#[tokio::test]
async fn secrets_are_never_shown() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = world("tap-secrets").await?;
    let shown = ["--headers", "--show-header", "x-user", "--show-header", "x-note"];
    let tap = Tap::start(&world, &[&["pod/api"], &shown[..]].concat()).await?;
    let mut text = meshctl(&world, &["tap", "pod/client", "--headers", "--count", "1"])?;
    text.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let text = text.spawn()?;
    let planted = [
        format!("authorization: Bearer {SECRET}"),
        format!("proxy-authorization: Basic {SECRET}"),
        format!("cookie: session={SECRET}"),
        format!("x-api-key: {SECRET}"),
        format!("x-note: the key is {SECRET}"),
        format!("referer: http://shop/?token={SECRET}"),
        format!("x-anything: {SECRET}"),
        "x-user: alice".to_owned(),
    ];
    let url = format!("http://api:8080/a;jsessionid={SECRET}/b?password={SECRET}");
    let mut arguments = vec!["--output", "/dev/null", "--user-agent", SECRET, &url];
    planted.iter().for_each(|header| arguments.extend(["-H", header.as_str()]));
    // The tap in text has no other way to say that it looks.
    let said = wait::until("it is shown", Duration::from_secs(60), async || {
        world.curl("client", &arguments).await?;
        ensure!(!tap.of("exchange").is_empty(), "nothing yet");
        Ok(())
    });
    said.await?;
    let ended = async {
        let mut text = text;
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            if text.try_wait()?.is_some() {
                break;
            }
            world.curl("client", &arguments).await?;
        }
        Ok::<_, anyhow::Error>(text.wait_with_output().await?)
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await??;
    let line = tap.of("exchange").remove(0);
    ensure!(line["path"] == "/a/b", "{line}");
    let headers = &line["headers"]["request"];
    ensure!(headers["x-user"] == "alice" && headers["accept"] == "*/*", "{headers}");
    for name in ["authorization", "cookie", "x-api-key", "x-note", "user-agent", "x-anything"] {
        let is_named = headers.as_object().is_some_and(|all| all.contains_key(name));
        ensure!(is_named && headers[name].is_null(), "{name}: {headers}");
    }
    let printed = format!("{:?}", tap.lines.lock().unwrap());
    ensure!(!printed.contains(SECRET), "a secret is shown: {printed}");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    ensure!(text.contains("/a/b") && text.contains("cookie: (not shown)"), "{text}");
    ensure!(!text.contains(SECRET), "a secret is shown: {text}");
    let refused = meshctl(&world, &["tap", "--headers", "--show-header", "cookie"])?;
    let refused = program::finish(refused, Duration::from_secs(30)).await?;
    ensure!(refused.stderr.contains("no tap shows it"), "{refused:?}");
    world.finish().await
}

#[tokio::test]
async fn more_than_the_rate_is_counted_and_left_out() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = world("tap-rate").await?;
    let tap = Tap::start(&world, &["pod/api", "--rate", "5"]).await?;
    const REQUESTS: u64 = 500;
    Load::on("http://api:8080/").requests(REQUESTS).run(&world, "client").await?.nothing_lost()?;
    wait::until("all are shown or counted", Duration::from_secs(30), async || {
        let shown = u64::try_from(tap.of("exchange").len())?;
        ensure!(shown + tap.left_out() == REQUESTS, "{shown} shown, {} left out", tap.left_out());
        Ok(())
    })
    .await?;
    let sum = tap.end().await?;
    ensure!(sum["left_out"].as_u64().is_some_and(|left_out| left_out > 0), "{sum}");
    world.finish().await
}

#[tokio::test]
async fn a_reader_that_stalls_costs_no_request_and_no_memory() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world = world("tap-stalls").await?;
    let looks = Tap::start(&world, &["pod/api", "--path", "/nothing"]).await?;
    let mut stalled = meshctl(&world, &["tap", "-o", "json", "pod/api", "--rate", "1000"])?;
    stalled.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut stalled = stalled.kill_on_drop(true).spawn()?;
    // Nobody reads what it prints, until the end.
    let mut stdout = stalled.stdout.take().context("no standard output")?;
    let mut first = [0; 1];
    stdout.read_exact(&mut first).await?;
    let proxy = Proxy::of(&world, "api").await?;
    // Long, so that they are more than all that is between here and there can hold.
    let url = format!("http://api:8080/{}", "long".repeat(225));
    let load = |requests| Load::on(&url).requests(requests);
    load(500).run(&world, "client").await?.nothing_lost()?;
    let before = proxy.memory()?;
    const REQUESTS: u64 = 6000;
    load(REQUESTS).run(&world, "client").await?.nothing_lost()?;
    let after = proxy.memory()?;
    let grown_kib = after.resident_kib.saturating_sub(before.resident_kib);
    ensure!(grown_kib < 16 * 1024, "the proxy has grown by {grown_kib} KiB: {before:?}, {after:?}");
    let mut text = String::new();
    let mut lines = BufReader::new(stdout).lines();
    let read = async {
        let (mut shown, mut left_out) = (0, 0);
        // All that was sent is shown or counted.
        while shown + left_out < REQUESTS + 500 {
            text = lines.next_line().await?.context("it has ended")?;
            let line: Value = serde_json::from_str(&text).unwrap_or_default();
            shown += u64::from(line["type"] == "exchange");
            left_out = line["left_out"].as_u64().unwrap_or(left_out);
        }
        Ok::<_, anyhow::Error>((shown, left_out))
    };
    let read = tokio::time::timeout(Duration::from_secs(60), read).await;
    let (shown, left_out) = read.with_context(|| format!("not all is told: {text}"))??;
    ensure!(shown + left_out == REQUESTS + 500 && left_out > 0, "{shown} and {left_out}");
    let sum = looks.end().await?;
    ensure!(sum["exchanges"] == 0, "{sum}");
    world.finish().await
}

#[tokio::test]
async fn a_tap_goes_on_with_pods_that_come() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = world("tap-restart").await?;
    let tap = Tap::start(&world, &["svc/api", "--direction", "inbound"]).await?;
    let former = world.pod_uid("api").await?;
    let changed = [
        Pod::new("api").command(&echo_http(8080, "v2")).port(8080),
        Pod::new("web").command(&["python3", "-c", RELAY]).port(8080),
        Pod::new("client"),
    ];
    world.write("pods.yaml", &documents(&changed))?;
    wait::until("the pod is another", Duration::from_secs(60), async || {
        ensure!(world.pod_uid("api").await? != former, "it is not");
        Ok(())
    })
    .await?;
    wait::until("what the new pod gets is shown", Duration::from_secs(60), async || {
        let answer = world.curl("client", &["--include", "http://api:8080/new"]).await?;
        ensure!(answer.contains("x-shop-version: v2"), "{answer}");
        ensure!(tap.paths().iter().any(|path| path == "/new"), "{:?}", tap.paths());
        Ok(())
    })
    .await?;
    let nobody = meshctl(&world, &["tap", "deploy/nobody"])?;
    let nobody = program::finish(nobody, Duration::from_secs(30)).await?;
    ensure!(nobody.code == Some(1), "{nobody:?}");
    ensure!(nobody.stderr.contains("there is no Deployment default/nobody"), "{nobody:?}");
    world.finish().await
}

/// What `meshctl trace` says, while these requests are sent again and again.
async fn trace(world: &World, arguments: &[&str], curl: &[&str]) -> Result<Value> {
    let child = program::start(meshctl(world, &[&["trace", "-o", "json"], arguments].concat())?)?;
    let traced = async {
        // Read meanwhile: it may say more than a pipe holds.
        let mut ended = std::pin::pin!(child.wait_with_output());
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            tokio::select! {
                said = &mut ended => return Ok::<_, anyhow::Error>(said?),
                _tick = ticks.tick() => drop(world.curl("client", curl).await?),
            }
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(60), traced).await??;
    let (stdout, stderr) = (&said.stdout, String::from_utf8_lossy(&said.stderr));
    let report =
        serde_json::from_slice(stdout).with_context(|| format!("meshctl said: {stderr}"))?;
    schema::hold("trace", &report)?;
    Ok(report)
}

/// client → web → api, with both ends of each call, and nothing else.
fn is_the_way(report: &Value) -> Result<()> {
    let calls = report["calls"].as_array().context("no calls")?;
    ensure!(calls.len() == 1, "{report:#}");
    let outer = &calls[0];
    let inner = outer["calls"].as_array().context("no calls")?;
    ensure!(inner.len() == 1 && inner[0]["calls"] == Value::Array(Vec::new()), "{report:#}");
    for (call, from, to) in [(outer, "client", "web"), (&inner[0], "web", "api")] {
        let identity = |name: &str| format!("spiffe://cluster.local/ns/default/sa/{name}");
        ensure!(call["outbound"]["workload"]["pod"] == from, "{report:#}");
        ensure!(call["inbound"]["workload"]["pod"] == to, "{report:#}");
        ensure!(call["outbound"]["peer"] == identity(to), "{report:#}");
        ensure!(call["inbound"]["peer"] == identity(from), "{report:#}");
        ensure!(call["inbound"]["tls"] == "mtls" && call["inbound"]["status"] == 200, "{report:#}");
        let took = call["outbound"]["seconds"]["to_head"].as_f64().context("no time")?;
        let proxies = call["proxy_seconds"].as_f64().context("no time of proxies")?;
        ensure!(proxies > 0.0 && proxies < took, "{report:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_trace_shows_the_way_of_one_request() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = world("trace").await?;
    let url = "http://web:8080/follow";
    let begun = trace(&world, &["--path", "/follow"], &[url]).await?;
    is_the_way(&begun)?;

    // One that the application is in already is kept as it is.
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("traceparent: 00-{id}-00f067aa0ba902b7-01");
    let own = trace(&world, &["--path", "/own"], &["-H", &header, "http://web:8080/own"]).await?;
    ensure!(own["trace_id"] == id, "{own:#}");
    let named = trace(&world, &[id], &["-H", &header, "http://web:8080/named"]).await?;
    ensure!(named["trace_id"] == id, "{named:#}");

    // Nobody follows any more: nothing is added.
    let answer = world.curl("client", &["http://api:8080/"]).await?;
    ensure!(!answer.to_lowercase().contains("traceparent"), "{answer}");
    world.finish().await
}
