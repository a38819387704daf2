//! The Helm chart, rendered without Helm: the same files with the same values become the same objects. Pure. What is done
//! with the objects is in `install`.

pub mod files;
pub mod functions;
pub mod kind;
pub mod manifest;
pub mod schema;
pub mod set;
pub mod template;
pub mod values;

use gotmpl::Value as TemplateValue;
use serde::Deserialize;
use serde_json::{Value, json};

use manifest::Manifest;
use schema::Violation;

/// Which installation is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// The mesh's namespace.
    pub namespace: &'a str,
    /// Who installs, as in the label `app.kubernetes.io/managed-by`.
    pub service: &'a str,
}

/// What the chart's own file says of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// `heddle`.
    pub name: String,
    /// Of the chart.
    pub version: String,
    /// Of the mesh that it installs.
    pub app_version: String,
    /// Which versions of Kubernetes it is for.
    pub kube_version: String,
}

/// Why there is nothing to install.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// A file of values, or one of the chart's, is no YAML.
    #[error("{file} is not YAML: {message}")]
    NotYaml {
        /// Which.
        file: String,
        /// What is wrong where.
        message: String,
    },
    /// A file of values whose top is no mapping.
    #[error("{file} is not a mapping of names to values")]
    NotAMapping {
        /// Which.
        file: String,
    },
    /// `--set` that cannot be read.
    #[error("--set {text:?}: {message}")]
    BadSet {
        /// As typed.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// Values that `values.schema.json` does not allow.
    #[error("{}", listed(.0))]
    BadValues(Vec<Violation>),
    /// A template fails.
    #[error("{file}:{line}: {message}")]
    Template {
        /// Which.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        message: String,
    },
    /// A template rendered something that is no object that the chart may have.
    #[error("{file} renders {message}")]
    NotAnObject {
        /// Which.
        file: String,
        /// What instead.
        message: String,
    },
}

fn listed(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What the chart says of itself.
pub fn about() -> Result<About, ChartError> {
    serde_saphyr::from_str(files::CHART)
        .map_err(|error| not_yaml("Chart.yaml", &error.without_snippet().to_string()))
}

/// All objects of the installation, in the order in which they are applied.
pub fn render(values: &Value, release: Release<'_>) -> Result<Vec<Manifest>, ChartError> {
    let data = data(values, release)?;
    let mut manifests = Vec::new();
    for source in files::TEMPLATES {
        let text = template::render(&files::HELPERS, source, &data)?;
        manifests.extend(manifest::read(source.name, &text)?);
    }
    // Stable: what the chart has in one order stays in it.
    manifests.sort_by_key(|manifest| manifest.kind);
    Ok(manifests)
}

/// What Helm would tell after installing.
pub fn notes(values: &Value, release: Release<'_>) -> Result<String, ChartError> {
    template::render(&files::HELPERS, files::NOTES, &data(values, release)?)
}

fn data(values: &Value, release: Release<'_>) -> Result<TemplateValue, ChartError> {
    let about = about()?;
    let data = json!({
        "Values": values,
        "Chart": {"Name": about.name, "Version": about.version, "AppVersion": about.app_version},
        "Release": {
            "Name": RELEASE_NAME,
            "Namespace": release.namespace,
            "Service": release.service,
        },
    });
    Ok(functions::from_json(&data))
}

fn not_yaml(file: &str, message: &str) -> ChartError {
    ChartError::NotYaml { file: file.to_owned(), message: message.to_owned() }
}

/// What the release is called: there is one mesh in a cluster.
pub const RELEASE_NAME: &str = "heddle";

#[cfg(test)]
mod tests;
