//! The real OpenTelemetry collector (`tests/collector`), as a pod of a world or beside the test, and what it was sent, as
//! it wrote that down.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::manifest::{Pod, Service};
use crate::requirements;

/// The program, as `.ci/run` calls it.
pub const PROGRAM: &str = "otel-collector";
/// Where it takes OTLP/gRPC.
pub const GRPC_PORT: u16 = 4317;
/// Where it takes OTLP/HTTP.
pub const HTTP_PORT: u16 = 4318;
/// Of its pod, and of the headless service that leads to it.
pub const NAME: &str = "collector";

/// The files of a collector: its configuration, and what it was sent. They go with this value.
#[derive(Debug)]
pub struct Collector {
    files: TempDir,
}

/// A receiver that the collector is to have.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it takes OTLP/gRPC.
    pub grpc: String,
    /// Where it takes OTLP/HTTP.
    pub http: String,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
}

/// With what certificates a receiver speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its own, PEM.
    pub certificate: PathBuf,
    /// The key of it, PEM.
    pub key: PathBuf,
    /// Whose clients it takes, PEM; `None`: anybody.
    pub client_authority: Option<PathBuf>,
}

impl Collector {
    /// One that takes all signals on the usual ports.
    pub fn new() -> Result<Self> {
        let everywhere = |port: u16| format!("0.0.0.0:{port}");
        let (grpc, http) = (everywhere(GRPC_PORT), everywhere(HTTP_PORT));
        Self::listening(&[Listener { grpc, http, tls: None }])
    }

    /// One that takes all signals from these receivers.
    pub fn listening(listeners: &[Listener]) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("hd-").tempdir()?;
        std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o755))?;
        let collector = Self { files };
        let mut receivers = serde_json::Map::new();
        for (number, listener) in listeners.iter().enumerate() {
            receivers.insert(format!("otlp/{number}"), receiver(listener));
        }
        let names: Vec<&String> = receivers.keys().collect();
        let mut exporters = serde_json::Map::new();
        let mut pipelines = serde_json::Map::new();
        for signal in SIGNALS {
            let exporter = format!("file/{signal}");
            let path = collector.path(&format!("{signal}.json"));
            let file = json!({ "path": path, "append": true, "flush_interval": "100ms" });
            exporters.insert(exporter.clone(), file);
            let pipeline = json!({ "receivers": names, "exporters": [exporter] });
            pipelines.insert(signal.to_owned(), pipeline);
        }
        let telemetry = json!({ "metrics": { "level": "none" }, "logs": { "level": "debug" } });
        let configuration = json!({
            "receivers": receivers,
            "exporters": exporters,
            "service": { "pipelines": pipelines, "telemetry": telemetry },
        });
        std::fs::write(collector.path("collector.yaml"), configuration.to_string())?;
        Ok(collector)
    }

    /// What is to be run.
    pub fn command(&self) -> Result<[String; 3]> {
        let program = requirements::find(PROGRAM).context("no collector")?;
        let configuration = self.path("collector.yaml").display().to_string();
        Ok([program.display().to_string(), "--config".to_owned(), configuration])
    }

    /// It as a pod, beside which there is no proxy.
    pub fn pod(&self) -> Result<Pod> {
        Ok(Pod::new(NAME).unmeshed().command(&self.command()?).port(GRPC_PORT).port(HTTP_PORT))
    }

    /// By which its pod is found.
    pub fn service() -> Service {
        Service::new(NAME).headless().port(GRPC_PORT, GRPC_PORT).port(HTTP_PORT, HTTP_PORT)
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// All exports of metrics, in order.
    pub fn metrics(&self) -> Result<Received> {
        self.read("metrics.json")
    }

    /// All spans, in the order in which they came.
    pub fn spans(&self) -> Result<Vec<Told>> {
        Ok(self.read("traces.json")?.told(["resourceSpans", "scopeSpans", "spans"]))
    }

    /// All records of logs, in the order in which they came.
    pub fn records(&self) -> Result<Vec<Told>> {
        Ok(self.read("logs.json")?.told(["resourceLogs", "scopeLogs", "logRecords"]))
    }

    /// Everything that it was sent, of all signals, as text.
    pub fn text(&self) -> Result<String> {
        let files = SIGNALS.iter().map(|signal| self.path(&format!("{signal}.json")));
        files.map(|file| read(&file)).collect()
    }

    /// All exports of a signal, in order.
    pub fn read(&self, file: &str) -> Result<Received> {
        let text = read(&self.path(file))?;
        // Each begins like this, also where a collector that was killed left no end of a line, or half an export.
        let begins = text.match_indices("{\"resource").map(|(index, _)| index);
        let begins: Vec<usize> =
            begins.filter(|index| text.get(*index..).is_some_and(is_export)).collect();
        let ends = begins.iter().skip(1).copied().chain([text.len()]);
        let pieces = begins.iter().zip(ends).filter_map(|(begin, end)| text.get(*begin..end));
        Ok(Received(pieces.filter_map(|piece| serde_json::from_str(piece.trim()).ok()).collect()))
    }
}

/// Not a resource within one.
fn is_export(text: &str) -> bool {
    ["Metrics", "Spans", "Logs"]
        .iter()
        .any(|what| text.strip_prefix("{\"resource").is_some_and(|rest| rest.starts_with(what)))
}

fn read(file: &Path) -> Result<String> {
    match file.exists() {
        true => Ok(String::from_utf8_lossy(&std::fs::read(file)?).into_owned()),
        false => Ok(String::new()),
    }
}

