//! How records wait and go: the variables of the batch span processor (BSP) and the batch log record
//! processor (BLRP).
//!
//! Source: "Environment Variable Specification", the defaults too.

use std::time::Duration;

use crate::settings::{MILLISECONDS, Reader, values};

/// How the records of one signal are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// How long the first of a batch waits for others.
    pub delay: Duration,
    /// How long one batch is tried, again and again.
    pub timeout: Duration,
    /// How many records may wait.
    pub queue_limit: usize,
    /// How many records make a batch.
    pub batch_limit: usize,
}

/// Which of the processors is set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Processor {
    Spans,
    LogRecords,
}

impl Processor {
    fn prefix(self) -> &'static str {
        match self {
            Self::Spans => "OTEL_BSP_",
            Self::LogRecords => "OTEL_BLRP_",
        }
    }

    fn usual_delay(self) -> Duration {
        match self {
            Self::Spans => Duration::from_secs(5),
            Self::LogRecords => Duration::from_secs(1),
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, processor: Processor) -> BatchSettings {
    let name = |suffix: &str| format!("{}{suffix}", processor.prefix());
    let delay = reader.parsed(&name("SCHEDULE_DELAY"), MILLISECONDS, values::milliseconds);
    let timeout = reader.parsed(&name("EXPORT_TIMEOUT"), MILLISECONDS, values::milliseconds);
    let want = format!("a number from 1 to {RECORD_LIMIT}");
    let mut number = |suffix: &str| {
        let parse =
            |text: &str| text.parse().ok().filter(|number| (1..=RECORD_LIMIT).contains(number));
        reader.parsed(&name(suffix), &want, parse)
    };
    let (queue, batch) = (number("MAX_QUEUE_SIZE"), number("MAX_EXPORT_BATCH_SIZE"));
    let queue_limit = queue.unwrap_or(QUEUE_LIMIT);
    // A small queue is no mistake of whoever says nothing of batches.
    let batch_limit = batch.unwrap_or(BATCH_LIMIT.min(queue_limit));
    if batch_limit > queue_limit {
        let (batch_name, queue_name) = (name("MAX_EXPORT_BATCH_SIZE"), name("MAX_QUEUE_SIZE"));
        let want = format!("at most {queue_limit}, which {queue_name} is");
        reader.problems.push(format!("{batch_name}=\"{batch_limit}\" (want {want})"));
    }
    BatchSettings {
        delay: delay.unwrap_or(processor.usual_delay()),
        timeout: timeout.unwrap_or(TIMEOUT),
        queue_limit,
        batch_limit,
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);
const QUEUE_LIMIT: usize = 2048;
const BATCH_LIMIT: usize = 512;
/// What a queue or batch may be set to: whoever wants more has mistaken the unit.
const RECORD_LIMIT: usize = 65_536;
