//! What `install/observability` asks for is there: in the scrapes of a real mesh, and in a real Prometheus under load.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::BRIDGE;
use heddle_telemetry::prometheus::{self, Sample};
use heddle_tests::applications::echo_http;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::{ADMIN_PORT, Metrics};
use heddle_tests::observability::catalog::Catalog;
use heddle_tests::observability::queries;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::scrape::{self, Target};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};
use tempfile::TempDir;

#[tokio::test]
async fn every_metric_and_label_that_is_asked_for_is_in_a_real_scrape() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = shop("scrape", None).await?;
    let all = queries::all()?;
    // A series is there once something was counted: some of it takes a moment, such as a connection that is idle.
    wait::until("all of it is counted", Duration::from_secs(60), async || {
        everything_happens(&world).await?;
        let mut catalog = scraped(&world).await?;
        catalog.extend(of_injector()?);
        catalog.extend(of_kubernetes()?);
        let wrong = queries::wrong(&all, &catalog.scraped());
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn a_prometheus_has_the_counts_of_the_load_and_every_rule_and_panel_is_evaluated()
-> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Prometheus])? {
        return Ok(());
    }
    let files = tempfile::Builder::new().prefix("hd-").tempdir()?;
    let world = shop("prometheus", Some(&files)).await?;
    write_targets(&world, &files, &MESHED).await?;
    wait::until("all are scraped", Duration::from_secs(60), async || {
        let up = query(&world, "count by (job) (up == 1)").await?;
        ensure!(value(&up, "job", "heddle-control-plane")? == 1.0, "{up}");
        ensure!(value(&up, "job", "heddle-proxy")? == MESHED.len() as f64, "{up}");
        Ok(())
    })
    .await?;
    let counted = [("direction", "inbound"), ("status", "200"), ("tls", "mtls")];
    let before = Metrics::of(&world, "api-1").await?.sum("heddle_http_requests_total", &counted);
    let load = Load::on("http://api:8080/").requests(LOAD).rate(400).connections(4);
    let report = load.run(&world, "client").await?;
    report.nothing_lost()?;
    let expected = before + report.succeeded as f64;
    let successes = "sum by (workload) (heddle_http_requests_total{direction=\"inbound\", workload=\"api\", status=\"200\"})";
    wait::until("the counts agree", Duration::from_secs(60), async || {
        let found = value(&query(&world, successes).await?, "workload", "api")?;
        ensure!(found == expected, "{found} are counted, and {expected} succeeded");
        Ok(())
    })
    .await?;
    wait::until("rules have recorded", Duration::from_secs(60), async || {
        let found = query(&world, "namespace_workload:heddle_http_success:ratio_rate5m").await?;
        ensure!(value(&found, "workload", "api")? == 1.0, "{found}");
        let found = query(&world, "service:heddle_http_requests:rate5m").await?;
        ensure!(value(&found, "service", "default/api:8080")? > 0.0, "{found}");
        Ok(())
    })
    .await?;
    only_what_is_to_be_scraped_is(&world).await?;
    every_rule_is_well(&world).await?;
    for asked in queries::all()? {
        query(&world, &asked.expression).await.with_context(|| asked.place.clone())?;
    }
    world.finish().await
}

