//! The access log: a line for each request and each connection, as far as somebody wants one. Which of them
//! is a word that can change at any time; what is told of them is in record.rs and connection.rs, how a line
//! looks in json.rs and text.rs, and how it leaves in lines.rs. See docs/access-log.md.

pub mod connection;
mod json;
pub mod lines;
pub mod metrics;
mod otlp;
pub mod record;
mod request;
pub mod switch;
mod text;
mod words;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::access_log::{AccessLogFormat, AccessLogMode};
use heddle_telemetry::batch::Queue;
use http::Request;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::access_log::connection::{Passage, Refused, Target, Transfer};
use crate::access_log::lines::Lines;
use crate::access_log::record::Record;
use crate::access_log::switch::Switch;
use crate::http::body::Body;
use crate::http::call_record::CallRecord;
use crate::http::witness::{Asking, Interest, Witness};
use crate::metrics::Direction;
use crate::tcp::ByteCounters;

/// Where requests and connections are written down. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {
    switch: Arc<Switch>,
    lines: Lines,
    /// To a collector, if one is named.
    records: Option<Arc<Queue<LogRecord>>>,
}

impl AccessLog {
    /// Writes down what `switch` says, to `lines`, and to `records` where there are any.
    pub fn new(switch: Arc<Switch>, lines: Lines, records: Option<Queue<LogRecord>>) -> Self {
        Self { switch, lines, records: records.map(Arc::new) }
    }

    /// Whether anything is written down now.
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }

    /// A connection was refused, or broke before anything was carried. Tells nothing of one that was told of
    /// already.
    pub fn refused(&self, passage: &Passage, reason: &'static str, error: &dyn Error) {
        if self.is_on() && passage.is_first_told() {
            self.write(&Refused { passage, reason, error: Some(error) }.record());
        }
    }

    /// A connection was refused at the door.
    pub fn turned_away(&self, direction: Direction, client: SocketAddr, reason: &'static str) {
        if self.is_on() {
            let passage = Passage::begun(direction, Some(client), None);
            self.write(&Refused { passage: &passage, reason, error: None }.record());
        }
    }

    /// A connection is carried as bytes from now on; it is told of at its end.
    pub fn carried<'a>(
        &'a self,
        passage: &'a Passage,
        target: Target,
        bytes: &ByteCounters,
    ) -> Transfer<'a> {
        Transfer::new(self, passage, target, bytes.clone())
    }

    /// Waits until all is written, but no longer than `within`.
    pub async fn flush(&self, within: Duration) {
        self.lines.flush(within).await;
    }

    /// Writes down a record, if its kind is wanted. Never waits.
    pub(crate) fn write(&self, record: &Record<'_>) {
        let wanted = self.switch.get();
        let is_wanted = match wanted.mode {
            AccessLogMode::Off => false,
            AccessLogMode::Errors => record.has_failed,
            AccessLogMode::All => true,
        };
        if !is_wanted {
            return;
        }
        if let Some(records) = &self.records {
            records.offer(|| otlp::log_record(record));
        }
        self.lines.push(&match wanted.format {
            AccessLogFormat::Json => json::line(record),
            AccessLogFormat::Text => text::line(record),
        });
    }
}

impl Witness for AccessLog {
    fn wants(&self, _request: &mut Request<Body>, _asked: &Asking<'_>) -> Interest {
        // Of each request, since it is not known yet which of them will fail.
        if self.is_on() { Interest::Call } else { Interest::Nothing }
    }

    fn may_want(&self) -> bool {
        self.is_on()
    }

    fn tell(&self, call: &CallRecord<'_>) {
        let is_wanted = match self.switch.get().mode {
            AccessLogMode::Off => false,
            // Asked first, since most have not: nothing is made of those.
            AccessLogMode::Errors => request::has_failed(call),
            AccessLogMode::All => true,
        };
        if is_wanted {
            self.write(&request::record(call));
        }
    }
}

#[cfg(test)]
mod tests;
