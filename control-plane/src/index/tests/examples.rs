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

/// The shop of `install/examples`, with addresses as whoever runs it would give them.
fn shop_example() -> String {
    let files = [
        include_str!("../../../../install/examples/shop/frontend.yaml"),
        include_str!("../../../../install/examples/shop/api.yaml"),
        include_str!("../../../../install/examples/shop/store.yaml"),
    ];
    let mut text = String::new();
    let mut number = 0;
    for document in files.iter().flat_map(|file| file.split("\n---\n")) {
        if document.contains("kind: Service\n") {
            number += 1;
            let spec = format!("\nspec:\n  clusterIP: 10.43.2.{number}\n");
            text.push_str(&document.replacen("\nspec:\n", &spec, 1));
            text.push_str("\n---\n");
        }
    }
    text
}

#[test]
fn the_examples_for_the_shop_are_accepted() {
    let text = shop_example()
        + include_str!("../../../../install/examples/routes/routes.yaml")
        + "---\n"
        + include_str!("../../../../install/examples/traffic-policy/traffic-policy.yaml");
    let contents = contents(&text);
    assert_eq!(contents.source_errors, []);
    let kinds = ["HTTPRoute", "TCPRoute", "TrafficPolicy"];
    let statuses = contents.objects.iter();
    let statuses: Vec<_> =
        statuses.filter(|status| kinds.contains(&status.reference.kind.as_str())).collect();
    assert_eq!(statuses.len(), 4);
    for status in statuses {
        for condition in &status.conditions {
            let shown = format!("{}: {condition:?}", status.reference);
            assert_eq!(condition.state, crate::status::ConditionState::True, "{shown}");
            assert_eq!(condition.message, "", "{shown}");
        }
    }
}
