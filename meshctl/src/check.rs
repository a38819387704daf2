//! `meshctl check`: whether a cluster is fit for the mesh, and whether the mesh in it is well. What is seen is in `facts`, who
//! sees it in `gather`, what is made of it in `judge`.

pub mod api_ports;
pub mod arguments;
pub mod certificates;
pub mod facts;
pub mod finding;
pub mod gather;
pub mod judge;
pub mod permissions;
pub mod probe;
pub mod render;

use heddle_runtime::clock;

use crate::check::arguments::CheckArguments;
use crate::check::facts::Stage;
use crate::check::finding::Level;
use crate::failure::Failure;
use crate::kubernetes::client;
use crate::output::Colour;
use crate::run::Ending;

/// `meshctl check`.
pub async fn run(arguments: CheckArguments, colour: Colour) -> Result<Ending, Failure> {
    let cluster = client::connect(&arguments.mesh.cluster()).await?;
    let stage = if arguments.pre { Stage::Before } else { Stage::After };
    let facts = gather::facts(&cluster, stage).await;
    let findings = judge::all(&facts, clock::now());
    render::print(&findings, arguments.output, arguments.no_headers, colour)?;
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Ending::CheckFailed } else { Ending::Good })
}
