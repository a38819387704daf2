//! A collector that keeps what it is sent: takes spans, records of a log and metrics by OTLP/gRPC and OTLP/HTTP, and shows
//! them as JSON at `/spans`, `/logs` and `/metrics`, on the port of HTTP, each with the header `api-key` that it came with. Of
//! metrics it keeps what each process said last. `POST /clear` forgets all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

#[derive(Debug, Parser)]
struct Arguments {
    /// The port of OTLP/gRPC
    #[arg(long, default_value_t = 4317)]
    grpc: u16,
    /// The port of OTLP/HTTP, and of what is shown
    #[arg(long, default_value_t = 4318)]
    http: u16,
}

/// What was sent. Clones share it.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    spans: Vec<Value>,
    logs: Vec<Value>,
    /// By the process's `service.instance.id`.
    metrics: BTreeMap<String, Value>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { grpc, http } = Arguments::parse();
    let everywhere = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let kept = Kept::default();
    let router = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(kept.clone()))
        .add_service(LogsServiceServer::new(kept.clone()))
        .add_service(MetricsServiceServer::new(kept.clone()));
    let listener = TcpListener::bind(everywhere(http)).await?;
    tokio::select! {
        served = router.serve(everywhere(grpc)) => Ok(served?),
        served = serve_http(listener, kept) => served,
    }
}

async fn serve_http(listener: TcpListener, kept: Kept) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let kept = kept.clone();
        let service = service_fn(move |request| answer(kept.clone(), request));
        #[expect(clippy::disallowed_methods, reason = "a program of tests has no tasks to name")]
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // What a client does wrong ends its own connection only.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(kept: Kept, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: Vec<Value>| Ok(Value::from(value).to_string().into_bytes());
    let key = head.headers.get(KEY).map_or(Value::Null, |value| shown(value.as_bytes()));
    let answered = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/traces") => ExportTraceServiceRequest::decode(body).map(|message| {
            kept.keep_spans(message, &key);
            Vec::new()
        }),
        (&Method::POST, "/v1/logs") => ExportLogsServiceRequest::decode(body).map(|message| {
            kept.keep_logs(message, &key);
            Vec::new()
        }),
        (&Method::POST, "/v1/metrics") => {
            ExportMetricsServiceRequest::decode(body).map(|message| {
                kept.keep_metrics(message, &key);
                Vec::new()
            })
        }
        (&Method::GET, "/spans") => kept.with(|all| text(all.spans.clone())),
        (&Method::GET, "/logs") => kept.with(|all| text(all.logs.clone())),
        (&Method::GET, "/metrics") => {
            kept.with(|all| text(all.metrics.values().cloned().collect()))
        }
        (&Method::POST, "/clear") => kept.with(|all| {
            *all = All::default();
            Ok(Vec::new())
        }),
        _ => return Ok(status(StatusCode::NOT_FOUND)),
    };
    Ok(match answered {
        Ok(body) => Response::new(Full::from(body)),
        Err(_unreadable) => status(StatusCode::BAD_REQUEST),
    })
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

impl Kept {
    fn with<T>(&self, use_it: impl FnOnce(&mut All) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep_spans(&self, message: ExportTraceServiceRequest, key: &Value) {
        for resource in message.resource_spans {
            let about = attributes(resource.resource.map(|one| one.attributes).unwrap_or_default());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let span = json!({
                    "name": span.name,
                    "kind": span.kind,
                    "trace": hexadecimal(&span.trace_id),
                    "span": hexadecimal(&span.span_id),
                    "parent": hexadecimal(&span.parent_span_id),
                    "state": span.trace_state,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "is_error": span.status.is_some_and(|status| status.code == 2),
                    "attributes": attributes(span.attributes),
                    "resource": about,
                    "key": key,
                });
                self.with(|all| all.spans.push(span));
            }
        }
    }

    fn keep_logs(&self, message: ExportLogsServiceRequest, key: &Value) {
        for resource in message.resource_logs {
            let about = attributes(resource.resource.map(|one| one.attributes).unwrap_or_default());
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let record = json!({
                    "trace": hexadecimal(&record.trace_id),
                    "span": hexadecimal(&record.span_id),
                    "time": record.time_unix_nano,
                    "severity": record.severity_text,
                    "event": record.event_name,
                    "body": value(record.body),
                    "attributes": attributes(record.attributes),
                    "resource": about,
                    "key": key,
                });
                self.with(|all| all.logs.push(record));
            }
        }
    }

    fn keep_metrics(&self, message: ExportMetricsServiceRequest, key: &Value) {
        for resource in message.resource_metrics {
            let about = attributes(resource.resource.map(|one| one.attributes).unwrap_or_default());
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            let names: Vec<String> = metrics.map(|metric| metric.name).collect();
            let process =
                about.get("service.instance.id").map(Value::to_string).unwrap_or_default();
            let told = json!({ "names": names, "resource": about, "key": key });
            self.with(|all| all.metrics.insert(process, told));
        }
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let key = key(&request);
        self.keep_spans(request.into_inner(), &key);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let key = key(&request);
        self.keep_logs(request.into_inner(), &key);
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let key = key(&request);
        self.keep_metrics(request.into_inner(), &key);
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The header that came with a call of gRPC.
fn key<T>(request: &tonic::Request<T>) -> Value {
    request.metadata().get(KEY).map_or(Value::Null, |value| shown(value.as_encoded_bytes()))
}

fn shown(value: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(value).into_owned())
}

const KEY: &str = "api-key";

fn attributes(all: Vec<KeyValue>) -> Value {
    let all: Map<String, Value> = all.into_iter().map(|one| (one.key, value(one.value))).collect();
    Value::Object(all)
}

fn value(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(value)) => json!(value),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        other => json!(format!("{other:?}")),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
