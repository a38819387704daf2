//! What routes say is done to requests and connections, from the file to the wire.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{echo_http, interpreter};
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

#[tokio::test]
async fn requests_are_redirected_rewritten_changed_copied_and_sent_again_as_a_route_says()
-> Result<()> {
    if requirements::skip(&[Tool::Python, Tool::Curl])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080);
    let failing = Pod::new("failing").label("part-of", "flaky").command(&answering(503)).port(8080);
    let working = Pod::new("working")
        .label("part-of", "flaky")
        .command(&echo_http(8080, "working"))
        .port(8080);
    let services = [
        Service::new("api").selector("app", "v1").port_speaking(8080, 8080, "http"),
        Service::new("v1").port_speaking(8080, 8080, "http"),
        Service::new("copies").port_speaking(8080, 8080, "http"),
        Service::new("flaky").selector("part-of", "flaky").port_speaking(8080, 8080, "http"),
    ];
    let pods = [server("v1"), server("copies"), failing, working, Pod::new("client")];
    let world = Plan::new("routes")
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .file("route.yaml", route().to_string())
        .start()
        .await?;
    redirected(&world).await?;
    rewritten(&world).await?;
    shared_with_origins(&world).await?;
    copied(&world).await?;
    sent_again(&world).await?;
    world.finish().await
}

fn route() -> Value {
    let to = |name: &str| json!({ "name": name, "port": 8080 });
    let on = |prefix: &str| json!([{ "path": { "type": "PathPrefix", "value": prefix } }]);
    let set = |kind: &str, part: &str, name: &str| json!({ "type": kind, part: { "set": [{ "name": name, "value": "set" }] } });
    let mut v1 = to("v1");
    v1["filters"] = json!([set("RequestHeaderModifier", "requestHeaderModifier", "x-backend")]);
    let prefix = |text: &str| json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": text });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "api" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "api" }],
            "rules": [
                { "matches": on("/old"), "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                    "scheme": "https", "hostname": "example.org", "path": prefix("/new"),
                    "statusCode": 301,
                } }] },
                { "matches": on("/outer"), "backendRefs": [v1], "filters": [
                    { "type": "URLRewrite", "urlRewrite": {
                        "hostname": "inner.example.org", "path": prefix("/"),
                    } },
                    set("RequestHeaderModifier", "requestHeaderModifier", "x-rule"),
                    set("ResponseHeaderModifier", "responseHeaderModifier", "x-answered"),
                ] },
                { "matches": on("/shared"), "backendRefs": [to("v1")], "filters": [
                    { "type": "CORS", "cors": {
                        "allowOrigins": ["https://*.example.com"], "allowMethods": ["PUT"],
                    } },
                ] },
                { "matches": on("/copied"), "backendRefs": [to("v1")], "filters": [
                    { "type": "RequestMirror", "requestMirror": { "backendRef": to("copies") } },
                ] },
                { "matches": on("/flaky"), "backendRefs": [to("flaky")],
                  "retry": { "codes": [503], "attempts": 3, "backoff": "10ms" } },
            ],
        },
    })
}

async fn redirected(world: &World) -> Result<()> {
    let format = "%{http_code} %header{location}";
    let answer = world.curl("client", &written(format, "http://api:8080/old/a?b=c")).await?;
    ensure!(answer == "301 https://example.org/new/a?b=c", "{answer}");
    Ok(())
}

async fn rewritten(world: &World) -> Result<()> {
    let answer = world.curl("client", &["http://api:8080/outer/a?b=c"]).await?;
    let seen: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(seen["path"] == "/a?b=c", "{seen}");
    let headers = &seen["headers"];
    ensure!(headers["host"] == "inner.example.org", "{seen}");
    ensure!(headers["x-rule"] == "set" && headers["x-backend"] == "set", "{seen}");
    let told =
        world.curl("client", &written("%header{x-answered}", "http://api:8080/outer")).await?;
    ensure!(told == "set", "{told}");
    Ok(())
}

async fn shared_with_origins(world: &World) -> Result<()> {
    let format = "%{http_code} %header{access-control-allow-origin}";
    let url = "http://api:8080/shared";
    for (origin, expected) in [
        ("https://www.example.com", "200 https://www.example.com"),
        ("https://example.org", "200 "),
    ] {
        let header = format!("origin: {origin}");
        let preflight = ["--request", "OPTIONS", "--header", "access-control-request-method: PUT"];
        for more in [&preflight[..], &[]] {
            let arguments = [more, &["--header", &header], &written(format, url)].concat();
            let answer = world.curl("client", &arguments).await?;
            ensure!(answer == expected, "{answer:?} for {origin} with {more:?}");
        }
    }
    Ok(())
}

