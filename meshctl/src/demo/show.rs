//! What is shown at one moment, and by whom: a screen on a terminal, lines elsewhere, nothing for
//! machines.

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
    /// Seconds since 1970, to tell how long certificates last.
    pub now: f64,
}

/// What a show follows.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Where the demo is.
    pub phase: watch::Receiver<Phase>,
    /// What the mesh sees.
    pub measured: watch::Receiver<Option<Measured>>,
}

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

    /// Shows until somebody wants it to end: `q` or Ctrl-C on the screen, SIGINT or SIGTERM otherwise.
    pub async fn until_quit(self, feed: &Feed) -> Result<(), Failure> {
        let terminated = async {
            let ended = heddle_runtime::signals::terminated().await;
            ended.map_err(|error| local::signals_unknown(&error))
        };
        let show = async {
            match self {
                Self::Screen(colour) => screen::until_quit(feed, colour).await,
                Self::Lines => print_lines(feed).await,
                Self::Silent => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = terminated => ended,
            shown = show => shown,
        }
    }
}

impl Feed {
    /// What there is to show now.
    pub fn scene(&self) -> Scene {
        let phase = *self.phase.borrow();
        let now = heddle_runtime::clock::now().duration_since(std::time::UNIX_EPOCH);
        Scene {
            headline: phase.describe(Instant::now()),
            wanted_percent: phase.percent(),
            measured: self.measured.borrow().clone(),
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
