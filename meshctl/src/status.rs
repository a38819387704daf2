//! `meshctl status`: what the control plane knows, and whether anything is refused.

pub mod render;

use heddle_report::merge;
use heddle_report::status::StatusReport;
use heddle_runtime::clock;

use crate::admin;
use crate::arguments::StatusArguments;
use crate::failure::Failure;
use crate::output::{self, Colour, Output, Page};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::target::{self, Target};

/// Prints the status, once or again and again; a check that fails when something is refused.
pub async fn run(options: StatusArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    repeat::show(options.watch, async || shown(&options, &target, colour).await).await
}

async fn shown(
    options: &StatusArguments,
    target: &Target,
    colour: Colour,
) -> Result<Shown, Failure> {
    let answers = target::heard(target.ask_all(admin::get_status).await?);
    let merged = merge::merge(answers.into_iter().map(|(_, status)| status));
    let report = StatusReport::from(merged);
    let text = match options.output {
        Output::Json => output::json(&report, options.watch.watch)?,
        Output::Yaml => output::yaml(&report, options.watch.watch)?,
        Output::Name => {
            report.objects.iter().map(|object| format!("{}\n", object.title())).collect()
        }
        Output::Table | Output::Wide => {
            let (wide, no_headers) = (options.output == Output::Wide, options.no_headers);
            render::text(&report, clock::now(), Page { wide, no_headers, colour })
        }
    };
    let is_empty = report.objects.is_empty() && report.source_errors.is_empty();
    let hint = is_empty.then(|| {
        "the control plane knows of no object: nothing is defined that the mesh reads".to_owned()
    });
    let ending = if report.refused { Ending::CheckFailed } else { Ending::Good };
    Ok(Shown { text, hint, ending })
}
