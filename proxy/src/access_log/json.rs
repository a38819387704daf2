//! A record as one JSON object on a line. Its fields are in docs/access-log.md.

use std::fmt::Write as _;

use crate::access_log::record::{Record, Value};
use crate::access_log::words::{push_json, push_seconds, push_time};

/// The line, with its line feed.
pub(super) fn line(record: &Record<'_>) -> Vec<u8> {
    let mut line = String::with_capacity(LINE_BYTES);
    line.push_str("{\"timestamp\":\"");
    push_time(&mut line, record.at);
    line.push_str("\",\"severity\":\"");
    line.push_str(record.severity());
    line.push_str("\",\"event.name\":\"");
    line.push_str(record.event.as_str());
    line.push('"');
    for attribute in record.attributes.iter().filter(|one| !one.name.is_empty()) {
        if attribute.value.is_empty() {
            continue;
        }
        // Names are ours, and need no escapes.
        let _ = write!(line, ",\"{}\":", attribute.name);
        match &attribute.value {
            Value::Text(text) => push_json(&mut line, text),
            Value::Number(number) => {
                let _ = write!(line, "{number}");
            }
            Value::Seconds(time) => push_seconds(&mut line, *time),
        }
    }
    line.push_str("}\n");
    line.into_bytes()
}

/// What most lines need.
const LINE_BYTES: usize = 768;
