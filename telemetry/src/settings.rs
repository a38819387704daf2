//! The variables of OpenTelemetry's specification that say where telemetry goes: which there are, and from
//! texts to settings. All that is wrong is told at once. Reads no variable itself.
//!
//! Source: OpenTelemetry's "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".

pub mod batch;
pub mod sampler;
mod values;
pub mod variables;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use crate::settings::batch::{BatchSettings, Processor};
use crate::settings::sampler::Sampler;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Numbers.
    Metrics,
    /// Spans.
    Traces,
    /// Records of a log.
    Logs,
}

impl Signal {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }

    /// As in the names of variables.
    fn infix(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS_",
            Self::Traces => "TRACES_",
            Self::Logs => "LOGS_",
        }
    }

    /// What is called for gRPC.
    pub(crate) fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    /// What is called for HTTP, below an endpoint that is for all signals.
    fn http_path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Traces => "v1/traces",
            Self::Logs => "v1/logs",
        }
    }
}

/// Where one signal goes besides the mesh's own control plane.
#[derive(Clone, PartialEq, Eq)]
pub struct CollectorSettings {
    /// The whole address, path included.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Sent with each export; they may be secret, and are printed nowhere.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one export may take.
    pub timeout: Duration,
    /// The authorities that its certificate is from, PEM; `None`: those of the system.
    pub certificate: Option<PathBuf>,
    /// What is presented to it, and the key, PEM.
    pub client: Option<ClientFiles>,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with binary messages.
    HttpProtobuf,
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            _ => Err(()),
        }
    }
}

/// What the variables say.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// False: nothing leaves by OTLP, not even to the control plane.
    pub is_enabled: bool,
    /// Where metrics go; `None`: to no collector.
    pub metrics: Option<CollectorSettings>,
    /// How often metrics go to the collector.
    pub interval: Duration,
    /// Where spans go; `None`: nowhere, and nothing is traced.
    pub traces: Option<CollectorSettings>,
    /// How spans wait and go.
    pub spans: BatchSettings,
    /// Which requests are traced.
    pub sampler: Sampler,
    /// Where records of a log go; `None`: to no collector.
    pub logs: Option<CollectorSettings>,
    /// How records of a log wait and go.
    pub log_records: BatchSettings,
    /// How the process calls itself, if it is told.
    pub service_name: Option<String>,
    /// What else it says of itself.
    pub resource: Vec<(String, String)>,
}

