//! `meshctl edges`: who talks to whom, with which identities, and whether it is secured, or why not.

pub mod render;

use clap::Args;
use heddle_proto::telemetry::Grouping;
use heddle_report::edges::EdgesReport;

use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown, Watch};
use crate::run::Ending;
use crate::target::Target;
use crate::traffic::{self, Look};

/// `meshctl edges`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EDGES_AFTER_HELP)]
pub struct EdgesArguments {
    /// How it is chosen and shown.
    #[command(flatten)]
    pub look: Look,
    /// Whether it is shown again and again.
    #[command(flatten)]
    pub watch: Watch,
}

const EDGES_AFTER_HELP: &str = "\
With -n, what begins or ends in the namespace is shown. SECURED says why what is not secured is not; docs/stat.md has
the fields of -o json.

Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";

/// Prints it, once or again and again.
pub async fn run(options: EdgesArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.look.target.find().await?;
    repeat::show(options.watch, async || shown(&options, &target, colour).await).await
}

async fn shown(
    options: &EdgesArguments,
    target: &Target,
    colour: Colour,
) -> Result<Shown, Failure> {
    let look = &options.look;
    let namespace = look.namespace(target);
    let response = look.ask(target, Grouping::Edge, namespace.as_deref()).await?;
    let hint = traffic::hint(&response, look, "edge", namespace.as_deref());
    let report = EdgesReport::new(response, look.window.0);
    let text = match look.output {
        Output::Json => output::json(&report, options.watch.watch)?,
        Output::Yaml => output::yaml(&report, options.watch.watch)?,
        Output::Name => {
            let lines = report
                .edges
                .iter()
                .map(|edge| format!("{} {}\n", edge.source_title(), edge.destination_title()));
            lines.collect()
        }
        Output::Table | Output::Wide if report.edges.is_empty() => String::new(),
        Output::Table => render::table(&report, render::Width::Usual, look.no_headers, colour),
        Output::Wide => render::table(&report, render::Width::Wide, look.no_headers, colour),
    };
    Ok(Shown { text, hint, ending: Ending::Good })
}

#[cfg(test)]
mod tests;