fn receiver(listener: &Listener) -> Value {
    let protocol = |endpoint: &str| {
        let Some(tls) = &listener.tls else { return json!({ "endpoint": endpoint }) };
        json!({
            "endpoint": endpoint,
            "tls": {
                "cert_file": tls.certificate,
                "key_file": tls.key,
                "client_ca_file": tls.client_authority.clone().unwrap_or_default(),
            },
        })
    };
    json!({ "protocols": { "grpc": protocol(&listener.grpc), "http": protocol(&listener.http) } })
}

/// Exports as the collector wrote them: OTLP in JSON.
#[derive(Clone, Debug)]
pub struct Received(pub Vec<Value>);

/// One series of a metric, as it was told last.
#[derive(Clone, Debug)]
pub struct Series {
    /// The metric's unit.
    pub unit: String,
    /// Such as `exponentialHistogram`.
    pub kind: &'static str,
    /// OTLP's number of it; `None`: this kind has none.
    pub temporality: Option<u64>,
    /// What is said of whom it is of.
    pub resource: BTreeMap<String, String>,
    /// What tells it apart.
    pub attributes: BTreeMap<String, String>,
    /// The point itself.
    pub point: Value,
}

impl Series {
    /// How many there were: of a histogram its count, of a sum its value.
    pub fn count(&self) -> Result<u64> {
        let count = if self.kind == "exponentialHistogram" { "count" } else { "asInt" };
        number(&self.point, count)
    }

    /// Whether it is of this pod, and all of these attributes are as told.
    pub fn is_of(&self, pod: &str, attributes: &[(&str, &str)]) -> bool {
        let has = |name: &str, value: &str| self.attributes.get(name).is_some_and(|it| it == value);
        self.resource.get("k8s.pod.name").is_some_and(|it| it == pod)
            && attributes.iter().all(|(name, value)| has(name, value))
    }
}

/// A span, or a record of a log.
#[derive(Clone, Debug)]
pub struct Told {
    /// What is said of whom it is of.
    pub resource: BTreeMap<String, String>,
    /// Itself.
    pub record: Value,
}

impl Told {
    /// Whether it is of this pod.
    pub fn is_of(&self, pod: &str) -> bool {
        self.resource.get("k8s.pod.name").is_some_and(|it| it == pod)
    }
}

impl Received {
    /// What is in resources and scopes, as these lists are called.
    fn told(&self, [resources, scopes, records]: [&str; 3]) -> Vec<Told> {
        let resources = self.0.iter().flat_map(|export| list(export, resources));
        let told = resources.flat_map(|resource| {
            let whose = attributes(&resource["resource"]);
            let records = list(resource, scopes).flat_map(|scope| list(scope, records));
            records.map(move |record| Told { resource: whose.clone(), record: record.clone() })
        });
        told.collect()
    }

    /// The last point of every series of every metric, by the metric's name.
    pub fn latest(&self) -> Result<BTreeMap<String, Vec<Series>>> {
        let mut found: BTreeMap<String, BTreeMap<String, Series>> = BTreeMap::new();
        for export in &self.0 {
            for resource in list(export, "resourceMetrics") {
                let whose = attributes(&resource["resource"]);
                let scopes = list(resource, "scopeMetrics");
                for metric in scopes.flat_map(|scope| list(scope, "metrics")) {
                    let name = metric["name"].as_str().context("a metric has no name")?;
                    let all = found.entry(name.to_owned()).or_default();
                    for series in read_metric(metric, &whose)? {
                        let start = series.point.get("startTimeUnixNano");
                        let Series { resource, attributes, .. } = &series;
                        all.insert(format!("{resource:?} {attributes:?} {start:?}"), series);
                    }
                }
            }
        }
        Ok(found.into_iter().map(|(name, all)| (name, all.into_values().collect())).collect())
    }

    /// How many a metric counts for a pod, in all series with these attributes together.
    pub fn count(&self, metric: &str, pod: &str, attributes: &[(&str, &str)]) -> Result<u64> {
        let mut all = self.latest()?;
        let series = all.remove(metric).with_context(|| format!("nothing was told of {metric}"))?;
        series.iter().filter(|series| series.is_of(pod, attributes)).map(Series::count).sum()
    }
}

fn read_metric(metric: &Value, whose: &BTreeMap<String, String>) -> Result<Vec<Series>> {
    let kind = KINDS.into_iter().find(|kind| !metric[kind].is_null());
    let kind = kind.with_context(|| format!("of which kind is this? {metric}"))?;
    let data = &metric[kind];
    let series = list(data, "dataPoints").map(|point| {
        let attributes = attributes(point);
        let ends = number(point, "timeUnixNano")?;
        // A number that is so now began at no time.
        let begins = number(point, "startTimeUnixNano");
        let begins = if kind == "gauge" { begins.unwrap_or_default() } else { begins? };
        ensure!(begins <= ends, "it ends before it begins: {metric}");
        Ok(Series {
            unit: metric["unit"].as_str().unwrap_or_default().to_owned(),
            kind,
            temporality: data["aggregationTemporality"].as_u64(),
            resource: whose.clone(),
            attributes,
            point: point.clone(),
        })
    });
    series.collect()
}

/// The attributes of a resource, a point, a span or a record; values as text.
pub fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pair = |one: &Value| {
        let value = one["value"].as_object()?.values().next()?;
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        Some((one["key"].as_str()?.to_owned(), value))
    };
    list(of, "attributes").filter_map(pair).collect()
}

/// The members of a list; of none, no members.
pub fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

/// A number of 64 bits, which OTLP's JSON has as a text.
pub fn number(of: &Value, name: &str) -> Result<u64> {
    let text = of[name].as_str().with_context(|| format!("no {name} in {of}"))?;
    Ok(text.parse()?)
}

const SIGNALS: [&str; 3] = ["metrics", "traces", "logs"];
const KINDS: [&str; 5] = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
