//! What `meshctl why` says is what happens: each row is asked about, and then done.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::manifest::{Pod, Service, documents, traffic_split};
use heddle_tests::program::{self, Said};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

/// A call, what is expected of it, and what must come of it.
struct Row {
    case: &'static str,
    from: &'static str,
    host: &'static str,
    request: &'static [&'static str],
    /// As `meshctl why` calls it.
    outcome: &'static str,
    /// The rule's field, the backends with a share, and how they are secured.
    rule: &'static str,
    backends: &'static [&'static str],
    tls: Option<&'static str>,
    /// The status that curl sees; 0: no answer at all.
    status: u16,
}

const ROWS: [Row; 11] = [
    Row {
        case: "a prefix",
        from: "client",
        host: "api:8080",
        request: &["GET", "/v2/items"],
        outcome: "served",
        rule: "spec.rules[0]",
        backends: &["default/v2:8080"],
        tls: Some("mtls"),
        status: 200,
    },
    Row {
        case: "a header",
        from: "client",
        host: "api:8080",
        request: &["GET", "/", "x-version: two"],
        outcome: "served",
        rule: "spec.rules[1]",
        backends: &["default/v2:8080"],
        tls: Some("mtls"),
        status: 200,
    },
    Row {
        case: "the same header with another value",
        from: "client",
        host: "api:8080",
        request: &["GET", "/", "x-version: three"],
        outcome: "no_route",
        rule: "",
        backends: &[],
        tls: None,
        status: 404,
    },
    Row {
        case: "a redirect",
        from: "client",
        host: "api:8080",
        request: &["GET", "/old"],
        outcome: "answered",
        rule: "spec.rules[2]",
        backends: &[],
        tls: None,
        status: 302,
    },
    Row {
        case: "a backend that does not exist",
        from: "client",
        host: "api:8080",
        request: &["GET", "/missing"],
        outcome: "no_backend",
        rule: "spec.rules[3]",
        backends: &[],
        tls: None,
        status: 500,
    },
    Row {
        case: "a backend without endpoints",
        from: "client",
        host: "api:8080",
        request: &["POST", "/empty"],
        outcome: "no_endpoint",
        rule: "spec.rules[4]",
        backends: &["default/empty:8080"],
        tls: None,
        status: 503,
    },
    Row {
        case: "no route is attached",
        from: "client",
        host: "v1:8080",
        request: &["GET", "/anything"],
        outcome: "served",
        rule: "",
        backends: &["default/v1:8080"],
        tls: Some("mtls"),
        status: 200,
    },
    Row {
        case: "an unknown port",
        from: "client",
        host: "api:8081",
        request: &["GET", "/"],
        outcome: "refused",
        rule: "",
        backends: &[],
        tls: None,
        status: 0,
    },
    Row {
        case: "without a proxy, to a permissive pod: no route counts",
        from: "outsider",
        host: "api:8080",
        request: &["GET", "/missing"],
        outcome: "served",
        rule: "",
        backends: &["default/api:8080"],
        tls: Some("plaintext"),
        status: 200,
    },
    Row {
        case: "without a proxy, to a strict pod",
        from: "outsider",
        host: "v2:8080",
        request: &["GET", "/"],
        outcome: "no_certificate",
        rule: "",
        backends: &["default/v2:8080"],
        tls: Some("refused"),
        status: 0,
    },
    Row {
        case: "to a pod without a proxy",
        from: "client",
        host: "plain:8080",
        request: &["GET", "/"],
        outcome: "served",
        rule: "",
        backends: &["default/plain:8080"],
        tls: Some("plaintext"),
        status: 200,
    },
];

#[tokio::test]
async fn what_is_explained_is_what_happens() -> Result<()> {
    if requirements::skip(&[Tool::Python, Tool::Curl])? {
        return Ok(());
    }
    let world = shop("why").await?;
    for row in &ROWS {
        explained(&world, row).await.with_context(|| format!("case: {}", row.case))?;
        happens(&world, row).await.with_context(|| format!("case: {}", row.case))?;
    }
    // By now the client's proxy has asked for it, and taken it.
    wait::until("the proxy's version is told", Duration::from_secs(10), async || {
        let (report, _) = why(&world, "client", "api:8080", &["GET", "/v2"]).await?;
        ensure!(report["acknowledged"] == true, "{report}");
        Ok(())
    })
    .await?;
    let (_, said) = why(&world, "nobody", "api:8080", &[]).await?;
    ensure!(said.code == Some(4) && said.stdout.contains("no_caller"), "{said:?}");
    world.finish().await
}

