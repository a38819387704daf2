//! `meshctl install` and `meshctl upgrade`: the chart's objects, printed, tried or applied. What they are is in `chart`.

pub mod apply;
pub mod arguments;
pub mod found;
pub mod meshed;
pub mod plan;
pub mod render;
pub mod rollout;
pub mod uninstall;
pub mod version;
pub mod wait;

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value};

use crate::chart::manifest::Manifest;
use crate::chart::{self, ChartError, files, values};
use crate::failure::Failure;
use crate::install::arguments::{
    ApplyArguments, DryRun, InstallArguments, MeshArguments, ObjectFormat, UpgradeArguments,
    ValueArguments,
};
use crate::kubernetes::client::{self, Cluster};
use crate::kubernetes::objects::ApplyOptions;
use crate::output::{self, Colour};
use crate::run::Ending;
use crate::table;

/// `meshctl install`.
pub async fn install(arguments: InstallArguments, colour: Colour) -> Result<Ending, Failure> {
    if arguments.show_values {
        output::print(files::VALUES)?;
        return Ok(Ending::Good);
    }
    let overrides = values::overrides(&wanted(&arguments.values)?).map_err(bad_values)?;
    let manifests = plan(&overrides, &arguments.mesh)?;
    match action(&arguments.apply) {
        Action::Print(format) => {
            print(render::objects(&manifests, format, colour)?, format, &arguments.apply)?;
        }
        Action::Name(format) => {
            print(render::tried(&manifests, format, colour)?, format, &arguments.apply)?;
        }
        Action::Send { dry_run } => {
            let cluster = client::connect(&arguments.mesh.cluster()).await?;
            let meshes = found::meshes(&cluster).await?;
            let version = chart::about().map_err(broken)?.app_version;
            found::may_install(&meshes, &arguments.mesh.namespace, &version)?;
            send(&cluster, &manifests, &arguments.apply, dry_run).await?;
            if !dry_run {
                tell(&notes(&overrides, &arguments.mesh)?);
            }
        }
    }
    Ok(Ending::Good)
}

/// `meshctl upgrade`.
pub async fn upgrade(arguments: UpgradeArguments, colour: Colour) -> Result<Ending, Failure> {
    let cluster = client::connect(&arguments.mesh.cluster()).await?;
    let meshes = found::meshes(&cluster).await?;
    let version = chart::about().map_err(broken)?.app_version;
    let old = found::may_upgrade(&meshes, &arguments.mesh.namespace, &version)?;
    let mut overrides = match arguments.reset_values {
        true => Value::Object(Map::new()),
        false => found::recorded_values(&cluster).await?,
    };
    let more = values::overrides(&wanted(&arguments.values)?).map_err(bad_values)?;
    values::merge(&mut overrides, more);
    let manifests = plan(&overrides, &arguments.mesh)?;
    let stale = found::stale(&cluster, &manifests).await?;
    let name_stale = |verb: &str| {
        stale
            .iter()
            .for_each(|id| tell(&format!("{id} {verb}: version {version} has no such object\n")));
    };
    match action(&arguments.apply) {
        Action::Print(format) => {
            name_stale("would be deleted");
            print(render::objects(&manifests, format, colour)?, format, &arguments.apply)?;
        }
        Action::Name(format) => {
            name_stale("would be deleted");
            print(render::tried(&manifests, format, colour)?, format, &arguments.apply)?;
        }
        Action::Send { dry_run: true } => {
            name_stale("would be deleted");
            send(&cluster, &manifests, &arguments.apply, true).await?;
        }
        Action::Send { dry_run: false } => {
            tell(&format!("upgrading from {old} to {version}\n"));
            send(&cluster, &manifests, &arguments.apply, false).await?;
            for id in &stale {
                let resource = id.kind.resource();
                cluster.delete(&resource, id.namespace.as_deref(), &id.name).await?;
                output::print(&format!("{id} deleted\n"))?;
            }
            tell(&notes(&overrides, &arguments.mesh)?);
        }
    }
    Ok(Ending::Good)
}

fn print(text: String, format: ObjectFormat, arguments: &ApplyArguments) -> Result<(), Failure> {
    let no_headers = format == ObjectFormat::Wide && arguments.no_headers;
    output::print(&table::headed(text, no_headers))
}

/// What is done with the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Printed.
    Print(ObjectFormat),
    /// Named, as if they had been applied.
    Name(ObjectFormat),
    /// Sent to the API server.
    Send {
        /// Which keeps nothing.
        dry_run: bool,
    },
}

