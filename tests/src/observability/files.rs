//! The files below `install/observability`, read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use heddle_local::manifests::documents;
use serde_json::Value;

/// A file of the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Its text.
pub fn text(name: &str) -> Result<String> {
    std::fs::read_to_string(path(name)).with_context(|| name.to_owned())
}

/// The objects in a file of YAML.
pub fn yaml(name: &str) -> Result<Vec<Value>> {
    let file = documents::parse(text(name)?.as_bytes());
    ensure!(file.unreadable.is_empty(), "{name}: {:?}", file.unreadable);
    let objects = file.documents.iter().flat_map(documents::Document::objects);
    Ok(objects.filter(|object| !object.is_null()).cloned().collect())
}

/// The only object in a file of YAML.
pub fn only(name: &str) -> Result<Value> {
    let objects = yaml(name)?;
    ensure!(objects.len() == 1, "{name} holds {} objects", objects.len());
    objects.into_iter().next().context("one is there")
}

/// A list within a value; an error where it is missing or no list.
pub fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.with_context(|| format!("no list {pointer} in {value}"))
}

/// A text within a value; an error where it is missing or no text.
pub fn string<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no text {pointer} in {value}"))
}

/// Names of the files with this ending in a folder of the repository, from its root, sorted.
pub fn below(folder: &str, ending: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path(folder)).with_context(|| folder.to_owned())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            names.push(format!("{folder}/{name}"));
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "no {ending} in {folder}");
    Ok(names)
}

/// Dashboards.
pub const DASHBOARDS: &str = "install/observability/grafana";
/// Rules.
pub const RULES: &str = "install/observability/prometheus/rules";
/// The configuration of a Prometheus.
pub const PROMETHEUS: &str = "install/observability/prometheus/prometheus.yaml";
