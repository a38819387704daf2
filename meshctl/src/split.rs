//! `meshctl split`: the shares of canaries, as they are wanted and as proxies act on them; and changing them.

pub mod arguments;
pub mod cluster;
pub mod file;
pub mod local;
pub mod owner;
pub mod plan;
pub mod render;
pub mod report;
pub mod weights;

use heddle_report::routes::RoutesReport;
use heddle_report::words;

use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown};
use crate::routes::gather;
use crate::run::Ending;
use crate::split::arguments::{SetArguments, ShowArguments, SplitArguments, SplitCommand};
use crate::split::plan::{Change, Wish};
use crate::split::report::SplitsReport;
use crate::target::Target;

/// Shows or changes them.
pub async fn run(options: SplitArguments, colour: Colour) -> Result<Ending, Failure> {
    match options.command {
        None => show(options.show, colour).await,
        Some(SplitCommand::Set(options)) => set(options).await,
    }
}

async fn show(options: ShowArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let namespace = options.namespace.as_deref();
    let service = options.service.as_ref();
    let service = service.map(|typed| service_named(typed, namespace, &target));
    let there = service.as_deref().and_then(|name| name.split_once('/')).map(|(there, _)| there);
    repeat::show(options.watch, async || {
        let routes = RoutesReport::from(gather::routes(&target, there.or(namespace)).await?);
        let report = SplitsReport::of(routes.version, &routes.routes, service.as_deref());
        let text = match options.output {
            Output::Json => output::json(&report, options.watch.watch)?,
            Output::Yaml => output::yaml(&report, options.watch.watch)?,
            Output::Name => {
                report.splits.iter().map(|split| format!("{}\n", split.title())).collect()
            }
            Output::Table => render::text(&report, service.as_deref(), false, colour),
            Output::Wide => render::text(&report, service.as_deref(), true, colour),
        };
        let good = report.splits.iter().all(|split| split.state != "refused");
        Ok(Shown {
            text,
            hint: None,
            ending: if good { Ending::Good } else { Ending::CheckFailed },
        })
    })
    .await
}

async fn set(options: SetArguments) -> Result<Ending, Failure> {
    let target = options.target.find().await?;
    let service = service_named(&options.service, options.namespace.as_deref(), &target);
    let there = service.split_once('/').map(|(namespace, _)| namespace);
    let routes = RoutesReport::from(gather::routes(&target, there).await?);
    let change = plan::plan(
        &routes.routes,
        Wish {
            service: &service,
            weights: &options.weights,
            route: options.route.as_deref(),
            rule: options.rule,
        },
    )?;
    let place = match &target {
        Target::Cluster(cluster) => {
            cluster::set(cluster, &change, options.dry_run, options.force).await?;
            String::new()
        }
        Target::Local(socket) => {
            let path = local::set(socket, &change, options.dry_run).await?;
            format!(" in {}", path.display())
        }
    };
    let would = if options.dry_run.is_some() { "would be " } else { "" };
    let meshctl = output::program();
    output::print(&format!(
        "{} {would}set{place}: {}\n  look  {meshctl} split {service} --watch\n",
        change.title(),
        shares(&change)
    ))?;
    Ok(Ending::Good)
}

fn shares(change: &Change) -> String {
    let whole = change.weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let share = |(name, weight): &(String, u32)| {
        format!("{name} {}", words::percent(u64::from(*weight), whole))
    };
    change.weights.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// As `namespace/name`.
fn service_named(typed: &str, namespace: Option<&str>, target: &Target) -> String {
    match typed.contains('/') {
        true => typed.to_owned(),
        false => {
            format!("{}/{typed}", namespace.unwrap_or_else(|| target.default_namespace()))
        }
    }
}

#[cfg(test)]
mod tests;
