//! Lines on their way to standard output. Whoever has one leaves it in a bounded buffer and goes on; one
//! thread writes them. It is a thread, and no task, since writing to standard output can wait for as long
//! as nobody reads: it would hold up a task's neighbours, and the end of the process.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::access_log::metrics::LineMetrics;

/// Where lines are left. Clones share the place.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    filled: Condvar,
    /// All that was left is written.
    emptied: Notify,
    metrics: LineMetrics,
    output: Mutex<Output>,
}

/// Where lines go, until the thread takes it.
#[derive(Default)]
enum Output {
    #[default]
    Standard,
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Output {
    fn open(self) -> io::Result<Box<dyn Write + Send>> {
        match self {
            // Not Rust's own, whose lock everybody would wait for who prints.
            Self::Standard => Ok(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
            #[cfg(test)]
            Self::Other(output) => Ok(output),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
    writer: Writer,
}

/// The thread that writes.
#[derive(Debug, Default, PartialEq, Eq)]
enum Writer {
    /// Nobody had anything to write yet.
    #[default]
    NotStarted,
    /// It waits for lines.
    Idle,
    /// It has taken some.
    Writing,
}

impl Lines {
    /// Counts what becomes of lines in `metrics`.
    pub fn new(metrics: LineMetrics) -> Self {
        Self(Arc::new(Shared { metrics, ..Shared::default() }))
    }

    /// The same, which writes elsewhere.
    #[cfg(test)]
    pub(crate) fn to(metrics: LineMetrics, output: impl Write + Send + 'static) -> Self {
        let output = Mutex::new(Output::Other(Box::new(output)));
        Self(Arc::new(Shared { metrics, output, ..Shared::default() }))
    }

    /// Leaves a line, which ends in its line feed, to be written. One that there is no room for is dropped,
    /// and counted: nobody waits here.
    pub fn push(&self, line: &[u8]) {
        let Shared { pending, filled, metrics, .. } = &*self.0;
        let mut pending = pending.lock();
        if pending.bytes.len() + line.len() > PENDING_LIMIT_BYTES {
            metrics.dropped.inc();
            return;
        }
        if pending.writer == Writer::NotStarted {
            let lines = self.clone();
            let output = std::mem::take(&mut *self.0.output.lock());
            let started = output.open().and_then(|output| {
                let thread = thread::Builder::new().name("access_log".to_owned());
                thread.stack_size(STACK_BYTES).spawn(move || lines.write(output))
            });
            if let Err(error) = started {
                metrics.failed.inc();
                warn!(%error, "access log cannot be written");
                return;
            }
            pending.writer = Writer::Idle;
        }
        pending.bytes.extend_from_slice(line);
        pending.lines += 1;
        if pending.writer == Writer::Idle {
            filled.notify_one();
        }
    }

    /// Waits until all lines that were left are written, but no longer than `within`.
    pub async fn flush(&self, within: Duration) {
        let emptied = async {
            loop {
                let notified = self.0.emptied.notified();
                if self.0.pending.lock().is_empty() {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(within, emptied).await.is_err() {
            let mut pending = self.0.pending.lock();
            let lines = std::mem::take(&mut pending.lines);
            pending.bytes = Vec::new();
            drop(pending);
            self.0.metrics.dropped.inc_by(lines);
            warn!(lines, "the end of the access log is not written: nobody reads standard output");
        }
    }

    /// Writes for as long as the process lives.
    fn write(self, mut output: impl Write) {
        let Shared { pending, filled, emptied, metrics, .. } = &*self.0;
        let mut remarks = Remarks::default();
        loop {
            let (bytes, lines) = {
                let mut pending = pending.lock();
                pending.writer = Writer::Idle;
                if pending.bytes.is_empty() {
                    emptied.notify_waiters();
                    filled.wait_while(&mut pending, |pending| pending.bytes.is_empty());
                }
                pending.writer = Writer::Writing;
                (std::mem::take(&mut pending.bytes), std::mem::take(&mut pending.lines))
            };
            match pieces(&bytes).try_for_each(|piece| write_whole(&mut output, piece)) {
                Ok(()) => {
                    metrics.written.inc_by(lines);
                    remarks.dropped(metrics.dropped.get());
                }
                Err(error) => {
                    metrics.failed.inc_by(lines);
                    remarks.failed(&error);
                }
            }
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.writer != Writer::Writing
    }
}

/// Says once in a while what went wrong. By the thread that writes: where nobody reads, the log may wait
/// as well, and nobody else shall.
#[derive(Default)]
struct Remarks {
    said_dropped: u64,
    dropped_at: Option<Instant>,
    failed_at: Option<Instant>,
}

impl Remarks {
    fn dropped(&mut self, all: u64) {
        if all > self.said_dropped && is_due(&mut self.dropped_at) {
            let lines = all - self.said_dropped;
            warn!(lines, "access log lines dropped: standard output is not read fast enough");
            self.said_dropped = all;
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if is_due(&mut self.failed_at) {
            warn!(%error, "access log lines lost: standard output does not take them");
        }
    }
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= REMARK_INTERVAL);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// Whole lines, of as many bytes as a pipe takes in one piece: what else is written to the same one does not
/// come in the middle of a line. A longer line is a piece of its own.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let most = rest.get(..PIECE_LIMIT_BYTES).unwrap_or(rest);
        let end = match rest.len() <= PIECE_LIMIT_BYTES {
            true => rest.len(),
            false => line_end(most.iter().rposition(is_line_feed))
                .or_else(|| line_end(rest.iter().position(is_line_feed)))
                .unwrap_or(rest.len()),
        };
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn is_line_feed(byte: &u8) -> bool {
    *byte == b'\n'
}

fn line_end(line_feed: Option<usize>) -> Option<usize> {
    line_feed.map(|index| index + 1)
}

fn write_whole(output: &mut impl Write, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares it has made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Of lines that wait: a second of 4,000 requests. As much again may be with the thread.
const PENDING_LIMIT_BYTES: usize = 1024 * 1024;
/// What is written to a pipe at once is not mixed with what others write. Source: POSIX, `PIPE_BUF`, as
/// Linux has it.
const PIECE_LIMIT_BYTES: usize = 4096;
/// The thread does next to nothing.
const STACK_BYTES: usize = 128 * 1024;
/// Of an output that does not wait by itself.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How often it is said what went wrong.
const REMARK_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