/// What can agree, and what cannot. Counts are the same counters, read by two ways: they are equal once both have read
/// them after the load's end, and so are the success rate and the requests per second of a window that the whole load is
/// in. PromQL's `rate` is not asked: it leaves out what came before a series' first sample, and guesses at the ends of its
/// window. A percentile is of exponential buckets for `stat` (eight for each doubling: within 5 %), and of fourteen
/// buckets in Prometheus, between whose bounds it draws a line: the two can only be in the same one of the fourteen.
/// What is known without either is what the load has waited: a sixth of all answers at least `SLOW_SECONDS`, and none
/// longer than the longest.
#[tokio::test]
async fn stat_and_promql_and_the_load_itself_agree() -> Result<()> {
    if requirements::skip(&[Tool::Python, Tool::Prometheus])? {
        return Ok(());
    }
    let files = tempfile::Builder::new().prefix("hd-").tempdir()?;
    let world = half_broken(&files).await?;
    write_targets(&world, &files, &["client"]).await?;
    let quick = Load::on("http://mixed:8080/").requests(1000).connections(4);
    let slow = format!("http://mixed:8080/slow?{SLOW_SECONDS}");
    let slow = Load::on(&slow).requests(250).connections(25);
    let reports = [quick.run(&world, "client").await?, slow.run(&world, "client").await?];
    let sent: u64 = reports.iter().map(|report| report.sent).sum();
    let failed: u64 = reports.iter().map(|report| report.failed).sum();
    ensure!(sent == 1250 && failed > 0 && failed < 400, "no load to compare with: {reports:?}");
    let row = wait::until("stat has the load's counts", Duration::from_secs(60), async || {
        let said = stat(&world).await?;
        ensure!(said["rows"][0]["requests"] == sent, "{sent} were sent: {said}");
        Ok(said)
    })
    .await?;
    let covered = row["covered_seconds"].as_f64().context("no time")?;
    let told_at = tokio::time::Instant::now();
    let row = &row["rows"][0];
    ensure!(row["failures"] == failed, "{failed} failed: {row}");
    let all = "heddle_http_requests_total{direction=\"outbound\",service=\"default/mixed:8080\"}";
    wait::until("Prometheus has the load's counts", Duration::from_secs(60), async || {
        let found = scalar(&world, &format!("sum({all})")).await?;
        ensure!(found == sent as f64, "{found} are counted, and {sent} were sent");
        Ok(())
    })
    .await?;
    let good = all.replace('}', ",status!~\"5..\"}");
    let share = scalar(&world, &format!("sum({good}) / sum({all})")).await?;
    let told = row["success_rate"].as_f64().context("no rate")?;
    agree("success", [share, told, (sent - failed) as f64 / sent as f64])?;
    // To where the window of `stat` begins, from now on.
    let since = covered + told_at.elapsed().as_secs_f64();
    let before = format!("(sum({all} offset {:.0}ms) or vector(0))", since * 1000.0);
    let rate = scalar(&world, &format!("(sum({all}) - {before}) / {covered}")).await?;
    let told = row["requests_per_second"].as_f64().context("no rate")?;
    agree("requests per second", [rate, told, sent as f64 / covered])?;
    let buckets = all.replace("requests_total", "request_duration_seconds_bucket");
    let p95 = scalar(&world, &format!("histogram_quantile(0.95, sum by (le) ({buckets}))")).await?;
    let told = row["latency_seconds"]["p95"].as_f64().context("no p95")?;
    let longest = reports.iter().filter_map(|report| report.latency_ms.longest).fold(0.0, f64::max);
    let waited = SLOW_SECONDS * 0.95..=longest / 1000.0 * 1.05;
    ensure!(waited.contains(&told), "p95 of {told} s, and {waited:?} was waited");
    let bounds = query(&world, &format!("count by (le) ({buckets})")).await?;
    let bucket = bucket_of(&bounds, p95)?;
    let near = bucket.start * 0.95..=bucket.end * 1.05;
    ensure!(
        near.contains(&told),
        "p95 is {told} s for stat, and {p95} s, in {bucket:?}, for PromQL"
    );
    world.finish().await
}

/// Within one percent.
fn agree(what: &str, values: [f64; 3]) -> Result<()> {
    let [one, other, third] = values;
    let near = |other: f64| (one - other).abs() <= one.abs() * 0.01;
    ensure!(near(other) && near(third), "{what}: PromQL, stat and the load have {values:?}");
    Ok(())
}

/// The bucket of a histogram that a value is in.
fn bucket_of(series: &Value, value: f64) -> Result<std::ops::Range<f64>> {
    let all = series.as_array().context("no list")?;
    let bounds = all.iter().filter_map(|one| one["metric"]["le"].as_str());
    let mut bounds: Vec<f64> = bounds.filter_map(|bound| bound.parse().ok()).collect();
    bounds.sort_by(f64::total_cmp);
    let end = bounds.iter().copied().find(|bound| *bound >= value).context("beyond all")?;
    let start = bounds.iter().copied().rfind(|bound| *bound < end).unwrap_or(0.0);
    Ok(start..end)
}

