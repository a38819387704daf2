//! What is nobody's business but the applications' and the mesh's own is in nothing that people read: no log, not even of
//! the level `trace`, no metric, no dump, and nothing that a collector is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{grpc, secretive_http};
use heddle_tests::collector::{self, Collector, GRPC_PORT};
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

/// In everything that is secret here. The parts after it say which secret it was.
const NEEDLE: &str = "hunter2q7";
/// The same as it is in the header of a name and password: of `user:hunter2q7-basic`, from the middle.
const BASIC_NEEDLE: &str = "podW50ZXIycTctYmFzaWM";

#[tokio::test]
async fn no_secret_is_in_what_people_read() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let world = secretive(&collector).await?;
    good_and_bad_requests(&world).await?;
    wait::until("the collector is told", Duration::from_secs(60), async || {
        let received = collector.metrics()?;
        let bad = [("http.response.status_code", "500")];
        let told = received.count("http.server.request.duration", "web", &bad)?;
        ensure!(told > 0, "nothing was told of what failed");
        ensure!(!collector.spans()?.is_empty(), "no span was told of");
        ensure!(!collector.records()?.is_empty(), "no record of a log was told of");
        Ok(())
    })
    .await?;
    let secrets = secrets(&world).await?;
    // The control experiment: the applications were told what is looked for, so that it went through all proxies.
    let logs = logs(&world, true)?;
    let application = logs.get("default_web_application.log").context("no log of web")?;
    for part in TOLD {
        ensure!(application.contains(part), "web was not told {part}: {application}");
    }
    ensure!(!found(application, &secrets).is_empty(), "what is there is not found");

    let mut texts = self::logs(&world, false)?;
    ensure!(texts.values().any(|text| text.contains("TRACE")), "nothing is logged at trace");
    let is_line = |line: &str| line.contains("/good") && line.contains(" 200 ");
    let has_access_log = texts.values().any(|text| text.lines().any(is_line));
    ensure!(has_access_log, "no request is in an access log");
    texts.extend(shown(&world).await?);
    texts.insert("what the collector was sent".to_owned(), collector.text()?);
    let leaks: Vec<String> = texts
        .iter()
        .flat_map(|(name, text)| found(text, &secrets).into_iter().map(move |leak| (name, leak)))
        .map(|(name, leak)| format!("{name}: {leak}"))
        .collect();
    ensure!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    world.finish().await
}

async fn secretive(collector: &Collector) -> Result<World> {
    let pods = [
        collector.pod()?,
        Pod::new("web").command(&secretive_http(8080, NEEDLE)).port(8080),
        Pod::new("loom").command(&grpc(&["serve", "--port", "9000"])?).port(9000),
        Pod::new("client"),
    ];
    let services = [
        Collector::service(),
        Service::new("web").port_speaking(8080, 8080, "http").port(8081, 8080),
        Service::new("nobody").port_speaking(8080, 8080, "http"),
        Service::new("loom").port_speaking(9000, 9000, "kubernetes.io/h2c"),
    ];
    let secret = format!("--otel-exporter-otlp-headers=api-key={NEEDLE}-otlp-header");
    let collector = format!("--otel-exporter-otlp-endpoint=http://{}:{GRPC_PORT}", collector::NAME);
    let common = [&secret, "--otel-exporter-otlp-protocol=grpc", "--log=trace"];
    Plan::new("secrets")
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .proxies(
            &[
                &common[..],
                &[
                    &collector,
                    "--otel-metric-export-interval=300",
                    "--otel-bsp-schedule-delay=100",
                    "--otel-blrp-schedule-delay=100",
                    "--otel-traces-sampler=parentbased_always_on",
                    "--access-log=all",
                    "--access-log-format=text",
                ],
            ]
            .concat(),
        )
        // Nobody is there: why an export fails is logged, too.
        .control_plane(
            &[&common[..], &["--otel-exporter-otlp-endpoint=http://127.0.0.1:9"]].concat(),
        )
        .start()
        .await
}

