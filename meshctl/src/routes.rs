//! `meshctl routes`: the routes that are attached to services, what became of them, and which shadows which.

pub mod arguments;
pub mod gather;
pub mod render;

use heddle_report::routes::RoutesReport;

use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown};
use crate::routes::arguments::RoutesArguments;
use crate::run::Ending;

/// Shows them; a check that fails when one is refused.
pub async fn run(options: RoutesArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let namespace = options.namespace.as_deref();
    repeat::show(options.watch, async || {
        let report = RoutesReport::from(gather::routes(&target, namespace).await?);
        let text = match options.output {
            Output::Json => output::json(&report, options.watch.watch)?,
            Output::Yaml => output::yaml(&report, options.watch.watch)?,
            Output::Name => {
                report.routes.iter().map(|route| format!("{}\n", route.title())).collect()
            }
            Output::Table => render::text(&report, false, colour),
            Output::Wide => render::text(&report, true, colour),
        };
        let refused = report.routes.iter().any(|route| route.refusals().next().is_some());
        Ok(Shown {
            text,
            hint: None,
            ending: if refused { Ending::CheckFailed } else { Ending::Good },
        })
    })
    .await
}

#[cfg(test)]
mod tests;
