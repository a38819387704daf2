//! What is shown at one moment, and by whom: a screen on a terminal, lines elsewhere, nothing for
//! machines.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::demo::measure::Measured;
use crate::demo::progress::Phase;
use crate::demo::{lines, screen};
use crate::failure::Failure;
use crate::local;
use crate::output::{self, Colour, Format};
use crate::terminal;

/// How often lines are printed.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Everything there is to show.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Where the demo is, in words.
    pub headline: String,
    /// The share of v2 that is wanted.
    pub wanted_percent: Option<u8>,
    /// What the mesh sees; nothing before the first two observations.
    pub measured: Option<Measured>,
    /// The shares of v2 that were seen so far, in percent, oldest first.
    pub history: Vec<f64>,
    /// Seconds since 1970, to tell how long certificates last.
    pub now: f64,
}

/// What a show follows.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Where the demo is.
    pub phase: watch::Receiver<Phase>,
    /// What the mesh sees, and has seen.
    pub seen: watch::Receiver<Seen>,
}

/// What the mesh sees, and has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    measured: Option<Measured>,
    history: VecDeque<f64>,
}

impl Seen {
    /// Adds the newest; the oldest is forgotten when there is more than any screen shows.
    pub fn add(&mut self, measured: Measured) {
        self.history.extend(measured.canary_seen);
        while self.history.len() > HISTORY_LIMIT {
            self.history.pop_front();
        }
        self.measured = Some(measured);
    }
}

/// Two minutes, at two measurements a second.
const HISTORY_LIMIT: usize = 240;

/// Who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The whole terminal.
    Screen(Colour),
    /// A line per second.
    Lines,
    /// Nobody: the summary is all that is wanted.
    Silent,
}

impl Show {
    /// What suits standard output.
    pub fn for_output(format: Format, colour: Colour) -> Self {
        match format {
            Format::Json => Self::Silent,
            Format::Table if std::io::stdout().is_terminal() => Self::Screen(colour),
            Format::Table => Self::Lines,
        }
    }

    /// Shows until somebody wants it to end: `q` or Ctrl-C on the screen, SIGINT, SIGTERM or SIGHUP (the
    /// terminal was closed) otherwise.
    pub async fn until_quit(self, feed: &Feed) -> Result<(), Failure> {
        let show = async {
            match self {
                Self::Screen(colour) => screen::until_quit(feed, colour).await,
                Self::Lines => print_lines(feed).await,
                Self::Silent => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = terminal::told_to_end() => ended.map_err(|error| local::signals_unknown(&error)),
            shown = show => shown,
        }
    }
}

impl Feed {
    /// What there is to show now.
    pub fn scene(&self) -> Scene {
        let phase = *self.phase.borrow();
        let now = heddle_runtime::clock::now().duration_since(std::time::UNIX_EPOCH);
        let seen = self.seen.borrow();
        Scene {
            headline: phase.describe(Instant::now()),
            wanted_percent: phase.percent(),
            measured: seen.measured.clone(),
            history: seen.history.iter().copied().collect(),
            now: now.map_or(0.0, |now| now.as_secs_f64()),
        }
    }
}

/// Never ends by itself; a reader that has gone does not end the demo either.
async fn print_lines(feed: &Feed) -> Result<(), Failure> {
    let began = Instant::now();
    let mut every = tokio::time::interval(LINE_EVERY);
    loop {
        every.tick().await;
        let line = lines::line(&feed.scene());
        output::print(&format!("{:>3} s  {line}\n", began.elapsed().as_secs()))?;
    }
}
