//! `meshctl inject` and `meshctl uninject`: what the webhook does to pods, done to files. The patch itself is in
//! heddle-injector; which object has which pod in it is in `workload`.

pub mod arguments;
pub mod files;
pub mod workload;

use std::collections::BTreeMap;

use heddle_injector::inject::{self as injector, InjectError, Verdict};
use heddle_injector::settings::MeshSettings;
use heddle_injector::{annotations, patch};
use heddle_local::manifests::documents;
use serde_json::Value;

use crate::chart::{self, kind::Kind};
use crate::failure::Failure;
use crate::inject::arguments::{InjectArguments, SettingsArguments, UninjectArguments};
use crate::inject::files::Input;
use crate::install::{bad_values, tell};
use crate::kubernetes::client;
use crate::output;
use crate::run::Ending;

/// `meshctl inject`.
pub async fn run(arguments: InjectArguments) -> Result<Ending, Failure> {
    let settings = settings(&arguments.settings).await?;
    each(&arguments.input, |pod| inject_one(pod, &settings))
}

/// `meshctl uninject`.
pub fn undo(arguments: &UninjectArguments) -> Result<Ending, Failure> {
    each(&arguments.input, uninject_one)
}

/// What became of a pod, or of a pod's template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was changed: in a word.
    Changed(&'static str),
    /// It stays: why.
    Unchanged(String),
}

/// Reads all input, changes every pod in it, prints it; or prints nothing where one pod cannot be changed.
fn each(
    input: &arguments::Files,
    change: impl Fn(&mut Value) -> Result<Change, String>,
) -> Result<Ending, Failure> {
    let inputs = files::read(input)?;
    let mut text = String::new();
    let mut refused = Vec::new();
    for Input { name, text: before } in &inputs {
        match changed(before, &change) {
            Ok(outcome) => {
                if !text.is_empty() && !outcome.text.starts_with("---") {
                    text.push_str("---\n");
                }
                text.push_str(&outcome.text);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                outcome.told.iter().for_each(|line| tell(&format!("{line}\n")));
            }
            Err(reasons) => {
                refused.extend(reasons.iter().map(|reason| format!("{name}: {reason}")))
            }
        }
    }
    if refused.is_empty() {
        output::print(&text)?;
        return Ok(Ending::Good);
    }
    let failure = Failure::new("nothing was changed", "mend what is named, and say it again");
    Err(refused.into_iter().fold(failure, Failure::because_of))
}

/// A file after the change.
struct Outcome {
    text: String,
    told: Vec<String>,
}

fn changed(
    text: &str,
    change: impl Fn(&mut Value) -> Result<Change, String>,
) -> Result<Outcome, Vec<String>> {
    let file = documents::parse(text.as_bytes());
    let mut refused: Vec<String> = file.unreadable.iter().map(ToString::to_string).collect();
    let mut after = file.documents.clone();
    let mut told = Vec::new();
    for document in &mut after {
        for object in document.objects_mut() {
            let name = workload::name(object);
            let Some(pod) = workload::pod_mut(object) else {
                continue;
            };
            match change(pod) {
                Ok(Change::Changed(how)) => told.push(format!("{name} {how}")),
                Ok(Change::Unchanged(why)) => told.push(format!("{name} unchanged: {why}")),
                Err(reason) => refused.push(format!("{name}: {reason}")),
            }
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let text = documents::print(&file.documents, &after);
    Ok(Outcome { text: String::from_utf8_lossy(&text).into_owned(), told })
}

fn inject_one(pod: &mut Value, settings: &MeshSettings) -> Result<Change, String> {
    // Whoever calls this asks for proxies; a pod's own word still goes first.
    let asked = BTreeMap::from([(annotations::INJECT.to_owned(), "enabled".to_owned())]);
    match injector::inject(pod, &asked, settings).map_err(|error| said(&error))? {
        Verdict::Inject { patched, .. } => {
            *pod = patched;
            Ok(Change::Changed("injected"))
        }
        Verdict::Skip(reason) => Ok(Change::Unchanged(reason.to_string())),
        Verdict::Refuse(refusals) => {
            let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Err(refusals.join("; "))
        }
    }
}

fn uninject_one(pod: &mut Value) -> Result<Change, String> {
    let read = injector::read(pod).map_err(|error| said(&error))?;
    let removal = patch::removal(&read);
    if removal.0.is_empty() {
        return Ok(Change::Unchanged("it has no proxy".to_owned()));
    }
    json_patch::patch(pod, &removal).map_err(|error| error.to_string())?;
    Ok(Change::Changed("uninjected"))
}

fn said(error: &InjectError) -> String {
    heddle_runtime::logging::Chain(error).to_string()
}

/// The settings that pods get: of a file, of the chart, or of the cluster.
async fn settings(arguments: &SettingsArguments) -> Result<MeshSettings, Failure> {
    let (place, text) = if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let remedy = "check the path of --config";
            Failure::new(format!("cannot read {}", path.display()), remedy).because(&error)
        })?;
        (path.display().to_string(), text)
    } else if arguments.default_config {
        ("the chart's defaults".to_owned(), of_chart(&arguments.cluster.mesh_namespace)?)
    } else {
        let namespace = &arguments.cluster.mesh_namespace;
        (format!("ConfigMap {namespace}/{CONFIG_MAP}"), of_cluster(arguments).await?)
    };
    MeshSettings::from_yaml(&text).map_err(|error| {
        Failure::new(format!("cannot read the settings of {place}"), "mend what is named")
            .because(&error)
    })
}

fn of_chart(namespace: &str) -> Result<String, Failure> {
    let nothing = Value::Object(serde_json::Map::new());
    let values = chart::values::complete(&nothing).map_err(bad_values)?;
    let release = chart::Release { namespace, service: "meshctl" };
    let manifests = chart::render(&values, release).map_err(bad_values)?;
    let mut maps = manifests.iter().filter(|manifest| manifest.kind == Kind::ConfigMap);
    let text = maps.find_map(|manifest| text_of(&manifest.object)).map(ToOwned::to_owned);
    text.ok_or_else(|| {
        Failure::new("the chart has no settings of the injector", "report this as a bug of meshctl")
    })
}

async fn of_cluster(arguments: &SettingsArguments) -> Result<String, Failure> {
    let cluster = client::connect(&arguments.cluster).await?;
    let namespace = arguments.cluster.mesh_namespace.as_str();
    let resource = Kind::ConfigMap.resource();
    let found = cluster.get(&resource, Some(namespace), CONFIG_MAP).await?;
    found.as_ref().and_then(text_of).map(ToOwned::to_owned).ok_or_else(|| {
        Failure::new(
            format!("there is no ConfigMap {namespace}/{CONFIG_MAP} with {KEY}"),
            "install the mesh (`meshctl install --apply`), give its --mesh-namespace, or take --default-config",
        )
    })
}

fn text_of(config_map: &Value) -> Option<&str> {
    let is_it = config_map.pointer("/metadata/name").and_then(Value::as_str) == Some(CONFIG_MAP);
    config_map.get("data")?.get(KEY)?.as_str().filter(|_| is_it)
}

/// Where the injector reads its settings.
const CONFIG_MAP: &str = "heddle-injector";

/// The key in it.
const KEY: &str = "injector.yaml";

#[cfg(test)]
mod tests;