/// A dry run goes before `--apply`: whoever says both wants to see what `--apply` would do.
fn action(arguments: &ApplyArguments) -> Action {
    match (arguments.dry_run, arguments.apply) {
        (Some(DryRun::Client), _) => Action::Name(arguments.output.unwrap_or(ObjectFormat::Name)),
        (Some(DryRun::Server), _) => Action::Send { dry_run: true },
        (None, true) => Action::Send { dry_run: false },
        (None, false) => Action::Print(arguments.output.unwrap_or(ObjectFormat::Yaml)),
    }
}

async fn send(
    cluster: &Cluster,
    manifests: &[Manifest],
    arguments: &ApplyArguments,
    dry_run: bool,
) -> Result<(), Failure> {
    let options = ApplyOptions { dry_run, force: arguments.force_conflicts };
    apply::all(cluster, manifests, options, arguments).await?;
    if dry_run || arguments.timeout.0.is_zero() {
        return Ok(());
    }
    wait::until_ready(cluster, manifests, arguments.timeout.0).await
}

fn plan(overrides: &Value, mesh: &MeshArguments) -> Result<Vec<Manifest>, Failure> {
    check_namespace(&mesh.namespace)?;
    plan::manifests(overrides, &mesh.namespace).map_err(bad_values)
}

fn notes(overrides: &Value, mesh: &MeshArguments) -> Result<String, Failure> {
    let values = values::complete(overrides).map_err(bad_values)?;
    let release = chart::Release { namespace: &mesh.namespace, service: plan::MANAGED_BY };
    chart::notes(&values, release).map_err(broken)
}

/// The webhook leaves pods of its own namespace alone, so that must be one that holds nothing else of weight.
fn check_namespace(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > NAMESPACE_LIMIT || edges || !name.chars().all(good) {
        return Err(Failure::new(
            format!("{name:?} cannot be a namespace"),
            "give a --mesh-namespace of small letters, digits and `-`, such as heddle-system",
        ));
    }
    if ["default", "kube-system", "kube-public", "kube-node-lease"].contains(&name) {
        return Err(Failure::new(
            format!("the mesh cannot be in the namespace {name}"),
            "give it a --mesh-namespace of its own: its pods get no proxy, and `meshctl uninstall --purge` deletes it",
        ));
    }
    Ok(())
}

/// Reads the files that are named.
pub fn wanted(arguments: &ValueArguments) -> Result<values::Wanted, Failure> {
    let files = arguments.files.iter().map(|path| {
        let text = read(path).map_err(|error| {
            let remedy = "check the path: `-f` names a file of values, `-` standard input";
            Failure::new(format!("cannot read {}", path.display()), remedy).because(&error)
        })?;
        Ok((path.display().to_string(), text))
    });
    let files = files.collect::<Result<_, Failure>>()?;
    Ok(values::Wanted { ha: arguments.ha, files, set: arguments.set.clone() })
}

fn read(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// What is wrong with what the user said, or, as good as never, with the chart.
pub fn bad_values(error: ChartError) -> Failure {
    let remedy = "see what can be set: `meshctl install --show-values`";
    Failure::new("cannot make the objects of the mesh", remedy).because(&error)
}

fn broken(error: ChartError) -> Failure {
    Failure::new("cannot read the chart in this program", "report this as a bug of meshctl")
        .because(&error)
}

/// On standard error: standard output is for what other programs read.
pub fn tell(text: &str) {
    // Nobody may be reading.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Of a DNS label (RFC 1035).
const NAMESPACE_LIMIT: usize = 63;

#[cfg(test)]
mod tests {
    use heddle_runtime::duration;

    use super::*;

    #[test]
    fn a_dry_run_goes_before_apply() {
        let arguments = |apply, dry_run, output| ApplyArguments {
            apply,
            dry_run,
            force_conflicts: false,
            timeout: duration::Text(std::time::Duration::ZERO),
            output,
            no_headers: false,
        };
        for (case, arguments, expected) in [
            ("nothing", arguments(false, None, None), Action::Print(ObjectFormat::Yaml)),
            (
                "json",
                arguments(false, None, Some(ObjectFormat::Json)),
                Action::Print(ObjectFormat::Json),
            ),
            ("apply", arguments(true, None, None), Action::Send { dry_run: false }),
            ("both", arguments(true, Some(DryRun::Server), None), Action::Send { dry_run: true }),
            (
                "client",
                arguments(true, Some(DryRun::Client), None),
                Action::Name(ObjectFormat::Name),
            ),
        ] {
            assert_eq!(action(&arguments), expected, "case: {case}");
        }
    }

    #[test]
    fn the_mesh_has_a_namespace_of_its_own() {
        for (name, good) in [
            ("heddle-system", true),
            ("default", false),
            ("kube-system", false),
            ("Heddle", false),
            ("", false),
            ("-a", false),
        ] {
            assert_eq!(check_namespace(name).is_ok(), good, "case: {name}");
        }
    }
}
