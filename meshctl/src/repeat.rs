//! `--watch`: shows something again and again until it is interrupted, on a terminal in place of what was there, and
//! elsewhere only when it has changed.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use heddle_runtime::duration;

use crate::failure::Failure;
use crate::output;
use crate::run::Ending;

/// Whether to go on.
#[derive(Clone, Copy, Debug, Args)]
pub struct Watch {
    /// Show it again and again, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// How often
    #[arg(long, value_name = "DURATION", default_value = "1s", requires = "watch", value_parser = interval)]
    pub interval: duration::Text,
}

/// What a command shows, and how it would end with it.
#[derive(Debug)]
pub struct Shown {
    /// With a line end.
    pub text: String,
    /// What people may want to know beside it: on standard error.
    pub hint: Option<String>,
    /// The exit code.
    pub ending: Ending,
}

/// Shows once, or as long as nobody interrupts and somebody reads. A question that fails after the first answer is told
/// and asked again: what is watched may be restarting.
pub async fn show<F>(watch: Watch, ask: F) -> Result<Ending, Failure>
where
    F: AsyncFn() -> Result<Shown, Failure>,
{
    let mut last = ask().await?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let clear = watch.watch && io::stdout().is_terminal();
    let print = |Shown { text, hint, .. }: &Shown| -> Result<bool, Failure> {
        let text = if clear { format!("{CLEAR}{text}") } else { text.clone() };
        let has_reader = output::print_to_reader(&text)?;
        hint.iter().for_each(|hint| output::hint(hint));
        Ok(has_reader)
    };
    let mut has_reader = print(&last)?;
    while watch.watch && has_reader && output::has_reader() {
        tokio::select! {
            _interrupted = &mut interrupted => break,
            () = tokio::time::sleep(watch.interval.0) => {}
        }
        let shown = match ask().await {
            Ok(shown) => shown,
            Err(failure) => {
                Shown { text: format!("error: {failure}\n"), hint: None, ending: last.ending }
            }
        };
        if (&shown.text, &shown.hint) != (&last.text, &last.hint) {
            has_reader = print(&shown)?;
        }
        last = shown;
    }
    Ok(last.ending)
}

/// A time between two questions.
pub fn interval(text: &str) -> Result<duration::Text, String> {
    let interval: duration::Text = text.parse().map_err(|error| format!("{error}"))?;
    if interval.0 < SHORTEST {
        return Err(format!(
            "want {} or more: control planes have more to do",
            duration::Text(SHORTEST)
        ));
    }
    Ok(interval)
}

/// Of the whole screen, and to its first place.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";
const SHORTEST: Duration = Duration::from_millis(200);
