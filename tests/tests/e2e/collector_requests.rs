//! What a real collector is sent of single requests: each is in the one trace of its client, and has a log record of both
//! proxies.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::collector::{self, Collector, GRPC_PORT, Told};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::Value;

#[tokio::test]
async fn each_request_has_two_spans_in_its_clients_trace_and_two_records_with_their_ids()
-> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python, Tool::Collector])? {
        return Ok(());
    }
    let collector = Collector::new()?;
    let pods = [
        collector.pod()?,
        Pod::new("server").command(&echo_http(8080, "server")).port(8080),
        Pod::new("client"),
    ];
    let services = [Collector::service(), Service::new("server").port_speaking(8080, 8080, "http")];
    let endpoint = format!("--otel-exporter-otlp-endpoint=http://{}:{GRPC_PORT}", collector::NAME);
    let world = Plan::new("collector-requests")
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .proxies(&[
            &endpoint,
            "--otel-exporter-otlp-protocol=grpc",
            "--otel-bsp-schedule-delay=100",
            "--otel-blrp-schedule-delay=100",
            "--access-log=all",
        ])
        .start()
        .await?;
    let seen = asked(&world).await?;
    wait::until("all is told of", Duration::from_secs(60), async || {
        let (spans, records) = (collector.spans()?, collector.records()?);
        for pod in ["client", "server"] {
            let of = |all: &[Told]| all.iter().filter(|one| one.is_of(pod)).count();
            let (spans, records) = (of(&spans), of(&records));
            ensure!(spans >= REQUESTS && records >= REQUESTS, "{pod}: {spans} {records}");
        }
        Ok(())
    })
    .await?;
    let (spans, records) = (collector.spans()?, collector.records()?);
    // No more than there were, either.
    ensure!(spans.len() == 2 * REQUESTS, "{} spans", spans.len());
    ensure!(records.len() == 2 * REQUESTS, "{} records", records.len());
    for (trace, (told, state)) in seen {
        let one = |all: &[Told], pod: &str| {
            let is_it = |one: &&Told| one.is_of(pod) && one.record["traceId"] == trace;
            all.iter().find(is_it).map(|one| one.record.clone()).context(format!("{pod} {trace}"))
        };
        let (outbound, inbound) = (one(&spans, "client")?, one(&spans, "server")?);
        ensure!(
            outbound["parentSpanId"] == CLIENT_SPAN && outbound["kind"] == CLIENT,
            "{outbound}"
        );
        ensure!(inbound["parentSpanId"] == outbound["spanId"], "{inbound} after {outbound}");
        ensure!(inbound["kind"] == SERVER, "{inbound}");
        let span = inbound["spanId"].as_str().context("no span")?;
        ensure!(told == format!("00-{trace}-{span}-01"), "{told} after {inbound}");
        for (pod, span) in [("client", &outbound), ("server", &inbound)] {
            ensure!(span["traceState"] == state, "{span} without {state}");
            let record = one(&records, pod)?;
            ensure!(record["spanId"] == span["spanId"], "{record} beside {span}");
            let said = collector::attributes(&record);
            let status = said.get("http.response.status_code").map(String::as_str);
            ensure!(status == Some("200"), "{record}");
        }
    }
    world.finish().await
}

/// Sends the requests; what the server's application was told beside each trace.
async fn asked(world: &World) -> Result<BTreeMap<String, (String, String)>> {
    let mut seen = BTreeMap::new();
    for number in 1..=REQUESTS {
        let trace = format!("{number:032x}");
        let header = format!("traceparent: 00-{trace}-{CLIENT_SPAN}-01");
        let state_header = format!("tracestate: {}", state(number));
        let ask = ["--header", &header, "--header", &state_header, "http://server:8080/"];
        let answer = world.curl("client", &ask).await?;
        let answer: Value = serde_json::from_str(&answer).context(answer)?;
        let told = answer["headers"]["traceparent"].as_str().context("no traceparent")?;
        let passed_on = answer["headers"]["tracestate"].as_str().context("no tracestate")?;
        ensure!(passed_on == state(number), "{passed_on}");
        seen.insert(trace, (told.to_owned(), state(number)));
    }
    Ok(seen)
}

/// What somebody else keeps beside a trace.
fn state(number: usize) -> String {
    format!("other@vendor=kept {number},a=b")
}

const REQUESTS: usize = 20;
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
/// OTLP's numbers of kinds of spans.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
