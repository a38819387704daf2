//! Which collector proxies tell of traffic, and how many requests they trace, as OpenTelemetry's variables
//! say it to the proxy.

use std::fmt;

use serde_json::{Value, json};

use crate::config::parse_name;

/// What the mesh is set up with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// A URL; `None`: proxies tell the control plane alone.
    pub collector: Option<String>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Of requests that come without a trace, unless a pod says otherwise.
    pub trace_ratio: TraceRatio,
    /// Where the headers for the collector are, unless a pod says otherwise.
    pub headers_secret: Option<SecretName>,
}

/// The name of a Secret, of whichever namespace a pod is in. Its key `headers` has the headers for the collector: they
/// may be secret, and so are never written into a pod, where everybody who may look at pods would read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName(String);

impl SecretName {
    /// Reads a DNS subdomain (RFC 1123), as names of Secrets are.
    pub fn parse(text: &str) -> Option<Self> {
        parse_name(text).map(Self)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP with binary messages.
    #[default]
    HttpProtobuf,
    /// OTLP/gRPC.
    Grpc,
}

impl Protocol {
    /// As the variable writes it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::HttpProtobuf, Self::Grpc].into_iter().find(|known| known.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// How many of one are traced: a number from 0 to 1, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRatio(String);

impl Default for TraceRatio {
    /// None.
    fn default() -> Self {
        Self("0".to_owned())
    }
}

impl TraceRatio {
    /// Reads a number.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE-".contains(&byte));
        let ratio: f64 = text.parse().ok().filter(|_| is_number)?;
        (0.0..=1.0).contains(&ratio).then(|| Self(text.to_owned()))
    }

    fn is_zero(&self) -> bool {
        self.0.parse() == Ok(0.0)
    }
}

impl fmt::Display for TraceRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is what the proxy takes for a collector: a URL with a host, and without a user.
pub fn parse_collector(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?;
    let is_host = !authority.host().is_empty() && !authority.as_str().contains('@');
    (is_known && is_host && uri.query().is_none()).then(|| text.to_owned())
}

/// The proxy's variables. What it does by itself is not said.
pub(crate) fn variables(
    telemetry: &TelemetrySettings,
    of_pod: Option<&TraceRatio>,
) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if let Some(collector) = &telemetry.collector {
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.clone()));
        let protocol = telemetry.protocol.as_str().to_owned();
        variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol));
    }
    let ratio = of_pod.unwrap_or(&telemetry.trace_ratio);
    if !ratio.is_zero() {
        variables.push(("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()));
        variables.push(("OTEL_TRACES_SAMPLER_ARG", ratio.to_string()));
    }
    variables
}

/// The headers for the collector, of the pod's Secret or the mesh's; nothing without a collector. A pod starts without the
/// Secret as well: telemetry is not to keep an application from starting. The proxy is told of the Secret besides, and warns
/// if nothing has come of it.
pub(crate) fn headers(
    telemetry: &TelemetrySettings,
    of_pod: Option<&SecretName>,
) -> Option<[Value; 2]> {
    telemetry.collector.as_ref()?;
    let SecretName(name) = of_pod.or(telemetry.headers_secret.as_ref())?;
    let key = json!({"name": name, "key": HEADERS_KEY, "optional": true});
    Some([
        json!({"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": key}}),
        json!({"name": "HEDDLE_COLLECTOR_HEADERS_SECRET", "value": name}),
    ])
}

/// Of a Secret with headers; in the control plane's Secret it is the same one.
const HEADERS_KEY: &str = "headers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_numbers_from_0_to_1() {
        for (text, expected) in [
            ("0", true),
            ("1", true),
            ("0.25", true),
            ("1e-3", true),
            ("1.1", false),
            ("-0.1", false),
            ("10%", false),
            ("NaN", false),
            ("inf", false),
            ("+1", false),
            ("", false),
        ] {
            assert_eq!(TraceRatio::parse(text).is_some(), expected, "case: {text}");
        }
    }

    #[test]
    fn collectors_are_urls_that_the_proxy_takes() {
        for (text, expected) in [
            ("http://otel-collector.observability:4318", true),
            ("https://c/otlp", true),
            ("http://[fd42::1]:4317", true),
            ("collector:4317", false),
            ("grpc://c", false),
            ("http://", false),
            ("http://me:secret@c", false),
            ("http://c?key=secret", false),
            ("http://a b", false),
        ] {
            assert_eq!(parse_collector(text).is_some(), expected, "case: {text}");
        }
    }

    #[test]
    fn headers_come_from_a_secret_of_the_pod_or_the_mesh_if_there_is_a_collector() {
        let secret = |text: &str| SecretName::parse(text).unwrap();
        for (case, collector, mesh, pod, expected) in [
            ("none", Some("http://c"), None, None, None),
            ("the mesh's", Some("http://c"), Some("a"), None, Some("a")),
            ("the pod's", Some("http://c"), None, Some("b.c"), Some("b.c")),
            ("both", Some("http://c"), Some("a"), Some("b.c"), Some("b.c")),
            ("no collector", None, Some("a"), Some("b.c"), None),
        ] {
            let telemetry = TelemetrySettings {
                collector: collector.map(str::to_owned),
                headers_secret: mesh.map(secret),
                ..TelemetrySettings::default()
            };
            let made = headers(&telemetry, pod.map(secret).as_ref());
            let expected = expected.map(|name| {
                let key = json!({"name": name, "key": "headers", "optional": true});
                [
                    json!({"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": key}}),
                    json!({"name": "HEDDLE_COLLECTOR_HEADERS_SECRET", "value": name}),
                ]
            });
            assert_eq!(made, expected, "case: {case}");
        }
    }

    #[test]
    fn what_names_no_secret_is_refused() {
        for bad in ["", "A", "a/b", "api-key=abc", "a..b", "-a"] {
            assert_eq!(SecretName::parse(bad), None, "case: {bad}");
        }
    }

    #[test]
    fn a_pods_ratio_goes_before_the_meshs() {
        let ratio = |text: &str| TraceRatio::parse(text).unwrap();
        let sampler = |mesh: &str, pod: Option<&str>| {
            let telemetry =
                TelemetrySettings { trace_ratio: ratio(mesh), ..TelemetrySettings::default() };
            let variables = variables(&telemetry, pod.map(ratio).as_ref());
            variables.into_iter().find(|(name, _)| *name == "OTEL_TRACES_SAMPLER_ARG")
        };
        let says = |text: &str| Some(("OTEL_TRACES_SAMPLER_ARG", text.to_owned()));
        assert_eq!(sampler("0", None), None);
        assert_eq!(sampler("0.5", None), says("0.5"));
        assert_eq!(sampler("0.5", Some("1")), says("1"));
        assert_eq!(sampler("0.5", Some("0.0")), None);
    }
}