/// A service that sends a tenth of its requests to where they fail.
async fn half_broken(files: &TempDir) -> Result<World> {
    let command = ["meshctl", "shop", "api", "--listen", "8080", "--store", "store:9999"];
    let broken = Pod::new("broken").command(&command).port(8080);
    let echo = Pod::new("echo").command(&echo_http(8080, "echo")).port(8080);
    let services = [
        Service::new("store").port(9999, 9999),
        Service::new("echo").port_speaking(8080, 8080, "http"),
        Service::new("broken").port_speaking(8080, 8080, "http"),
        Service::new("mixed").port_speaking(8080, 8080, "http"),
    ];
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 8080, "weight": weight});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "mixed"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "mixed"}],
            "rules": [{"backendRefs": [backend("echo", 9), backend("broken", 1)]}],
        },
    });
    let pods = [broken, echo, Pod::new("client"), prometheus_in(files)?];
    Plan::new("agreement")
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .file("route.yaml", documents(&[route]))
        .start()
        .await
}

/// Of the service that is half broken, over ten minutes, so that nothing grows too old on a slow machine.
async fn stat(world: &World) -> Result<Value> {
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let arguments = ["stat", "svc/mixed", "--window", "10m", "--output", "json"];
    let said = program::meshctl(&[&arguments[..], &["--admin-socket", &socket]].concat()).await?;
    serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))
}

async fn shop(name: &str, prometheus: Option<&TempDir>) -> Result<World> {
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let api = |name: &str, app: &str, store: &str| {
        let command = ["meshctl", "shop", "api", "--listen", "8080", "--version", "v1", "--store"];
        Pod::new(name).label("app", app).command(&[&command[..], &[store]].concat()).port(8080)
    };
    let mut pods = vec![
        store,
        api("api-1", "api", "store:9000"),
        // Nobody listens there: they answer with 502.
        api("broken-1", "broken", "store:9999"),
        api("broken-2", "broken", "store:9999"),
        Pod::new("client"),
    ];
    if let Some(files) = prometheus {
        pods.push(prometheus_in(files)?);
    }
    let services = [
        Service::new("store").port(9000, 9000),
        Service::new("api").port_speaking(8080, 8080, "http"),
        Service::new("broken").port_speaking(8080, 8080, "http"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .file("routes.yaml", documents(&routes()))
        .proxies(&["--outbound-idle-timeout=1s", "--telemetry-interval=1s"])
        // Nobody is there.
        .control_plane(&["--otel-exporter-otlp-endpoint=http://127.0.0.1:9"])
        .start()
        .await
}

/// Copies of what api gets go to broken, which is asked again when it fails, and then left out.
fn routes() -> [Value; 3] {
    let route = |name: &str, rule: Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": name}], "rules": [rule]},
        })
    };
    let backend = |name: &str| json!({"name": name, "port": 8080});
    [
        route(
            "api",
            json!({
                "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": backend("broken")}}],
                "backendRefs": [backend("api")],
            }),
        ),
        route(
            "broken",
            json!({
                "retry": {"attempts": 1, "codes": [502], "backoff": "1ms"},
                "backendRefs": [backend("broken")],
            }),
        ),
        json!({
            "apiVersion": "heddle.dev/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": "broken"},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "broken"}],
                "outlierDetection": {"consecutiveResponses": 2, "baseEjectionTime": "60s"},
            },
        }),
    ]
}

