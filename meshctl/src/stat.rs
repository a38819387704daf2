//! `meshctl stat`: how much workloads, services, backends and routes are asked, how well and how fast they answer.

pub mod arguments;
pub mod render;

use heddle_report::stat::{StatReport, Subject};

use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::stat::arguments::StatArguments;
use crate::target::Target;
use crate::traffic;

/// Prints it, once or again and again.
pub async fn run(options: StatArguments, colour: Colour) -> Result<Ending, Failure> {
    let subject = options.subject()?;
    let target = options.look.target.find().await?;
    let show = async || shown(&options, &subject, &target, colour).await;
    repeat::show(options.watch, show).await
}

async fn shown(
    options: &StatArguments,
    subject: &Subject,
    target: &Target,
    colour: Colour,
) -> Result<Shown, Failure> {
    let look = &options.look;
    let namespace = look.namespace(target);
    let response = look.ask(target, subject.what.grouping(), namespace.as_deref()).await?;
    let mut hint = traffic::hint(&response, look, subject.what.noun(), namespace.as_deref());
    let report = StatReport::new(response, subject, look.window.0);
    if hint.is_none() && report.rows.is_empty() {
        hint = Some(arguments::not_found(subject));
    }
    let text = match look.output {
        Output::Json => output::json(&report, options.watch.watch)?,
        Output::Yaml => output::yaml(&report, options.watch.watch)?,
        Output::Name => report.rows.iter().map(|row| format!("{}\n", row.title())).collect(),
        Output::Table | Output::Wide if report.rows.is_empty() => String::new(),
        Output::Table => render::table(&report, render::Width::Usual, look, colour),
        Output::Wide => render::table(&report, render::Width::Wide, look, colour),
    };
    Ok(Shown { text, hint, ending: Ending::Good })
}

#[cfg(test)]
pub(crate) mod tests;
