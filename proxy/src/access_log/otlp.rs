//! A record as OpenTelemetry's logs have it: an event, by its name and its attributes. Pure.

use heddle_telemetry::otlp::{number, text, unix_nanos};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Body, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use crate::access_log::record::{Attribute, Record, Value};
use crate::access_log::text;

/// The same, with the line for people as its body.
pub(super) fn log_record(record: &Record<'_>) -> LogRecord {
    let severity = if record.has_failed { SeverityNumber::Error } else { SeverityNumber::Info };
    let at = unix_nanos(record.at);
    let line = text::line(record);
    let body = String::from_utf8_lossy(&line).trim_end().to_owned();
    let mut made = LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: severity.into(),
        severity_text: record.severity().to_owned(),
        event_name: record.event.as_str().to_owned(),
        body: Some(Body { value: Some(AnyValue::StringValue(body)) }),
        attributes: record.attributes.iter().filter_map(attribute).collect(),
        ..LogRecord::default()
    };
    if let Some(trace) = &record.trace {
        made.trace_id = trace.trace.to_vec();
        made.span_id = trace.span.to_vec();
        made.flags = trace.is_sampled.into();
    }
    made
}

/// What has no name is in the body only, and traces have their own place.
fn attribute(Attribute { name, value, .. }: &Attribute<'_>) -> Option<KeyValue> {
    if name.is_empty() || value.is_empty() || matches!(*name, "trace_id" | "span_id") {
        return None;
    }
    Some(match value {
        Value::Text(value) => text(name, value.as_ref()),
        Value::Number(value) => number(name, i64::try_from(*value).unwrap_or(i64::MAX)),
        Value::Seconds(time) => KeyValue {
            key: (*name).to_owned(),
            value: Some(Body { value: Some(AnyValue::DoubleValue(time.as_secs_f64())) }),
            ..KeyValue::default()
        },
    })
}