/// Each carries secrets wherever a request has room for them.
async fn good_and_bad_requests(world: &World) -> Result<()> {
    let carried: Vec<String> = [
        format!("authorization: Bearer {NEEDLE}-authorization"),
        format!("cookie: session={NEEDLE}-cookie"),
        format!("x-api-key: {NEEDLE}-api-key"),
        format!("{NEEDLE}-name: of a header"),
    ]
    .into_iter()
    .flat_map(|header| ["--header".to_owned(), header])
    .collect();
    let query = format!("?token={NEEDLE}-query&password=%68unter2q7-{NEEDLE}");
    let data = format!("{NEEDLE}-request-body");
    for (case, url, more) in [
        ("a good one", format!("http://web:8080/good{query}"), &["--data", &data][..]),
        ("detected", format!("http://web:8081/good{query}"), &[]),
        ("one that fails", format!("http://web:8080/fail{query}"), &[]),
        ("one that breaks off", format!("http://web:8080/break{query}"), &[]),
        ("nobody is there", format!("http://nobody:8080/{query}"), &[]),
        ("refused", format!("http://web:8080/a/../b{query}"), &["--path-as-is"]),
        ("a name and password", format!("http://user:{NEEDLE}-basic@web:8080/good"), &[]),
        ("no such port", format!("http://web:7777/{query}"), &["--max-time", "2"]),
        ("HTTP/2", format!("http://loom:9000/{query}"), &["--http2-prior-knowledge"]),
        (
            "gRPC",
            "http://loom:9000/loom.Loom/Unary".to_owned(),
            &[
                "--http2-prior-knowledge",
                "--header",
                "content-type: application/grpc",
                "--data",
                &data,
            ],
        ),
        (
            "gRPC to nobody",
            "http://nobody:8080/loom.Loom/Unary".to_owned(),
            &[
                "--http2-prior-knowledge",
                "--header",
                "content-type: application/grpc",
                "--data",
                &data,
            ],
        ),
    ] {
        // A name and password make a header, unless there is one: the first.
        let skipped = if url.contains('@') { 2 } else { 0 };
        let arguments: Vec<&str> = carried
            .iter()
            .skip(skipped)
            .map(String::as_str)
            .chain(more.iter().copied())
            .chain([&*url])
            .collect();
        // Some are to fail; what is answered is the applications' own matter.
        world.try_curl("client", &arguments).await.context(case)?;
    }
    broken_requests(world, &query).await?;
    // And some that are not alone on their connections.
    let url = format!("http://web:8080/good{query}");
    Load::on(&url).requests(20).connections(2).run(world, "client").await?;
    Ok(())
}