impl TelemetrySettings {
    /// Reads what `variable` holds; an empty text is as good as none. Fails with one sentence for each
    /// that is wrong.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader { variable, problems: Vec::new() };
        let switch = "true or false";
        let is_disabled = reader.parsed("OTEL_SDK_DISABLED", switch, values::switch);
        let [metrics, traces, logs] = [
            (Signal::Metrics, "OTEL_METRICS_EXPORTER"),
            (Signal::Traces, "OTEL_TRACES_EXPORTER"),
            (Signal::Logs, "OTEL_LOGS_EXPORTER"),
        ]
        .map(|(signal, exporter)| reader.exported(signal, exporter));
        let interval =
            reader.parsed("OTEL_METRIC_EXPORT_INTERVAL", MILLISECONDS, values::milliseconds);
        let spans = batch::read(&mut reader, Processor::Spans);
        let log_records = batch::read(&mut reader, Processor::LogRecords);
        let sampler = sampler::read(&mut reader);
        let service_name = reader.text("OTEL_SERVICE_NAME");
        let pairs = "KEY=VALUE,KEY=VALUE with what is not ASCII, and commas, percent-encoded";
        let resource = reader.parsed("OTEL_RESOURCE_ATTRIBUTES", pairs, values::pairs);
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        Ok(Self {
            is_enabled: !is_disabled.unwrap_or(false),
            metrics,
            interval: interval.unwrap_or(INTERVAL),
            traces,
            spans,
            sampler,
            logs,
            log_records,
            service_name,
            resource: resource.unwrap_or_default(),
        })
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            // What may be secret is not repeated.
            let shown = if name.ends_with("HEADERS") { "…".to_owned() } else { text };
            let problem = format!("{name}={shown:?} (want {want})");
            // What is for all signals is read for each.
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        value
    }

    /// The name of the variable that is for this signal, or that for all of them.
    fn name(&self, signal: Signal, suffix: &str) -> String {
        let own = format!("{PREFIX}{}{suffix}", signal.infix());
        match self.text(&own) {
            Some(_) => own,
            None => format!("{PREFIX}{suffix}"),
        }
    }

    /// Where a signal goes, if it is to go anywhere.
    fn exported(&mut self, signal: Signal, exporter: &str) -> Option<CollectorSettings> {
        let is_wanted = self.parsed(exporter, "otlp or none", |text| match text {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => None,
        });
        self.collector(signal).filter(|_| is_wanted.unwrap_or(true))
    }

    fn collector(&mut self, signal: Signal) -> Option<CollectorSettings> {
        let mut read = |suffix: &str| self.name(signal, suffix);
        let [endpoint, protocol, headers, timeout, compression] =
            ["ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION"].map(&mut read);
        let [certificate, client_certificate, client_key] =
            ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"].map(&mut read);
        let is_own = endpoint.contains(signal.infix());
        let protocol = self.parsed(&protocol, "grpc or http/protobuf", |text| text.parse().ok());
        let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
        let want = "a URL such as http://collector:4318 or https://collector:4317";
        let endpoint = self.parsed(&endpoint, want, |text| {
            values::endpoint(text, protocol, (!is_own).then(|| signal.http_path()))
        });
        let pairs = "NAME=VALUE,NAME=VALUE with values percent-encoded";
        let headers = self.parsed(&headers, pairs, values::headers);
        let timeout = self.parsed(&timeout, MILLISECONDS, values::milliseconds);
        let none = "none: other compression is not supported";
        self.parsed(&compression, none, |text| (text == "none").then_some(()));
        let client = self.client(&client_certificate, &client_key);
        Some(CollectorSettings {
            endpoint: endpoint?,
            protocol,
            headers: headers.unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            certificate: self.text(&certificate).map(PathBuf::from),
            client,
        })
    }

    /// Both files, or none.
    fn client(&mut self, certificate: &str, key: &str) -> Option<ClientFiles> {
        let (set, missing) = match (self.text(certificate), self.text(key)) {
            (Some(certificate), Some(key)) => {
                return Some(ClientFiles { certificate: certificate.into(), key: key.into() });
            }
            (None, None) => return None,
            (Some(_), None) => (certificate, key),
            (None, Some(_)) => (key, certificate),
        };
        let problem = format!("{set} is set without {missing}");
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        None
    }
}

impl CollectorSettings {
    /// The endpoint, for logs: without its query, which may be secret.
    pub fn shown_endpoint(&self) -> String {
        let endpoint = self.endpoint.to_string();
        endpoint.split('?').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for CollectorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorSettings")
            .field("endpoint", &self.shown_endpoint())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TelemetrySettings {
    /// For the log: without headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_enabled {
            return f.write_str("disabled");
        }
        f.write_str("control-plane")?;
        let collectors = [
            (Signal::Metrics, &self.metrics),
            (Signal::Traces, &self.traces),
            (Signal::Logs, &self.logs),
        ];
        for (signal, collector) in collectors {
            if let Some(collector) = collector {
                write!(f, ",{}:{}", signal.as_str(), collector.shown_endpoint())?;
            }
        }
        Ok(())
    }
}

const PREFIX: &str = "OTEL_EXPORTER_OTLP_";
/// How long one export may take. Source: the specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often metrics are exported. The specification's default is a minute; the mesh tells its control
/// plane each 10 seconds, and a collector sees no less.
const INTERVAL: Duration = Duration::from_secs(10);

const MILLISECONDS: &str = "milliseconds above zero, as 10000";

#[cfg(test)]
mod tests;
