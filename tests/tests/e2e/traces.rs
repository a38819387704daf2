//! A trace crosses the mesh: each proxy adds its span, and applications go on from it. What does not belong
//! to a trace is left as it is.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{self, echo_http};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_trace_of_an_application_crosses_all_proxies_with_the_right_parents() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world =
        shop("traces", &["--otel-exporter-otlp-traces-endpoint=http://collector:4318/v1/traces"])
            .await?;
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    let ask = ["-H", &parent, "-H", "tracestate: a=1", "http://frontend:8080/?secret=1"];
    world.curl("client", &ask).await?;
    let spans = spans_of(&world, TRACE, 4).await?;
    let [client, frontend_in, frontend_out, api] =
        [("client", CLIENT), ("frontend", SERVER), ("frontend", CLIENT), ("api", SERVER)].map(
            |(pod, kind)| {
                let is_it =
                    |span: &&Value| span["resource"]["k8s.pod.name"] == pod && span["kind"] == kind;
                spans.iter().find(is_it).cloned().unwrap_or_default()
            },
        );
    let mut before = json!(SPAN);
    for span in [&client, &frontend_in, &frontend_out, &api] {
        ensure!(span["parent"] == before, "{span}\nafter {before}");
        before = span["span"].clone();
    }
    for (span, wanted) in [
        (
            &client,
            json!({
                "heddle.peer.identity": identity("frontend"), "heddle.service": "default/frontend:8080",
                "heddle.backend": "default/frontend:8080", "heddle.backend.pod": "frontend",
                "server.address": "frontend", "server.port": 8080, "url.full": "http://frontend:8080/",
            }),
        ),
        (&frontend_in, json!({"heddle.peer.identity": identity("client"), "url.path": "/"})),
        (
            &frontend_out,
            json!({
                "heddle.peer.identity": identity("api"), "heddle.service": "default/api:8080",
                "heddle.backend": "default/api:8080", "heddle.route": "to-api",
            }),
        ),
        (&api, json!({"heddle.peer.identity": identity("frontend"), "server.address": "api"})),
    ] {
        let common = json!({
            "heddle.tls": "mtls", "http.request.method": "GET", "http.response.status_code": 200,
            "url.scheme": "http", "network.protocol.version": "1.1",
        });
        for (key, value) in [&wanted, &common].into_iter().flat_map(|all| all.as_object()).flatten()
        {
            ensure!(span["attributes"][key] == *value, "{key}: want {value} in {span}");
        }
        ensure!(span["is_error"] == false, "{span}");
        ensure!(span["state"] == "a=1", "what others keep beside the trace: {span}");
    }
    ensure!(frontend_out["name"] == "GET to-api" && api["name"] == "GET", "{frontend_out} {api}");
    for pair in [&client, &frontend_in, &frontend_out, &api].windows(2) {
        let times = |key: &str| (pair[0][key].as_u64(), pair[1][key].as_u64());
        let ((outer, inner), (outer_end, inner_end)) = (times("start"), times("end"));
        ensure!(outer <= inner && inner_end <= outer_end, "one is within the other: {pair:?}");
    }
    ensure!(!json!(spans).to_string().contains("secret"), "a query is in a span");
    world.finish().await
}

