//! Calls of gRPC through both proxies: all kinds, their statuses, and how they are counted.

use anyhow::{Result, ensure};
use heddle_tests::applications::grpc;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements;
use heddle_tests::world::Plan;
use serde_json::{Value, json};

#[tokio::test]
async fn every_kind_of_call_passes_with_its_trailers_and_is_counted_by_its_status() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let server = Pod::new("loom").command(&grpc(&["serve", "--port", "9000"])?).port(9000);
    let services = [
        Service::new("loom").port(9000, 9000).port_speaking(9001, 9000, "kubernetes.io/h2c"),
        // Nobody listens behind this one.
        Service::new("empty").port_speaking(9000, 9000, "kubernetes.io/h2c"),
    ];
    let world = Plan::new("grpc")
        .file("pods.yaml", documents(&[server.strict(), Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    // Detected on one port, declared on the other.
    for target in ["http://loom:9000", "http://loom:9001"] {
        let seen = world.ask("client", &grpc(&["call", "--target", target])?).await?;
        let seen: Value = serde_json::from_str(&seen)?;
        let expected = json!({
            "unary": { "answer": "answered-one" },
            "client_streaming": { "answer": "answered-only" },
            "server_streaming": { "answers": ["answered-one"], "code": 0 },
            "both_streaming": { "last": "answered-100", "ended": true },
            "refused": { "code": 5, "message": "no such thread: 50% \u{e9}" },
            "torn": {
                "answers": ["answered-one"],
                "ended": { "code": 15, "message": "the thread is torn" },
            },
            "no_method": { "code": 12, "message": "no such method" },
        });
        ensure!(seen == expected, "{target}: {seen:#}");
    }
    for (workload, direction) in [("client", "outbound"), ("loom", "inbound")] {
        let metrics = Metrics::of(&world, workload).await?;
        let count = |code: &str| {
            let labels = [("direction", direction), ("status", "200"), ("grpc_status", code)];
            metrics.sum("heddle_http_requests_total", &labels)
        };
        let counted = ["0", "5", "12", "15", "1", "2", "broken"].map(count);
        ensure!(
            counted == [8.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0],
            "{workload}: {}",
            metrics.show("heddle_http_requests_total")
        );
    }

    let nowhere = grpc(&["call", "--target", "http://empty:9000"])?;
    let nowhere = world.run("client", &nowhere).await?;
    // The client gives up at the first stream that does not begin.
    let said = nowhere.stdout_text() + &nowhere.stderr_text();
    ensure!(nowhere.code != 0 && said.contains("has no ready endpoint"), "{said}");
    let metrics = Metrics::of(&world, "client").await?;
    let labels = [("status", "200"), ("grpc_status", "14"), ("service", "default/empty:9000")];
    ensure!(
        metrics.sum("heddle_http_requests_total", &labels) >= 1.0,
        "{}",
        metrics.show("heddle_http_requests_total")
    );
    world.finish().await
}
