//! The way to a real collector that speaks TLS: whose certificate is trusted, and what is presented to it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_telemetry::collector::{Collector as Way, SendError};
use heddle_telemetry::otlp::{About, Span};
use heddle_telemetry::settings::{Signal, TelemetrySettings};
use heddle_tests::certificate::{Authority, Wish};
use heddle_tests::collector::{Collector, Listener, Tls};
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use prost::Message as _;
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn a_collector_is_believed_by_its_authority_and_told_who_we_are() -> Result<()> {
    if requirements::skip_without(&[Tool::Collector])? {
        return Ok(());
    }
    let files = Files::write()?;
    let [plain, open, mutual] = [None, Some(false), Some(true)].map(|tls| {
        anyhow::Ok(Listener {
            grpc: free_address()?,
            http: free_address()?,
            tls: tls.map(|is_mutual| Tls {
                certificate: files.path("server.pem"),
                key: files.path("server.key"),
                client_authority: is_mutual.then(|| files.path("authority.pem")),
            }),
        })
    });
    let (plain, open, mutual) = (plain?, open?, mutual?);
    let collector = Collector::listening(&[plain.clone(), open.clone(), mutual.clone()])?;
    let [program, flag, configuration] = collector.command()?;
    let mut command = Command::new(program);
    command.args([flag, configuration]);
    let log = std::fs::File::create(files.path("collector.log"))?;
    command.stderr(log);
    let _running = program::start(command)?;
    wait::until("the collector listens", Duration::from_secs(60), async || {
        for listener in [&plain, &open, &mutual] {
            for address in [&listener.grpc, &listener.http] {
                tokio::net::TcpStream::connect(address).await.context(address.clone())?;
            }
        }
        Ok(())
    })
    .await?;

    let (ours, theirs) = ("authority.pem", "stranger.pem");
    let mut taken = 0;
    for protocol in ["grpc", "http/protobuf"] {
        for (case, listener, scheme, authority, client, is_taken) in [
            ("without TLS", &plain, "http", None, None, true),
            ("a good one", &open, "https", Some(ours), None, true),
            ("another authority", &open, "https", Some(theirs), None, false),
            ("those of the system", &open, "https", None, None, false),
            ("it is not asked for", &open, "https", Some(ours), Some("client"), true),
            ("not who we are", &mutual, "https", Some(ours), None, false),
            ("who we are", &mutual, "https", Some(ours), Some("client"), true),
            ("a stranger's", &mutual, "https", Some(ours), Some("imposter"), false),
            ("plain text to TLS", &open, "http", None, None, false),
        ] {
            let address = if protocol == "grpc" { &listener.grpc } else { &listener.http };
            let endpoint = format!("{scheme}://{}", address.replace("127.0.0.1", "localhost"));
            let way = way(&files, &endpoint, protocol, authority, client)?;
            let answer = way.send(Signal::Metrics, export().encode_to_vec().into()).await;
            let answer: Result<ExportMetricsServiceResponse, SendError> = answer;
            ensure!(answer.is_ok() == is_taken, "{protocol}, {case}: {answer:?}");
            taken += usize::from(is_taken);
        }
    }
    wait::until("all is written down", Duration::from_secs(30), async || {
        let written = collector.metrics()?.0.len();
        ensure!(written == taken, "{written} of {taken}");
        Ok(())
    })
    .await
}

fn way(
    files: &Files,
    endpoint: &str,
    protocol: &str,
    authority: Option<&str>,
    client: Option<&str>,
) -> Result<Way> {
    let file = |name: String| files.path(&name).display().to_string();
    let settings = TelemetrySettings::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_CERTIFICATE" => authority.map(|name| file(name.to_owned())),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" => client.map(|name| file(format!("{name}.pem"))),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY" => client.map(|name| file(format!("{name}.key"))),
        _ => None,
    });
    let settings = settings.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(Way::new(settings.metrics.context("no collector is named")?, None)?)
}

fn export() -> ExportMetricsServiceRequest {
    let point = Span { start: 1, now: 2 }.point(Vec::new(), 1.0);
    let metric = About { name: "heddle.test", unit: "", description: "" }.counter(vec![point]);
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

/// An address of this machine where nobody listens.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Certificates of two authorities.
struct Files(TempDir);

impl Files {
    fn write() -> Result<Self> {
        let files = Self(tempfile::tempdir()?);
        let (authority, stranger) = (Authority::stranger()?, Authority::stranger()?);
        std::fs::write(files.path("authority.pem"), authority.certificate_pem())?;
        std::fs::write(files.path("stranger.pem"), stranger.certificate_pem())?;
        for (of, name, dns) in [
            (&authority, "server", "localhost"),
            (&authority, "client", "proxy"),
            (&stranger, "imposter", "proxy"),
        ] {
            let wish = Wish { uris: Vec::new(), dns: dns.to_owned(), expired: false };
            of.certify(&wish)?.write(files.0.path(), name)?;
        }
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }
}