#[tokio::test]
async fn applications_see_the_context_that_they_are_to_go_on_from() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let grpc = [
        "--otel-exporter-otlp-endpoint=http://collector:4317",
        "--otel-exporter-otlp-protocol=grpc",
    ];
    let world = shop("contexts", &grpc).await?;
    let b3 = format!("b3: {TRACE}-{SPAN}-1");
    let seen = seen(&world, &[&b3]).await?;
    let spans = spans_of(&world, TRACE, 2).await?;
    let find = |kind: u64| spans.iter().find(|span| span["kind"] == kind).context("no such span");
    let (client, server) = (find(CLIENT)?, find(SERVER)?);
    ensure!(client["parent"] == SPAN && server["parent"] == client["span"], "{client} {server}");
    let (from, own) = (as_text(&client["span"])?, as_text(&server["span"])?);
    ensure!(seen["b3"] == format!("{TRACE}-{own}-1-{from}"), "{seen}");
    ensure!(seen["traceparent"] == format!("00-{TRACE}-{own}-01"), "{seen}");

    clear(&world).await?;
    let several = [
        format!("x-b3-traceid: {TRACE}"),
        format!("x-b3-spanid: {SPAN}"),
        "x-b3-sampled: 1".to_owned(),
    ];
    let seen_now = self::seen(&world, &several.each_ref().map(String::as_str)).await?;
    let spans = spans_of(&world, TRACE, 2).await?;
    let server = spans.iter().find(|span| span["kind"] == SERVER).context("no span")?;
    ensure!(
        seen_now["x-b3-traceid"] == TRACE && seen_now["x-b3-spanid"] == server["span"],
        "{seen_now}"
    );
    ensure!(seen_now["x-b3-parentspanid"] == server["parent"], "{seen_now}");
    ensure!(seen_now.get("b3").is_none(), "{seen_now}");

    clear(&world).await?;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    let untouched =
        self::seen(&world, &[&format!("traceparent: {unsampled}"), "tracestate: odd"]).await?;
    ensure!(
        untouched["traceparent"] == unsampled && untouched["tracestate"] == "odd",
        "{untouched}"
    );
    let untouched = self::seen(&world, &["b3: 0"]).await?;
    ensure!(untouched["b3"] == "0" && untouched.get("traceparent").is_none(), "{untouched}");
    let untouched = self::seen(&world, &[]).await?;
    ensure!(untouched.get("traceparent").is_none(), "{untouched}");
    let broken =
        self::seen(&world, &[&format!("traceparent: ff-{TRACE}-{SPAN}-01"), "tracestate: a=1"])
            .await?;
    let fresh = as_text(&broken["traceparent"])?;
    ensure!(
        fresh.starts_with("00-") && !fresh.contains(TRACE) && fresh.ends_with("-02"),
        "{broken}"
    );
    ensure!(broken.get("tracestate").is_none(), "{broken}");
    // What is sent last arrives last: nothing came of the ones before.
    let marker = "11111111111111111111111111111111";
    self::seen(&world, &[&format!("traceparent: 00-{marker}-{SPAN}-01")]).await?;
    spans_of(&world, marker, 2).await?;
    let all = self::spans(&world).await?;
    ensure!(all.len() == 2, "{all:?}");
    world.finish().await
}

#[tokio::test]
async fn the_mesh_begins_traces_at_a_ratio_and_one_crosses_the_whole_shop() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = shop(
        "ratio",
        &[
            "--otel-exporter-otlp-endpoint=http://collector:4318",
            "--otel-traces-sampler=parentbased_traceidratio",
            "--otel-traces-sampler-arg=1",
        ],
    )
    .await?;
    world.curl("client", &["http://frontend:8080/"]).await?;
    let all = wait::until("the trace is there", WITHIN, async || {
        let all = spans(&world).await?;
        ensure!(all.len() >= 4, "{all:?}");
        Ok(all)
    })
    .await?;
    let traces: HashSet<String> = all.iter().map(|span| span["trace"].to_string()).collect();
    ensure!(all.len() == 4 && traces.len() == 1, "{all:?}");
    let roots: Vec<&Value> = all.iter().filter(|span| span["parent"] == "").collect();
    ensure!(roots.len() == 1 && roots[0]["resource"]["k8s.pod.name"] == "client", "{roots:?}");
    let known: HashSet<String> = all.iter().map(|span| span["span"].to_string()).collect();
    let parents = all.iter().filter(|span| span["parent"] != "");
    for parent in parents.map(|span| span["parent"].to_string()) {
        ensure!(known.contains(&parent), "{parent} is nobody's: {all:?}");
    }

    clear(&world).await?;
    let kept = seen(&world, &[&format!("traceparent: 00-{TRACE}-{SPAN}-00")]).await?;
    ensure!(kept["traceparent"] == format!("00-{TRACE}-{SPAN}-00"), "who began it decides: {kept}");
    let broken = seen(&world, &["traceparent: 00-broken"]).await?;
    let fresh = as_text(&broken["traceparent"])?;
    ensure!(fresh.starts_with("00-") && fresh.ends_with("-03"), "{broken}");
    let trace = fresh.get(3..35).context("no trace")?.to_owned();
    let again = spans_of(&world, &trace, 2).await?;
    ensure!(again.iter().filter(|span| span["parent"] == "").count() == 1, "{again:?}");
    // Nobody listens there: the client's span says why.
    let refused = world
        .curl("client", &["-o", "/dev/null", "-w", "%{http_code}", "http://nobody:8080/"])
        .await?;
    ensure!(refused == "503", "{refused}");
    let failed = wait::until("the failure is there", WITHIN, async || {
        let all = spans(&world).await?;
        all.into_iter().find(|span| span["is_error"] == true).context("no error yet")
    })
    .await?;
    ensure!(failed["attributes"]["error.type"] == "no_endpoint", "{failed}");
    ensure!(failed["attributes"]["heddle.service"] == "default/nobody:8080", "{failed}");
    world.finish().await
}

