//! `meshctl status`: what the control plane knows, and whether anything is refused.

pub mod render;

use heddle_report::merge;
use heddle_report::status::StatusReport;
use heddle_runtime::clock;

use crate::admin;
use crate::arguments::StatusArguments;
use crate::failure::Failure;
use crate::output::{self, Colour, Output, Page};
use crate::run::Ending;
use crate::target;

/// Prints the status; a check that fails when something is refused.
pub async fn run(options: StatusArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let answers = target::heard(target.ask_all(admin::get_status).await?);
    let merged = merge::merge(answers.into_iter().map(|(_, status)| status));
    let report = StatusReport::from(merged);
    match options.output {
        Output::Json => output::print_json(&report)?,
        Output::Yaml => output::print_yaml(&report)?,
        Output::Name => {
            let names = report.objects.iter().map(|object| format!("{}\n", object.title()));
            output::print(&names.collect::<String>())?;
        }
        Output::Table | Output::Wide => {
            let (wide, no_headers) = (options.output == Output::Wide, options.no_headers);
            let page = Page { wide, no_headers, colour };
            output::print(&render::text(&report, clock::now(), page))?;
        }
    }
    Ok(if report.refused { Ending::CheckFailed } else { Ending::Good })
}
