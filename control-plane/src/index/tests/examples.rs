//! The situations of the Gateway API's guides, with services as parents, and what proxies are told.

use super::*;

/// Services `foo`, `bar`, and so on, that the examples send to; all in `shop`.
fn services() -> String {
    let ports = "{port: 8080, name: http}, {port: 9000, name: grpc}, {port: 5000, name: tcp}";
    ["foo", "bar", "canary", "mirror", "store"]
        .iter()
        .zip(1..)
        .map(|(name, number)| service(name, &format!("10.43.1.{number}"), ports))
        .collect()
}

fn told(example: &str, address: &str) -> String {
    let contents = contents(&(services() + example));
    let Destination::Service(destination) = destination(&contents, address) else {
        panic!("{address} is a service");
    };
    let statuses = contents.objects.iter().filter(|status| status.reference.kind != "Service");
    let statuses: Vec<String> = statuses
        .map(|status| {
            let reference = &status.reference;
            format!("{reference}\n{}", conditions(&contents, &reference.kind, &reference.name))
        })
        .collect();
    let rules: Vec<String> =
        destination.http_rules.iter().map(|rule| format!("{rule:#?}")).collect();
    format!("{}\n\n{}\n\n{}", shown(&contents, address), statuses.join("\n"), rules.join("\n"))
}

fn brief(example: &str, address: &str) -> String {
    let text = told(example, address);
    text.split_once("\n\nHttpRule").unwrap().0.to_owned()
}

const FOO_HTTP: &str = "10.43.1.1:8080";
const FOO_GRPC: &str = "10.43.1.1:9000";
const FOO_TCP: &str = "10.43.1.1:5000";

#[test]
fn http_routing() {
    insta::assert_snapshot!(brief(include_str!("examples/http-routing.yaml"), FOO_HTTP));
}

#[test]
fn traffic_splitting() {
    insta::assert_snapshot!(brief(include_str!("examples/traffic-splitting.yaml"), FOO_HTTP));
}

#[test]
fn header_modifiers() {
    insta::assert_snapshot!(told(include_str!("examples/header-modifier.yaml"), FOO_HTTP));
}

#[test]
fn redirects_and_rewrites() {
    insta::assert_snapshot!(told(include_str!("examples/redirect-rewrite.yaml"), FOO_HTTP));
}

#[test]
fn request_mirroring() {
    insta::assert_snapshot!(told(include_str!("examples/mirroring.yaml"), FOO_HTTP));
}

#[test]
fn timeouts_retries_and_cors() {
    insta::assert_snapshot!(told(include_str!("examples/timeouts-retries-cors.yaml"), FOO_HTTP));
}

#[test]
fn grpc_routing() {
    insta::assert_snapshot!(brief(include_str!("examples/grpc-routing.yaml"), FOO_GRPC));
}

#[test]
fn tcp_and_tls_routing() {
    let text = include_str!("examples/tcp-tls.yaml");
    insta::assert_snapshot!(format!(
        "{}\n\n{}",
        brief(text, FOO_TCP),
        brief(text, "10.43.1.2:5000")
    ));
}

/// With addresses of services, as whoever runs it would give them.
fn with_addresses(files: &[&str]) -> String {
    let mut number = 0;
    let documents = files.iter().flat_map(|file| file.split("\n---\n"));
    let documents = documents.map(|document| {
        if !document.contains("kind: Service\nmetadata") {
            return document.to_owned();
        }
        number += 1;
        let spec = format!("\nspec:\n  clusterIP: 10.43.2.{number}\n");
        document.replacen("\nspec:\n", &spec, 1)
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn the_examples_are_accepted() {
    let contents = contents(&with_addresses(&[
        include_str!("../../../../install/examples/shop/frontend.yaml"),
        include_str!("../../../../install/examples/shop/api.yaml"),
        include_str!("../../../../install/examples/shop/store.yaml"),
        include_str!("../../../../install/examples/routes/routes.yaml"),
        include_str!("../../../../install/examples/routes/kinds.yaml"),
        include_str!("../../../../install/examples/traffic-policy/traffic-policy.yaml"),
    ]));
    assert_eq!(contents.source_errors, []);
    let kinds = [
        "HTTPRoute",
        "GRPCRoute",
        "TLSRoute",
        "TCPRoute",
        "TrafficSplit",
        "HTTPRouteGroup",
        "TrafficPolicy",
    ];
    for kind in kinds {
        let any = contents.objects.iter().any(|status| status.reference.kind == kind);
        assert!(any, "the examples have no {kind}");
    }
    let statuses = contents.objects.iter();
    for status in statuses.filter(|status| kinds.contains(&status.reference.kind.as_str())) {
        for condition in &status.conditions {
            let shown = format!("{}: {condition:?}", status.reference);
            assert_eq!(condition.state, crate::status::ConditionState::True, "{shown}");
            assert_eq!(condition.message, "", "{shown}");
        }
    }
}
