//! From variables to settings, and what is said of wrong ones.

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<TelemetrySettings, Vec<String>> {
    TelemetrySettings::read(&|name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn without_variables_the_control_plane_alone_is_told() {
    let settings = read(&[]).unwrap();
    assert!(settings.is_enabled && settings.metrics.is_none());
    assert_eq!(settings.interval, Duration::from_secs(10));
    assert_eq!(settings.to_string(), "control-plane");
}

#[test]
fn endpoints_are_what_the_specification_makes_of_them() {
    let (all, own) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
    let protocol = "OTEL_EXPORTER_OTLP_PROTOCOL";
    for (case, variables, expected) in [
        ("for all signals", &[(all, "http://c:4318")][..], "http://c:4318/v1/metrics"),
        ("with a path", &[(all, "https://c/otlp/")], "https://c/otlp/v1/metrics"),
        ("for metrics, as it is", &[(all, "http://d"), (own, "http://c/x")], "http://c/x"),
        ("for gRPC", &[(all, "http://c:4317/x"), (protocol, "grpc")], "http://c:4317/"),
        (
            "an address of IPv6",
            &[(all, "http://[fd42::1]:4318")],
            "http://[fd42::1]:4318/v1/metrics",
        ),
    ] {
        let settings = read(variables).unwrap();
        assert_eq!(settings.metrics.unwrap().endpoint.to_string(), expected, "case: {case}");
    }
}

#[test]
fn a_signals_own_variable_goes_before_that_for_all() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", " api-key = a%2Cb , x=y "),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "30000"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=shop,motto=a%20b"),
        ("OTEL_SERVICE_NAME", "till"),
    ])
    .unwrap();
    let collector = settings.metrics.clone().unwrap();
    let headers: Vec<_> =
        collector.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(headers, [("api-key", &b"a,b"[..]), ("x", b"y")]);
    assert_eq!(collector.timeout, Duration::from_millis(500));
    assert_eq!(settings.interval, Duration::from_secs(30));
    assert_eq!(settings.resource[1], ("motto".to_owned(), "a b".to_owned()));
    assert_eq!(settings.service_name.as_deref(), Some("till"));
    let printed = format!("{settings:?} {settings}");
    assert!(!printed.contains("a,b") && !printed.contains("api-key"), "{printed}");
}

#[test]
fn metrics_can_be_turned_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
    assert!(!read(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_enabled);
    assert!(read(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]).unwrap().metrics.is_none());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let problems = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
        ("OTEL_SDK_DISABLED", "1"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
    ]);
    let problems = problems.unwrap_err();
    assert_eq!(problems.len(), 10, "{problems:?}");
    let all = problems.join("\n");
    assert!(!all.contains("secret"), "{all}");
    for said in
        ["COMPRESSION=\"gzip\" (want none: other compression is not supported)", "(want a URL"]
    {
        assert!(all.contains(said), "{all}");
    }
}

#[test]
fn an_endpoint_without_a_scheme_or_with_a_password_is_refused() {
    for text in ["collector", "ftp://c", "http://", "http://me:secret@c", "/path"] {
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", text)]).is_err(), "case: {text}");
    }
}

#[test]
fn every_variable_has_its_own_flag() {
    let flags: std::collections::HashSet<_> = variables().map(|variable| variable.flag).collect();
    assert_eq!(flags.len(), variables().count());
    for variable in variables() {
        assert_eq!(variable.name.to_lowercase().replace('_', "-"), variable.flag);
    }
}