#[tokio::test]
async fn routes_are_listed_with_what_shadows_them() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = shop("why-routes").await?;
    world.write("split.yaml", &traffic_split("api", &[("v1", 1), ("v2", 1)]))?;
    let listed = wait::until("the split is listed", Duration::from_secs(10), async || {
        let said = ask(&world, &["routes", "--output", "json"]).await?;
        let listed: Value = serde_json::from_str(&said.stdout)?;
        ensure!(listed["routes"].as_array().is_some_and(|routes| routes.len() == 2), "{listed}");
        Ok(listed)
    })
    .await?;
    let (route, split) = (&listed["routes"][0], &listed["routes"][1]);
    ensure!(route["kind"] == "HTTPRoute" && route["shadows"] == json!([]), "{route}");
    ensure!(split["shadows"][0]["by"] == "HTTPRoute default/api", "{split}");
    let missing = &route["rules"][3]["backends"][0]["problem"];
    ensure!(*missing == "service default/gone does not exist", "{route}");
    // A backend that does not exist is a finding.
    let said = ask(&world, &["routes"]).await?;
    ensure!(said.code == Some(3) && said.stdout.contains("not ResolvedRefs"), "{said:?}");
    world.finish().await
}

#[tokio::test]
async fn a_canary_is_moved_by_editing_the_file_that_the_mesh_follows() -> Result<()> {
    if requirements::skip(&[Tool::Python, Tool::Curl])? {
        return Ok(());
    }
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080);
    let services = [
        Service::new("api").selector("app", "v1").port_speaking(8080, 8080, "http"),
        Service::new("v1").port(8080, 8080),
        Service::new("v2").port(8080, 8080),
    ];
    let file = "# By hand.\napiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: api}\n\
                spec:\n  service: api\n  backends:\n  - service: v1\n    weight: 100 # all\n  - service: v2\n    \
                weight: 0\n";
    let world = Plan::new("split-set")
        .file("pods.yaml", documents(&[server("v1"), server("v2"), Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .file("canary.yaml", file)
        .start()
        .await?;
    let version =
        ["--output", "/dev/null", "--write-out", "%header{x-shop-version}", "http://api:8080/"];
    let answer = world.curl("client", &version).await?;
    ensure!(answer == "v1", "{answer} answers");
    let path = world.path("manifests").join("canary.yaml");
    for (case, arguments, expected) in [
        ("an unknown backend", &["v1=1", "v3=1"][..], "no backend \"v3\""),
        ("no weight is left", &["v1=0", "v2=0"], "all weights are 0"),
    ] {
        let said = ask(&world, &[&["split", "set", "api"], arguments].concat()).await?;
        ensure!(said.code == Some(1) && said.stderr.contains(expected), "case: {case}: {said:?}");
    }
    let said = ask(&world, &["split", "set", "api", "v1=0", "v2=1", "--dry-run=server"]).await?;
    ensure!(said.code == Some(0) && said.stdout.contains("would be set"), "{said:?}");
    ensure!(std::fs::read_to_string(&path)? == file, "a dry run changed the file");
    let said = ask(&world, &["split", "set", "api", "v1=0", "v2=1"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let edited = file.replace("weight: 100 #", "weight: 0 #").replace("weight: 0\n", "weight: 1\n");
    ensure!(std::fs::read_to_string(&path)? == edited, "{}", std::fs::read_to_string(&path)?);
    wait::until("the client's proxy has taken it", Duration::from_secs(10), async || {
        let said = ask(&world, &["split", "api", "--output", "json"]).await?;
        let report: Value = serde_json::from_str(&said.stdout)?;
        let split = &report["splits"][0];
        ensure!(split["state"] == "acknowledged", "{split}");
        ensure!(split["held"][0]["shares"][1]["share"] == "100 %", "{split}");
        Ok(())
    })
    .await?;
    let answer = world.curl("client", &version).await?;
    ensure!(answer == "v2", "{answer} answers");
    world.finish().await
}

async fn shop(name: &str) -> Result<World> {
    let server = |name: &str| Pod::new(name).command(&echo_http(8080, name)).port(8080);
    let pods = [
        server("v1"),
        server("v2").strict(),
        server("plain").unmeshed(),
        Pod::new("client"),
        Pod::new("outsider").unmeshed(),
    ];
    let service = |name: &str| Service::new(name).port_speaking(8080, 8080, "http");
    let services = [
        service("api").selector("app", "v1"),
        service("v1"),
        service("v2"),
        service("plain"),
        service("empty"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file("services.yaml", documents(&services))
        .file("route.yaml", route().to_string())
        .start()
        .await
}

fn route() -> Value {
    let to = |name: &str| json!([{ "name": name, "port": 8080 }]);
    let on = |prefix: &str| json!([{ "path": { "type": "PathPrefix", "value": prefix } }]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "api" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "api" }],
            "rules": [
                { "matches": on("/v2"), "backendRefs": to("v2") },
                { "matches": [{ "headers": [{ "name": "x-version", "value": "two" }] }], "backendRefs": to("v2") },
                { "matches": on("/old"), "filters": [{ "type": "RequestRedirect",
                    "requestRedirect": { "hostname": "example.org" } }] },
                { "matches": on("/missing"), "backendRefs": to("gone") },
                { "matches": on("/empty"), "backendRefs": to("empty") },
            ],
        },
    })
}

/// What `meshctl why` says of a row.
async fn explained(world: &World, row: &Row) -> Result<()> {
    let (report, said) = why(world, row.from, row.host, row.request).await?;
    ensure!(report["outcome"] == row.outcome, "{report}");
    let served = matches!(row.outcome, "served" | "answered");
    ensure!(report["served"] == served, "{report}");
    ensure!(said.code == Some(if served { 0 } else { 4 }), "exit code {:?}: {report}", said.code);
    let rule = report["rule"]["field"].as_str().unwrap_or_default();
    ensure!(rule == row.rule, "{report}");
    let backends: Vec<&str> = report["backends"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|backend| backend["backend"].as_str())
        .collect();
    ensure!(backends == row.backends, "{report}");
    ensure!(report["tls"] == json!(row.tls), "{report}");
    Ok(())
}

/// What comes of it: the status, and who answers over what.
async fn happens(world: &World, row: &Row) -> Result<()> {
    let url = match row.request {
        [_, path, ..] => format!("http://{}{path}", row.host),
        _ => format!("http://{}/", row.host),
    };
    let method = row.request.first().copied().unwrap_or("GET");
    let format = "%{http_code} %header{x-shop-version} %header{x-heddle-error}";
    let mut arguments =
        vec!["--request", method, "--output", "/dev/null", "--write-out", format, url.as_str()];
    for header in row.request.iter().skip(2) {
        arguments.extend(["--header", header]);
    }
    let outcome = world.try_curl(row.from, &arguments).await?;
    let printed = outcome.stdout_text();
    let mut words = printed.split(' ');
    let status: u16 = words.next().unwrap_or_default().parse().unwrap_or(0);
    ensure!(status == row.status, "curl sees {printed:?} ({})", outcome.code);
    let answered_by = words.next().unwrap_or_default();
    let error = words.next().unwrap_or_default();
    if row.outcome == "served" {
        // The service `api` without routes is v1.
        let expected = match row.backends {
            ["default/api:8080"] => "v1",
            [backend] => backend.trim_start_matches("default/").trim_end_matches(":8080"),
            _ => "",
        };
        ensure!(answered_by == expected, "{answered_by} answers");
    } else if status >= 400 {
        ensure!(error == row.outcome, "the proxy says {error:?}");
    }
    Ok(())
}

async fn why(world: &World, from: &str, host: &str, request: &[&str]) -> Result<(Value, Said)> {
    let caller = format!("pod/{from}");
    let mut arguments = vec!["why", &caller, host];
    arguments.extend(request.iter().take(2));
    for header in request.iter().skip(2) {
        arguments.extend(["--header", header]);
    }
    arguments.extend(["--output", "json"]);
    let said = ask(world, &arguments).await?;
    let report = serde_json::from_str(&said.stdout)
        .with_context(|| format!("meshctl why said: {}{}", said.stdout, said.stderr))?;
    Ok((report, said))
}

async fn ask(world: &World, arguments: &[&str]) -> Result<Said> {
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let mut all = arguments.to_vec();
    all.extend(["--admin-socket", &socket]);
    program::meshctl(&all).await
}
