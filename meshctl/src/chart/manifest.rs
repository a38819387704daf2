//! One object of an installation: as text that people read, and as what is applied.

use std::fmt;

use heddle_local::manifests::documents;
use serde_json::Value;

use super::ChartError;
use super::kind::Kind;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Which of the kinds.
    pub kind: Kind,
    /// Where it comes from: a file of the chart.
    pub file: String,
    /// As rendered, with comments, without the line that separates documents.
    pub text: String,
    /// The same.
    pub object: Value,
}

impl Manifest {
    /// One that comes from no template.
    pub fn of(kind: Kind, file: &str, object: Value) -> Self {
        let text = documents::print_value(&object).unwrap_or_default();
        Self { kind, file: file.to_owned(), text: text.trim().to_owned(), object }
    }

    /// What it is called.
    pub fn id(&self) -> ObjectId {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        ObjectId {
            kind: self.kind,
            namespace: text("/metadata/namespace").map(ToOwned::to_owned),
            name: text("/metadata/name").unwrap_or_default().to_owned(),
        }
    }
}

/// An object's kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Which of the kinds.
    pub kind: Kind,
    /// None for what is in no namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.short_name(), self.name)
    }
}

/// Reads what a template rendered: any number of objects, or nothing.
pub fn read(file: &str, rendered: &str) -> Result<Vec<Manifest>, ChartError> {
    let wrong = |message: String| ChartError::NotAnObject { file: file.to_owned(), message };
    let mut manifests = Vec::new();
    let read = documents::parse(rendered.as_bytes());
    if let Some(unreadable) = read.unreadable.first() {
        return Err(wrong(unreadable.to_string()));
    }
    for document in &read.documents {
        for object in document.objects() {
            if object.is_null() {
                continue;
            }
            let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
            let (api_version, kind_name) = (text("apiVersion"), text("kind"));
            let kind = Kind::of(api_version, kind_name).ok_or_else(|| {
                wrong(format!("{api_version} {kind_name}, which the chart may not have"))
            })?;
            // The line that separates documents comes after comments, or before them.
            let lines = document.text().lines().filter(|line| line.trim_end() != "---");
            let body = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
            let manifest =
                Manifest { kind, file: file.to_owned(), text: body, object: object.clone() };
            let id = manifest.id();
            if id.name.is_empty() || id.namespace.is_some() != kind.is_namespaced() {
                return Err(wrong(format!("{id}, whose name or namespace is missing or too much")));
            }
            manifests.push(manifest);
        }
    }
    Ok(manifests)
}

/// All of them as one stream of YAML, as `helm template` prints it.
pub fn print(manifests: &[Manifest]) -> String {
    let mut text = String::new();
    for manifest in manifests {
        text.push_str("---\n# Source: ");
        text.push_str(&manifest.file);
        text.push('\n');
        text.push_str(&manifest.text);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read() {
        let text = "\n---\n# why\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n---\n\n";
        let manifests = read("x.yaml", text).unwrap();
        assert_eq!(manifests.len(), 1);
        assert_eq!(manifests[0].id().to_string(), "service/a");
        assert!(manifests[0].text.starts_with("# why\n"), "comments stay");
        assert_eq!(read("x.yaml", "# nothing\n").unwrap(), []);
        let again = read("x.yaml", &print(&manifests)).unwrap();
        assert_eq!(again[0].object, manifests[0].object);
    }

    #[test]
    fn what_the_chart_may_not_have_is_refused() {
        for (case, text) in [
            ("an unknown kind", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}"),
            ("no name", "apiVersion: v1\nkind: Service\nmetadata: {namespace: b}"),
            ("no namespace", "apiVersion: v1\nkind: Service\nmetadata: {name: a}"),
            (
                "a namespace too many",
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: a, namespace: b}",
            ),
            ("no YAML", "a: ["),
            ("no object", "just words"),
        ] {
            assert!(read("x.yaml", text).is_err(), "case: {case}");
        }
    }
}
