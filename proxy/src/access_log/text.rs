//! A record as a line for people: what it is first, each in its place, and then whatever else there is to
//! say, by its name. See docs/access-log.md.

use std::fmt::Write as _;

use crate::access_log::record::{Label, Record, Value};
use crate::access_log::words::{push_seconds, push_time, push_word};

/// The line, with its line feed.
pub(super) fn line(record: &Record<'_>) -> Vec<u8> {
    let mut line = String::with_capacity(LINE_BYTES);
    push_time(&mut line, record.at);
    for attribute in &record.attributes {
        match attribute.label {
            Label::Unsaid => continue,
            Label::Named(_) if attribute.value.is_empty() => continue,
            Label::Place => line.push(' '),
            Label::Named(name) => {
                let _ = write!(line, " {name}=");
            }
        }
        match &attribute.value {
            Value::Text(text) => push_word(&mut line, text),
            Value::Number(number) => {
                let _ = write!(line, "{number}");
            }
            Value::Seconds(time) => {
                push_seconds(&mut line, *time);
                line.push('s');
            }
        }
    }
    line.push('\n');
    line.into_bytes()
}

/// What most lines need.
const LINE_BYTES: usize = 384;