async fn copied(world: &World) -> Result<()> {
    for _request in 0..5 {
        let answer =
            world.curl("client", &["--data", "body", "http://api:8080/copied?SECRET"]).await?;
        ensure!(answer.contains("\"name\": \"v1\""), "{answer}");
    }
    wait::until("all copies arrive", Duration::from_secs(10), async || {
        let metrics = Metrics::of(world, "copies").await?;
        let arrived = metrics.sum("heddle_http_requests_total", &[("direction", "inbound")]);
        ensure!((arrived - 5.0).abs() < 0.1, "{arrived} have arrived");
        Ok(())
    })
    .await?;
    let metrics = Metrics::of(world, "client").await?;
    let answered = metrics.require("heddle_mirrored_requests_total", &[("outcome", "answered")])?;
    ensure!((answered - 5.0).abs() < 0.1, "{answered} are counted");
    Ok(())
}

async fn sent_again(world: &World) -> Result<()> {
    for _request in 0..20 {
        let answer = world.curl("client", &["--data", "body", "http://api:8080/flaky"]).await?;
        ensure!(answer.contains("answered-body-body"), "{answer}");
    }
    let metrics = Metrics::of(world, "client").await?;
    // Half of the requests began at the pod that fails, more or less.
    metrics.require("heddle_retries_total", &[("outcome", "succeeded")])?;
    Ok(())
}

#[tokio::test]
async fn encrypted_connections_go_where_a_tls_route_says() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&naming(name)).port(8443);
    let services = [
        Service::new("secure").selector("app", "one").port(8443, 8443),
        Service::new("one").port(8443, 8443),
        Service::new("two").port(8443, 8443),
    ];
    let route = |name: &str, hostname: &str, backend: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "TLSRoute",
            "metadata": { "name": name },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "secure" }],
                "hostnames": [hostname],
                "rules": [{ "backendRefs": [{ "name": backend, "port": 8443 }] }],
            },
        })
    };
    let routes = [route("one", "one.example.com", "one"), route("two", "*.example.com", "two")];
    let world = Plan::new("tls-routes")
        .file("pods.yaml", documents(&[server("one"), server("two"), Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .file("routes.yaml", documents(&routes))
        .start()
        .await?;
    for (name, expected) in [
        ("one.example.com", "one"),
        ("a.example.com", "two"),
        ("a.b.example.com", "two"),
        ("example.org", "reset"),
    ] {
        let found = world.ask("client", &python(HELLO, &["secure", "8443", name])).await?;
        ensure!(found.trim() == expected, "{found:?} for {name}");
    }
    let refused = Metrics::of(&world, "client").await?.require(
        "heddle_connections_refused_total",
        &[("direction", "outbound"), ("reason", "no_tls_route")],
    )?;
    ensure!((refused - 1.0).abs() < 0.1, "{refused} are counted");
    world.finish().await
}

/// Prints this of the answer, and not its body.
fn written<'a>(format: &'a str, url: &'a str) -> Vec<&'a str> {
    vec!["--output", "/dev/null", "--write-out", format, url]
}

fn python(program: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = vec![interpreter(), "-c".to_owned(), program.to_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

/// Answers every request with this status.
fn answering(status: u16) -> Vec<String> {
    python(ANSWERING, &["8080", &status.to_string()])
}

/// Answers the first bytes of every connection with its name.
fn naming(name: &str) -> Vec<String> {
    python(NAMING, &["8443", name])
}

const ANSWERING: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(int(sys.argv[2]))
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = answer

ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"#;

const NAMING: &str = r#"
import socket, sys, threading

def serve(connection):
    with connection:
        if connection.recv(4096):
            connection.sendall(sys.argv[2].encode())

listener = socket.create_server(("", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Sends a ClientHello and prints what comes back for it, which is no handshake.
const HELLO: &str = r#"
import socket, ssl, sys

host, port, name = sys.argv[1:]
read, write = ssl.MemoryBIO(), ssl.MemoryBIO()
session = ssl.create_default_context().wrap_bio(read, write, server_hostname=name)
try:
    session.do_handshake()
except ssl.SSLWantReadError:
    pass
with socket.create_connection((host, int(port)), timeout=10) as connection:
    try:
        connection.sendall(write.read())
        print(connection.recv(4096).decode())
    except ConnectionResetError:
        print("reset")
"#;