/// What no client that means well sends.
async fn broken_requests(world: &World, query: &str) -> Result<()> {
    for (case, request) in [
        (
            "no header at all",
            format!("GET /{query} HTTP/1.1\r\nHost: web\r\n{NEEDLE}-broken\r\n\r\n"),
        ),
        ("a bad request line", format!("GET /{query} {NEEDLE} HTTP/1.1\r\n\r\n")),
        (
            "two lengths",
            format!(
                "POST /{query} HTTP/1.1\r\nHost: web\r\nCookie: {NEEDLE}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            ),
        ),
        (
            "absolute",
            format!(
                "GET http://user:{NEEDLE}@web/{query} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
            ),
        ),
        ("no HTTP", format!("AUTH {NEEDLE}\r\n")),
    ] {
        for port in [8080, 8081] {
            let talk = format!("exec 3<>/dev/tcp/web/{port}; cat >&3; timeout 2 cat <&3");
            let talk = ["bash", "-c", &talk];
            world
                .run_with_input("client", &talk, request.clone().into_bytes())
                .await
                .context(case)?;
        }
    }
    Ok(())
}

/// Everything that is looked for, with what it is.
async fn secrets(world: &World) -> Result<BTreeMap<String, String>> {
    let mut secrets = BTreeMap::from([
        (NEEDLE.to_owned(), "planted".to_owned()),
        (BASIC_NEEDLE.to_owned(), "a password".to_owned()),
    ]);
    let state = world.state_directory();
    for workload in MESHED {
        let uid = world.pod_uid(workload).await?;
        let token = std::fs::read_to_string(state.join("workloads").join(uid).join("token"))?;
        ensure!(token.trim().len() > 20, "{workload} has no token");
        secrets.insert(token.trim().to_owned(), format!("the token of {workload}"));
    }
    for entry in std::fs::read_dir(state.join("control-plane"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let name = format!("a private key of {}", path.display());
        let mut is_key = false;
        for line in text.lines() {
            match line.starts_with("-----") {
                true => is_key = line.contains("BEGIN") && line.contains("PRIVATE KEY"),
                // The first line of each key is of the same kind and curve.
                false if is_key && line.len() > 20 => {
                    let (_, inmost) = line.split_at(line.len() - 20);
                    secrets.insert(inmost.to_owned(), name.clone());
                }
                false => {}
            }
        }
    }
    let keys = secrets.values().filter(|name| name.contains("private key")).count();
    ensure!(keys >= 2, "only {keys} lines of private keys");
    Ok(secrets)
}

fn found(text: &str, secrets: &BTreeMap<String, String>) -> Vec<String> {
    let mut leaks = Vec::new();
    for line in text.lines() {
        for (secret, name) in secrets.iter().filter(|(secret, _)| line.contains(&***secret)) {
            let index = line.find(&**secret).unwrap_or_default();
            let around = line.get(index.saturating_sub(200)..).unwrap_or(line);
            let around: String = around.chars().take(300).collect();
            let whose: String = line.chars().take(120).collect();
            leaks.push(format!("{name}: {whose} … {around}"));
        }
    }
    leaks
}

/// The logs of everything, by file; those of applications, which say what they like, only if asked for.
fn logs(world: &World, with_applications: bool) -> Result<BTreeMap<String, String>> {
    let mut logs = BTreeMap::new();
    for entry in std::fs::read_dir(world.state_directory().join("logs"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if with_applications || !name.ends_with("_application.log") {
            logs.insert(name, read(&path)?);
        }
    }
    ensure!(logs.len() > MESHED.len(), "only these logs: {:?}", logs.keys());
    Ok(logs)
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// What the mesh shows when it is asked.
async fn shown(world: &World) -> Result<BTreeMap<String, String>> {
    let mut shown = BTreeMap::new();
    for workload in MESHED {
        let metrics = Metrics::of(world, workload).await?;
        shown.insert(format!("metrics of {workload}"), metrics.text().to_owned());
    }
    let metrics = Metrics::of_control_plane(world).await?;
    shown.insert("metrics of the control plane".to_owned(), metrics.text().to_owned());
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    for command in [
        &["proxy", "config", "client"][..],
        &["proxy", "config", "web"],
        &["proxy", "status"],
        &["status"],
        &["identity"],
        &["stat", "svc"],
        &["stat", "pod"],
        &["edges"],
        &["routes"],
    ] {
        for output in ["table", "json"] {
            let options = ["--admin-socket", &socket, "--output", output];
            let said = program::meshctl(&[command, &options].concat()).await?;
            let text = format!("{}{}", said.stdout, said.stderr);
            ensure!(text.len() > 20, "meshctl {command:?} says nothing: {text}");
            shown.insert(format!("meshctl {command:?} in {output}"), text);
        }
    }
    Ok(shown)
}

const MESHED: [&str; 3] = ["web", "loom", "client"];
/// What the application must have been told for the search to mean anything.
const TOLD: [&str; 6] = [
    "hunter2q7-authorization",
    "hunter2q7-cookie",
    "hunter2q7-api-key",
    "hunter2q7-query",
    "hunter2q7-request-body",
    BASIC_NEEDLE,
];
