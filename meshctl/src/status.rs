//! `meshctl status`: what the control plane knows, and whether anything is refused.

pub mod render;
pub mod report;

use heddle_local::state_directory::StateDirectory;
use heddle_runtime::clock;

use crate::admin;
use crate::arguments::StatusArguments;
use crate::failure::Failure;
use crate::output::{self, Colour, Format};
use crate::run::Ending;
use crate::status::report::StatusReport;
use crate::worlds;

/// Prints the status; a check that fails when something is refused.
pub async fn run(options: StatusArguments, colour: Colour) -> Result<Ending, Failure> {
    let socket = match options.admin_socket {
        Some(socket) => socket,
        None => StateDirectory::new(worlds::find(options.name.as_deref())?).admin_socket(),
    };
    let report = StatusReport::from(admin::status(&socket).await?);
    match options.output {
        Format::Json => output::print_json(&report)?,
        Format::Table => output::print(&render::text(&report, clock::now(), colour))?,
    }
    Ok(if report.refused { Ending::CheckFailed } else { Ending::Good })
}