async fn shop(name: &str, proxies: &[&str]) -> Result<World> {
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let api = ["meshctl", "shop", "api", "--listen", "8080", "--store", "store:9000"];
    let frontend = ["meshctl", "shop", "frontend", "--listen", "8080", "--api", "http://api:8080/"];
    let collector = Pod::new("collector").command(&applications::collector(&[])?);
    let pods = [
        store,
        Pod::new("api").command(&api).port(8080),
        Pod::new("frontend").command(&frontend).port(8080),
        Pod::new("echo").command(&echo_http(8080, "echo")).port(8080),
        collector.port(4317).port(4318).unmeshed(),
        Pod::new("client"),
    ];
    let services = [
        Service::new("store").port(9000, 9000),
        Service::new("api").port_speaking(8080, 8080, "http"),
        Service::new("frontend").port_speaking(8080, 8080, "http"),
        Service::new("echo").port_speaking(8080, 8080, "http"),
        Service::new("nobody").port_speaking(8080, 8080, "http"),
        // Proxies go past the mesh: they are told the pod's own address.
        Service::new("collector").headless().port(4317, 4317).port(4318, 4318),
    ];
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "to-api"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
            "rules": [{"backendRefs": [{"name": "api", "port": 8080}]}],
        },
    });
    let arguments = [proxies, &["--otel-bsp-schedule-delay=100"]].concat();
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .file("routes.yaml", documents(&[route]))
        .proxies(&arguments)
        .start()
        .await
}

/// What the echo sees of a request with these headers.
async fn seen(world: &World, headers: &[&str]) -> Result<Value> {
    let headers = headers.iter().flat_map(|header| ["-H", header]);
    let arguments: Vec<&str> = headers.chain(["http://echo:8080/"]).collect();
    let answer = world.curl("client", &arguments).await?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    Ok(answer["headers"].clone())
}

/// All spans that the collector has, past all proxies.
async fn spans(world: &World) -> Result<Vec<Value>> {
    let text = world.curl("collector", &["http://127.0.0.1:4318/spans"]).await?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Those of one trace, once there are so many; never more.
async fn spans_of(world: &World, trace: &str, count: usize) -> Result<Vec<Value>> {
    let found = wait::until("the spans are there", WITHIN, async || {
        let all = spans(world).await?;
        let found: Vec<Value> = all.into_iter().filter(|span| span["trace"] == trace).collect();
        ensure!(found.len() >= count, "{} of {count}: {found:?}", found.len());
        Ok(found)
    })
    .await?;
    ensure!(found.len() == count, "{found:?}");
    Ok(found)
}

async fn clear(world: &World) -> Result<()> {
    world.curl("collector", &["-X", "POST", "http://127.0.0.1:4318/clear"]).await.map(drop)
}

fn as_text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

fn identity(name: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{name}")
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// Source: OTLP's `SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const WITHIN: Duration = Duration::from_secs(60);
