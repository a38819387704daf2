//! From variables to settings, and what is said of wrong ones.

use super::*;
use crate::settings::variables::variables;

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
fn each_signal_has_its_own_way_and_can_be_turned_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let settings = read(&[
        endpoint,
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/x?key=secret"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ])
    .unwrap();
    assert!(settings.metrics.is_none());
    let logs = settings.logs.as_ref().unwrap();
    assert_eq!(
        (logs.endpoint.to_string(), logs.protocol),
        ("http://c:4318/".into(), Protocol::Grpc)
    );
    let traces = settings.traces.as_ref().unwrap();
    assert_eq!(traces.endpoint.to_string(), "https://t/x?key=secret");
    assert_eq!(settings.to_string(), "control-plane,traces:https://t/x,logs:http://c:4318/");
    assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
    let none = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none"), endpoint];
    let settings = read(&none).unwrap();
    assert_eq!((settings.traces.is_none(), settings.logs.is_none()), (true, true));
    assert_eq!(settings.to_string(), "control-plane,metrics:http://c:4318/v1/metrics");
}

#[test]
fn batches_are_as_the_specification_has_them_or_as_set() {
    let usual = read(&[]).unwrap();
    let seconds = |batch: BatchSettings| (batch.delay.as_secs(), batch.timeout.as_secs());
    assert_eq!((seconds(usual.spans), seconds(usual.log_records)), ((5, 30), (1, 30)));
    assert_eq!((usual.spans.queue_limit, usual.log_records.batch_limit), (2048, 512));
    let set = read(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "7"),
    ])
    .unwrap();
    assert_eq!(set.spans.delay, Duration::from_millis(250));
    assert_eq!((set.spans.queue_limit, set.spans.batch_limit), (100, 100));
    assert_eq!(set.log_records.batch_limit, 7);
    for (name, text) in [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "30s"),
    ] {
        let problems = read(&[(name, text)]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(name), "{problems:?}");
    }
}

#[test]
fn samplers_are_those_of_the_specification() {
    let (kind, argument) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    for (variables, expected) in [
        (&[][..], Some((true, 0.0))),
        (&[(kind, "always_on")], Some((false, 1.0))),
        (&[(kind, "parentbased_always_on")], Some((true, 1.0))),
        (&[(kind, "parentbased_always_off")], Some((true, 0.0))),
        (&[(kind, "parentbased_traceidratio")], Some((true, 1.0))),
        (&[(kind, "parentbased_traceidratio"), (argument, "0.25")], Some((true, 0.25))),
        (&[(kind, "traceidratio"), (argument, "0")], Some((false, 0.0))),
        (&[(kind, "traceidratio"), (argument, "1.1")], None),
        (&[(kind, "traceidratio"), (argument, "NaN")], None),
        (&[(kind, "always_on"), (argument, "0.5")], None),
        (&[(argument, "0.5")], None),
        (&[(kind, "jaeger_remote")], None),
    ] {
        let read = read(variables);
        let sampler =
            read.map(|settings| (settings.sampler.follows_parent, settings.sampler.ratio));
        assert_eq!(sampler.ok(), expected, "case: {variables:?}");
    }
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