/// Something of each kind that is counted.
async fn everything_happens(world: &World) -> Result<()> {
    Load::on("http://api:8080/").requests(20).run(world, "client").await?.nothing_lost()?;
    for (arguments, status) in [
        (&["http://broken:8080/"][..], "502"),
        // The gate refuses to guess what this is.
        (&["--path-as-is", "http://api:8080/a/../b"], "400"),
    ] {
        for _ in 0..4 {
            let fixed = ["--output", "/dev/null", "--write-out", "%{http_code}"];
            let said = world.curl("client", &[&fixed[..], arguments].concat()).await?;
            ensure!(said == status, "{arguments:?}: {said}");
        }
    }
    // A port that the service does not have.
    let refused = world.try_curl("client", &["http://api:9999/"]).await?;
    ensure!(refused.code != 0, "an undefined port was served");
    // A connection without a request is closed by the proxy in the end.
    let idle = "exec 3<>/dev/tcp/api/8080; printf 'GET / HTTP/1.1\\r\\nHost: api\\r\\n\\r\\n' >&3; cat <&3 >/dev/null";
    world.ask("client", &["bash", "-c", idle]).await?;
    Ok(())
}

async fn scraped(world: &World) -> Result<Catalog> {
    let mut text = String::new();
    for workload in MESHED {
        let answer = world.mesh()?.http_get(workload, ADMIN_PORT, "/metrics").await?;
        ensure!(answer.status == 200, "/metrics of {workload} answers {}", answer.status);
        text.push_str(&answer.text());
    }
    let url = format!("http://127.0.0.1:{CONTROL_PLANE_METRICS_PORT}/metrics");
    text.push_str(&world.curl(BRIDGE, &[&url]).await?);
    catalog(&text)
}

fn catalog(text: &str) -> Result<Catalog> {
    let samples: Vec<Sample> = prometheus::parse(text)?;
    Ok(Catalog::of_series(samples.iter().map(|sample| (sample.name.as_str(), &sample.labels))))
}

/// The injector needs an API server; its own metrics show without one what they are called.
fn of_injector() -> Result<Catalog> {
    let metrics = heddle_injector::metrics::Metrics::default();
    metrics.count_unanswered("slow");
    metrics.set_pods("missing", 1);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    catalog(&text)
}

/// Nobody watches an API server here; the control plane's own metrics show what it says of that.
fn of_kubernetes() -> Result<Catalog> {
    let metrics = heddle_control_plane::metrics::Metrics::default();
    metrics.watch_failing("Pod").set(1);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    let watches: Vec<&str> = text.lines().filter(|line| line.contains("watch_failing")).collect();
    catalog(&(watches.join("\n") + "\n"))
}

/// A Prometheus that scrapes every second; its targets come later, when their addresses are known.
fn prometheus_in(files: &TempDir) -> Result<Pod> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut configuration = scrape::from_files(&files.path().join("targets"))?;
    configuration["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
    let file = files.path().join("prometheus.yaml");
    std::fs::write(&file, configuration.to_string())?;
    std::fs::write(files.path().join("targets.json"), "[]")?;
    let program = requirements::find("prometheus").context("no prometheus")?;
    let command = [
        program.display().to_string(),
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", files.path().join("data").display()),
        format!("--web.listen-address=0.0.0.0:{PROMETHEUS_PORT}"),
    ];
    Ok(Pod::new("prometheus").unmeshed().command(&command).port(PROMETHEUS_PORT))
}

async fn write_targets(world: &World, files: &TempDir, workloads: &[&str]) -> Result<()> {
    let mut targets = Vec::new();
    for &workload in workloads {
        let address = world.address(workload).await?;
        let (app, number) = workload.rsplit_once('-').unwrap_or((workload, ""));
        let set = format!("{app}-5c9b7f{number}");
        targets.push(Target {
            address: format!("{address}:{ADMIN_PORT}"),
            pod: workload.to_owned(),
            // Two are a Deployment's, the others nobody's.
            controller: (!number.is_empty()).then(|| ("ReplicaSet".to_owned(), set)),
            labels: Vec::new(),
            container: ("heddle-proxy", "heddle-admin"),
            phase: "Running",
        });
    }
    let Some(first) = targets.first().cloned() else { return Ok(()) };
    // The application's own port, and a pod that has ended: neither is to be scraped.
    targets.push(Target { container: ("application", "http"), ..first.clone() });
    targets.push(Target { phase: "Succeeded", pod: "ended".to_owned(), ..first });
    targets.push(Target {
        address: format!("{}:{CONTROL_PLANE_METRICS_PORT}", bridge(world).await?),
        pod: "heddle-control-plane-1".to_owned(),
        controller: None,
        labels: vec![
            ("app.kubernetes.io/name", "heddle"),
            ("app.kubernetes.io/component", "control-plane"),
        ],
        container: ("control-plane", "metrics"),
        phase: "Running",
    });
    let described: Vec<Value> = targets.iter().map(Target::describe).collect();
    let staged = files.path().join("staged");
    std::fs::write(&staged, Value::from(described).to_string())?;
    Ok(std::fs::rename(staged, files.path().join("targets.json"))?)
}

