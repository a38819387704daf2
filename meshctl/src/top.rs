//! `meshctl top`: how much is asked, how well and how fast it is answered, live, with the last minutes.

pub mod arguments;
pub mod keys;
pub mod render;
pub mod report;
pub mod screen;
pub mod spark;
pub mod view;

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::local;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown, Watch};
use crate::run::Ending;
use crate::target::Target;
use crate::terminal;
use crate::top::arguments::{Choice, TopArguments};
use crate::top::keys::State;
use crate::top::report::TopReport;
use crate::traffic;

/// What was told last.
#[derive(Clone, Debug)]
pub struct Told {
    /// The last good answer.
    pub report: Arc<TopReport>,
    /// What people should know of it.
    pub hint: Option<String>,
    /// Why there is no newer one; `None`: there is.
    pub trouble: Option<String>,
    /// When it came.
    pub heard: Instant,
}

/// Shows it until somebody wants it to end; once, for machines.
pub async fn run(options: TopArguments, colour: Colour) -> Result<Ending, Failure> {
    let choice = options.choice()?;
    let target = options.look.target.find().await?;
    let asking = Asking { options: &options, choice: &choice, target: &target };
    let is_for_people = matches!(options.look.output, Output::Table | Output::Wide);
    let goes_on = is_for_people && !options.once;
    if goes_on && std::io::stdout().is_terminal() {
        return live(&asking, colour).await;
    }
    let watch = Watch { watch: goes_on, interval: options.interval };
    repeat::show(watch, async || asking.shown(colour).await).await
}

async fn live(asking: &Asking<'_>, colour: Colour) -> Result<Ending, Failure> {
    let (told, last_told) = watch::channel(asking.ask().await?);
    let state = State::new(asking.options.sort);
    tokio::select! {
        ended = terminal::told_to_end() => ended.map_err(|error| local::signals_unknown(&error))?,
        shown = screen::until_quit(last_told, state, colour) => shown?,
        never = keep_asking(asking, &told) => match never {},
    }
    Ok(Ending::Good)
}

/// Asks again and again. What was told last stays while there is no answer: a control plane may be restarting.
async fn keep_asking(asking: &Asking<'_>, told: &watch::Sender<Told>) -> Infallible {
    loop {
        tokio::time::sleep(asking.options.interval.0).await;
        match asking.ask().await {
            Ok(newer) => drop(told.send_replace(newer)),
            Err(failure) => told.send_modify(|told| told.trouble = Some(failure.headline())),
        }
    }
}

/// What is asked of whom.
struct Asking<'a> {
    options: &'a TopArguments,
    choice: &'a Choice,
    target: &'a Target,
}

impl Asking<'_> {
    async fn ask(&self) -> Result<Told, Failure> {
        let look = &self.options.look;
        let what = self.choice.what;
        let namespace = look.namespace(self.target);
        let question = (what.grouping(), namespace.as_deref());
        let response = look.ask_with_history(self.target, question, HISTORY).await?;
        let mut hint = traffic::hint(&response, look, what.noun(), namespace.as_deref());
        let report = TopReport::new(response, self.choice, (look.window.0, namespace));
        if hint.is_none() && report.rows.is_empty() {
            hint = Some(self.choice.not_found());
        }
        Ok(Told { report: Arc::new(report), hint, trouble: None, heard: Instant::now() })
    }

    async fn shown(&self, colour: Colour) -> Result<Shown, Failure> {
        let Told { report, hint, .. } = self.ask().await?;
        let text = match self.options.look.output {
            Output::Json => output::json(report.as_ref(), false)?,
            Output::Yaml => output::yaml(report.as_ref(), false)?,
            Output::Name => {
                report.rows.iter().map(|row| format!("{}\n", row.row.title())).collect()
            }
            Output::Table | Output::Wide if report.rows.is_empty() => String::new(),
            Output::Table | Output::Wide => {
                let state = State::new(self.options.sort);
                let is_wide = self.options.look.output == Output::Wide;
                render::table(&report, &state, (is_wide, self.options.look.no_headers), colour)
            }
        };
        Ok(Shown { text, hint, ending: Ending::Good })
    }
}

/// How far back the last minutes reach.
const HISTORY: Duration = Duration::from_secs(300);
