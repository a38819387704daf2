//! Weights in a file of YAML: only they change, comments and order stay. What cannot be changed so is refused, with the
//! place to edit. Pure.

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::split::plan::{Change, Place};

/// The file's text with the new weights, or why it has to be edited by hand.
pub fn with_weights(text: &str, change: &Change) -> Result<String, String> {
    let mut found = None;
    for (start, document) in documents(text) {
        if let Ok(object) = serde_saphyr::from_str::<Object>(document)
            && object.is(change)
        {
            if found.is_some() {
                return Err("the object is there twice".to_owned());
            }
            found = Some((start, document, object));
        }
    }
    let (start, document, object) =
        found.ok_or("the object is not there as a document of its own")?;
    let edited = edit(document, &object, change)?;
    check(document, &edited, change)?;
    let end = start + document.len();
    let before = text.get(..start).unwrap_or_default();
    let after = text.get(end..).unwrap_or_default();
    Ok(format!("{before}{edited}{after}"))
}

/// The documents, each with where it begins.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") && position > start {
            found.push((start, text.get(start..position).unwrap_or_default()));
            start = position;
        }
        position += line.len();
    }
    found.push((start, text.get(start..).unwrap_or_default()));
    found
}

/// As much of an object as has weights.
#[derive(Debug, Deserialize)]
struct Object {
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Spec {
    #[serde(default)]
    backends: Vec<Backend>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    backend_refs: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    weight: Option<Spanned<Value>>,
}

impl Object {
    fn is(&self, change: &Change) -> bool {
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        self.kind == change.kind
            && self.metadata.name == change.name
            && namespace == change.namespace
    }

    fn backends(&self, place: Place) -> &[Backend] {
        match place {
            Place::Split => &self.spec.backends,
            Place::Rule(index) => {
                self.spec.rules.get(index).map_or(&[], |rule| rule.backend_refs.as_slice())
            }
        }
    }
}

fn edit(document: &str, object: &Object, change: &Change) -> Result<String, String> {
    let backends = object.backends(change.place);
    let name = |backend: &Backend| match change.place {
        Place::Split => backend.service.clone().unwrap_or_default(),
        Place::Rule(_) => backend.name.clone().unwrap_or_default(),
    };
    let there: Vec<String> = backends.iter().map(name).collect();
    let wanted: Vec<String> = change.weights.iter().map(|(name, _)| name.clone()).collect();
    if there != wanted {
        return Err(format!("it has the backends {}", there.join(", ")));
    }
    let mut edits = Vec::new();
    for (backend, (name, weight)) in backends.iter().zip(&change.weights) {
        let Some(written) = &backend.weight else {
            return Err(format!("no weight is written for {name}, which means 1"));
        };
        if written.referenced != written.defined {
            return Err(format!("the weight of {name} is an alias of another value"));
        }
        let place = offset(document, written.referenced.line(), written.referenced.column());
        let place =
            place.ok_or_else(|| format!("the weight of {name} is not found in the text"))?;
        let old = token(document.get(place..).unwrap_or_default());
        let said = written.value.as_str();
        let said = said.map_or_else(|| written.value.to_string(), ToOwned::to_owned);
        if old.trim_matches(['"', '\'']) != said {
            return Err(format!("the weight of {name} is written in an unusual way"));
        }
        edits.push((place, old.len(), weight.to_string()));
    }
    edits.sort_by_key(|(place, _, _)| std::cmp::Reverse(*place));
    let mut edited = document.to_owned();
    for (place, length, weight) in edits {
        edited.replace_range(place..place + length, &weight);
    }
    Ok(edited)
}

/// The byte at which a line's column is; both count from 1, columns in characters.
fn offset(text: &str, line: u64, column: u64) -> Option<usize> {
    let index = usize::try_from(line.checked_sub(1)?).ok()?;
    let column = usize::try_from(column.checked_sub(1)?).ok()?;
    let start: usize = text.split_inclusive('\n').take(index).map(str::len).sum();
    let line = text.get(start..)?;
    let inside = line.char_indices().nth(column)?.0;
    Some(start + inside)
}

/// A scalar, up to what ends it.
fn token(text: &str) -> &str {
    let end = |c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | '#');
    text.split(end).next().unwrap_or_default()
}

/// What was meant is all that changed: reads both, and changes one of them as a value.
fn check(before: &str, after: &str, change: &Change) -> Result<(), String> {
    let read = |text: &str| {
        serde_saphyr::from_str::<Value>(text).map_err(|error| format!("it cannot be read: {error}"))
    };
    let (mut wanted, found) = (read(before)?, read(after)?);
    let backends = wanted.pointer_mut(&change.place.pointer()).and_then(Value::as_array_mut);
    for (backend, (_, weight)) in backends.into_iter().flatten().zip(&change.weights) {
        if let Some(backend) = backend.as_object_mut() {
            backend.insert("weight".to_owned(), Value::from(*weight));
        }
    }
    match wanted == found {
        true => Ok(()),
        false => Err("the edit would change something else as well".to_owned()),
    }
}

#[cfg(test)]
mod tests;
