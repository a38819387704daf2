//! What every Kubernetes object has: its kind, name and labels. What is in one kind of object is in that kind's file.

use std::collections::BTreeMap;
use std::fmt;

use heddle_model::names::{ObjectReference, ServiceName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Fault;
use super::documents::Document;

/// An object's head.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Such as `Pod`.
    pub kind: String,
    /// Its name and what is attached to it.
    pub metadata: Metadata,
}

/// An object's `metadata`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace; absent means `default`.
    pub namespace: Option<String>,
    /// The UID, where the file names one.
    pub uid: Option<String>,
    /// The labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The name of a pod; two pods may have it one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Object {
    /// Reads the head; fails for what is no Kubernetes object.
    pub fn read(value: &Value) -> Result<Self, Fault> {
        let object: Self = typed(value)?;
        // Names become file names here, and Kubernetes would refuse these too.
        for name in [&object.metadata.name, object.namespace()] {
            if !is_name(name) {
                return Err(Fault::new(
                    "metadata.name",
                    format!("{name:?} is no name of an object"),
                ));
            }
        }
        Ok(object)
    }

    /// The namespace.
    pub fn namespace(&self) -> &String {
        static DEFAULT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "default".into());
        self.metadata.namespace.as_ref().unwrap_or(&DEFAULT)
    }

    /// The object as it is named in messages.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: self.kind.clone(),
            namespace: self.namespace().clone(),
            name: self.metadata.name.clone(),
        }
    }

    /// The name of the pod that this is.
    pub fn pod_name(&self) -> PodName {
        PodName { namespace: self.namespace().clone(), name: self.metadata.name.clone() }
    }

    /// The name of the service that this is.
    pub fn service_name(&self) -> ServiceName {
        ServiceName { namespace: self.namespace().clone(), name: self.metadata.name.clone() }
    }
}

/// The kind, namespace and name that an object seems to have, also where the rest of its head cannot be read.
pub fn claimed(value: &Value) -> Option<(&str, PodName)> {
    let text = |field: &str| Some(value.get("metadata")?.get(field)?.as_str()?.to_owned());
    let kind = value.get("kind")?.as_str()?;
    let namespace = text("namespace").unwrap_or_else(|| "default".to_owned());
    Some((kind, PodName { namespace, name: text("name")? }))
}

/// Reads a value as `T`, where null means absent as it does in Kubernetes; the fault names the field.
pub fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(without_nulls(value))
        .map_err(|error| Fault::new(error.path().to_string(), error.into_inner().to_string()))
}

/// The `metadata` of every Namespace object, by its name: pods inherit `heddle.dev/inject` from there.
pub fn injection_by_namespace<'a>(
    documents: impl Iterator<Item = &'a Document>,
) -> BTreeMap<String, Value> {
    documents
        .flat_map(Document::objects)
        .filter(|value| value.get("kind").and_then(Value::as_str) == Some("Namespace"))
        .filter_map(|value| value.get("metadata"))
        .filter_map(|metadata| Some((metadata.get("name")?.as_str()?.to_owned(), metadata.clone())))
        .collect()
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_name(text: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.len() <= NAME_LIMIT_BYTES
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// The kinds that Kubernetes makes pods from.
pub const RUNS_PODS: [&str; 6] =
    ["CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"];
/// RFC 1123: the limit of Kubernetes for subdomain names.
const NAME_LIMIT_BYTES: usize = 253;