/// The address of the bridge, where the control plane is, as a workload knows it.
async fn bridge(world: &World) -> Result<IpAddr> {
    let routes = world.ask("prometheus", &["ip", "-4", "route", "show", "default"]).await?;
    let address = routes.split_whitespace().nth(2).with_context(|| routes.clone())?;
    Ok(address.parse()?)
}

async fn only_what_is_to_be_scraped_is(world: &World) -> Result<()> {
    let found = query(world, "up").await?;
    let series = found.as_array().context("no list")?;
    ensure!(series.len() == MESHED.len() + 1, "{found}");
    for (pod, job, workload) in [
        ("api-1", "heddle-proxy", "api"),
        ("broken-2", "heddle-proxy", "broken"),
        ("client", "heddle-proxy", "client"),
        ("heddle-control-plane-1", "heddle-control-plane", "heddle-control-plane-1"),
    ] {
        let one = series.iter().find(|one| one["metric"]["pod"] == pod);
        let labels = &one.with_context(|| format!("no {pod} in {found}"))?["metric"];
        ensure!(labels["job"] == job && labels["workload"] == workload, "{labels}");
        ensure!(labels["namespace"] == "default" && labels["node"] == "node-1", "{labels}");
    }
    Ok(())
}

async fn every_rule_is_well(world: &World) -> Result<()> {
    let answer = ask(world, "/api/v1/rules").await?;
    let groups = answer["groups"].as_array().context("no groups")?;
    let rules: Vec<&Value> =
        groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    ensure!(rules.len() == queries::rules()?.len(), "{} rules are loaded", rules.len());
    for rule in rules {
        ensure!(rule["health"] == "ok", "{rule}");
    }
    Ok(())
}

/// The series that an expression gives.
async fn query(world: &World, expression: &str) -> Result<Value> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = ask(world, &format!("/api/v1/query?query={encoded}")).await?;
    Ok(answer["result"].clone())
}

async fn ask(world: &World, path: &str) -> Result<Value> {
    let answer = world.mesh()?.http_get("prometheus", PROMETHEUS_PORT, path).await?;
    let text = answer.text();
    let said: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    ensure!(said["status"] == "success", "{text}");
    Ok(said["data"].clone())
}

/// The number that an expression gives.
async fn scalar(world: &World, expression: &str) -> Result<f64> {
    let series = query(world, expression).await?;
    let number =
        series[0]["value"][1].as_str().with_context(|| format!("{expression}: {series}"))?;
    Ok(number.parse()?)
}

/// The value of the one series with this label.
fn value(series: &Value, label: &str, wanted: &str) -> Result<f64> {
    let all = series.as_array().with_context(|| format!("no list: {series}"))?;
    let mut found = all.iter().filter(|one| one["metric"][label] == wanted);
    let one = found.next().with_context(|| format!("no {label}={wanted} in {series}"))?;
    ensure!(found.next().is_none(), "more than one {label}={wanted} in {series}");
    let number = one["value"][1].as_str().with_context(|| format!("no number in {one}"))?;
    Ok(number.parse()?)
}

const MESHED: [&str; 5] = ["store", "api-1", "broken-1", "broken-2", "client"];
const CONTROL_PLANE_METRICS_PORT: u16 = 15_290;
const PROMETHEUS_PORT: u16 = 9090;
const LOAD: u64 = 2000;
const SLOW_SECONDS: f64 = 0.3;
