//! Which collector proxies tell of traffic, and how many requests they trace, as OpenTelemetry's variables
//! say it to the proxy.

use std::fmt;

/// What the mesh is set up with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// A URL; `None`: proxies tell the control plane alone.
    pub collector: Option<String>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Of requests that come without a trace, unless a pod says otherwise.
    pub trace_ratio: TraceRatio,
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
