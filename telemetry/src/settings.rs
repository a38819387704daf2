//! The variables of OpenTelemetry's specification that say where telemetry goes: which there are, and from
//! texts to settings. All that is wrong is told at once. Reads no variable itself.
//!
//! Source: OpenTelemetry's "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".

mod values;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// One of the variables, and how it is spelled as a flag.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// As the specification has it.
    pub name: &'static str,
    /// The same as a flag.
    pub flag: &'static str,
    /// What it takes, in a word.
    pub value_name: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Numbers.
    Metrics,
}

impl Signal {
    /// As in the names of variables.
    fn infix(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS_",
        }
    }

    /// What is called for gRPC.
    pub(crate) fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// What is called for HTTP, below an endpoint that is for all signals.
    fn http_path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
        }
    }
}

/// Where one signal goes besides the mesh's own control plane.
#[derive(Clone)]
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
        let exporter = reader.parsed("OTEL_METRICS_EXPORTER", "otlp or none", |text| match text {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => None,
        });
        let metrics = reader.collector(Signal::Metrics).filter(|_| exporter.unwrap_or(true));
        let milliseconds = "milliseconds above zero, as 10000";
        let interval =
            reader.parsed("OTEL_METRIC_EXPORT_INTERVAL", milliseconds, values::milliseconds);
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
            self.problems.push(format!("{name}={shown:?} (want {want})"));
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
        let milliseconds = "milliseconds above zero, as 10000";
        let timeout = self.parsed(&timeout, milliseconds, values::milliseconds);
        let none = "none: other compression is not supported";
        self.parsed(&compression, none, |text| (text == "none").then_some(()));
        let client = match (self.text(&client_certificate), self.text(&client_key)) {
            (Some(certificate), Some(key)) => {
                Some(ClientFiles { certificate: certificate.into(), key: key.into() })
            }
            (None, None) => None,
            (Some(_), None) => {
                self.problems.push(format!("{client_certificate} is set without {client_key}"));
                None
            }
            (None, Some(_)) => {
                self.problems.push(format!("{client_key} is set without {client_certificate}"));
                None
            }
        };
        Some(CollectorSettings {
            endpoint: endpoint?,
            protocol,
            headers: headers.unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            certificate: self.text(&certificate).map(PathBuf::from),
            client,
        })
    }
}

impl fmt::Debug for CollectorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorSettings")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TelemetrySettings {
    /// For the log: without headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.metrics, self.is_enabled) {
            (_, false) => f.write_str("disabled"),
            (None, true) => f.write_str("control-plane"),
            (Some(collector), true) => write!(f, "control-plane,{}", collector.endpoint),
        }
    }
}

const PREFIX: &str = "OTEL_EXPORTER_OTLP_";
/// How long one export may take. Source: the specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often metrics are exported. The specification's default is a minute; the mesh tells its control
/// plane each 10 seconds, and a collector sees no less.
const INTERVAL: Duration = Duration::from_secs(10);

/// Those that say how a receiver is reached: for all signals, and for one of them.
macro_rules! exporting {
    ($infix:literal, $flag:literal) => {
        [
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "ENDPOINT"),
                flag: concat!("otel-exporter-otlp-", $flag, "endpoint"),
                value_name: "URL",
                help: "A collector that is told, too, besides the control plane",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "PROTOCOL"),
                flag: concat!("otel-exporter-otlp-", $flag, "protocol"),
                value_name: "PROTOCOL",
                help: "grpc or http/protobuf, which is the default",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "HEADERS"),
                flag: concat!("otel-exporter-otlp-", $flag, "headers"),
                value_name: "PAIRS",
                help: "Headers for the collector: NAME=VALUE,NAME=VALUE",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "TIMEOUT"),
                flag: concat!("otel-exporter-otlp-", $flag, "timeout"),
                value_name: "MILLISECONDS",
                help: "How long one export may take",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "COMPRESSION"),
                flag: concat!("otel-exporter-otlp-", $flag, "compression"),
                value_name: "COMPRESSION",
                help: "none: others are not supported",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "CERTIFICATE"),
                flag: concat!("otel-exporter-otlp-", $flag, "certificate"),
                value_name: "FILE",
                help: "Authorities of the collector's certificate, PEM",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "CLIENT_CERTIFICATE"),
                flag: concat!("otel-exporter-otlp-", $flag, "client-certificate"),
                value_name: "FILE",
                help: "The certificate that the collector is shown, PEM",
            },
            Variable {
                name: concat!("OTEL_EXPORTER_OTLP_", $infix, "CLIENT_KEY"),
                flag: concat!("otel-exporter-otlp-", $flag, "client-key"),
                value_name: "FILE",
                help: "Its key, PEM",
            },
        ]
    };
}

const FOR_ALL: [Variable; 8] = exporting!("", "");
const FOR_METRICS: [Variable; 8] = exporting!("METRICS_", "metrics-");
const OTHERS: [Variable; 5] = [
    Variable {
        name: "OTEL_SDK_DISABLED",
        flag: "otel-sdk-disabled",
        value_name: "BOOLEAN",
        help: "true: nothing is exported, not even to the control plane",
    },
    Variable {
        name: "OTEL_METRICS_EXPORTER",
        flag: "otel-metrics-exporter",
        value_name: "EXPORTER",
        help: "otlp, or none: no metrics to the collector",
    },
    Variable {
        name: "OTEL_METRIC_EXPORT_INTERVAL",
        flag: "otel-metric-export-interval",
        value_name: "MILLISECONDS",
        help: "How often metrics go to the collector; 10000 by default",
    },
    Variable {
        name: "OTEL_SERVICE_NAME",
        flag: "otel-service-name",
        value_name: "NAME",
        help: "The name under which telemetry is sent, instead of the workload's",
    },
    Variable {
        name: "OTEL_RESOURCE_ATTRIBUTES",
        flag: "otel-resource-attributes",
        value_name: "PAIRS",
        help: "What else telemetry says of the workload: KEY=VALUE,KEY=VALUE",
    },
];

/// All variables.
pub fn variables() -> impl Iterator<Item = Variable> {
    FOR_ALL.into_iter().chain(FOR_METRICS).chain(OTHERS)
}

#[cfg(test)]
mod tests;
