//! What goes in batches: spans and records of a log, and the messages that they go in.

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::settings::Signal;

/// Who says what is in a batch.
#[derive(Clone, Debug, Default)]
pub struct Teller {
    /// The workload.
    pub resource: Resource,
    /// The part of it.
    pub scope: InstrumentationScope,
}

/// What goes in batches.
pub trait Record: Message + Default + 'static {
    /// What it is of.
    const SIGNAL: Signal;
    /// What many of them go in.
    type Request: Message;
    /// What is answered.
    type Response: Message + Default + 'static;

    /// A message of these records.
    fn request(teller: Teller, records: Vec<Self>) -> Self::Request;

    /// How many of a message's records were not taken, and why not.
    fn rejected(response: Self::Response) -> (i64, String);
}

impl Record for Span {
    const SIGNAL: Signal = Signal::Traces;
    type Request = ExportTraceServiceRequest;
    type Response = ExportTraceServiceResponse;

    fn request(Teller { resource, scope }: Teller, spans: Vec<Self>) -> Self::Request {
        let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }

    fn rejected(response: Self::Response) -> (i64, String) {
        let partial = response.partial_success.unwrap_or_default();
        (partial.rejected_spans, partial.error_message)
    }
}

impl Record for LogRecord {
    const SIGNAL: Signal = Signal::Logs;
    type Request = ExportLogsServiceRequest;
    type Response = ExportLogsServiceResponse;

    fn request(Teller { resource, scope }: Teller, log_records: Vec<Self>) -> Self::Request {
        let scope_logs = ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() };
        let resource_logs = ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
    }

    fn rejected(response: Self::Response) -> (i64, String) {
        let partial = response.partial_success.unwrap_or_default();
        (partial.rejected_log_records, partial.error_message)
    }
}
