//! All that is installed: the chart's objects, and what Helm does itself: the namespace, and a record of the values. Pure.

use serde_json::{Value, json};

use crate::chart::kind::Kind;
use crate::chart::manifest::Manifest;
use crate::chart::{self, ChartError, Release};

/// Who installs, in `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "meshctl";

/// What was given to `meshctl install`, for `meshctl upgrade`.
pub const VALUES_CONFIG_MAP: &str = "heddle-values";

/// Selects what `meshctl install` applied.
pub const SELECTOR: &str = "app.kubernetes.io/part-of=heddle,app.kubernetes.io/managed-by=meshctl";

/// The objects, in the order in which they are applied.
pub fn manifests(overrides: &Value, namespace: &str) -> Result<Vec<Manifest>, ChartError> {
    let values = chart::values::complete(overrides)?;
    let release = Release { namespace, service: MANAGED_BY };
    let version = chart::about()?.app_version;
    let mut manifests = vec![of_namespace(namespace), of_values(overrides, namespace, &version)];
    manifests.extend(chart::render(&values, release)?);
    manifests.sort_by_key(|manifest| manifest.kind);
    Ok(manifests)
}

/// The overrides in the record of an installation. `None`: there are none, or nobody can read them.
pub fn recorded(values: &Value) -> Option<Value> {
    let text = values.pointer("/data/values.yaml")?.as_str()?;
    chart::values::read(VALUES_CONFIG_MAP, text).ok()
}

fn of_namespace(namespace: &str) -> Manifest {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "labels": {
                "app.kubernetes.io/name": "heddle",
                "app.kubernetes.io/part-of": "heddle",
                "app.kubernetes.io/managed-by": MANAGED_BY,
                "pod-security.kubernetes.io/enforce": "restricted",
            },
        },
    });
    Manifest::of(Kind::Namespace, SOURCE, object)
}

fn of_values(overrides: &Value, namespace: &str, version: &str) -> Manifest {
    let text = serde_saphyr::to_string(overrides).unwrap_or_else(|_| overrides.to_string());
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": VALUES_CONFIG_MAP,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "heddle",
                "app.kubernetes.io/part-of": "heddle",
                "app.kubernetes.io/managed-by": MANAGED_BY,
                "app.kubernetes.io/version": version,
            },
        },
        "data": {"values.yaml": text},
    });
    Manifest::of(Kind::ConfigMap, SOURCE, object)
}

/// Where these two objects come from.
const SOURCE: &str = "meshctl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_comes_first_and_the_webhook_last() {
        let manifests = manifests(&json!({}), "mesh").unwrap();
        let kinds: Vec<Kind> = manifests.iter().map(|manifest| manifest.kind).collect();
        assert_eq!(kinds.first(), Some(&Kind::Namespace));
        assert_eq!(kinds.last(), Some(&Kind::MutatingWebhookConfiguration));
        for manifest in &manifests {
            let id = manifest.id();
            assert!(id.namespace.is_none_or(|namespace| namespace == "mesh"), "{}", id.name);
        }
    }

    #[test]
    fn everything_is_found_again_by_its_labels() {
        for manifest in manifests(&json!({}), "mesh").unwrap() {
            if manifest.kind == Kind::CustomResourceDefinition {
                continue;
            }
            let labels = &manifest.object["metadata"]["labels"];
            for pair in SELECTOR.split(',') {
                let (name, value) = pair.split_once('=').unwrap();
                assert_eq!(labels[name], value, "{} in {}", name, manifest.id());
            }
        }
    }

    #[test]
    fn the_values_are_recorded() {
        for overrides in
            [json!({}), json!({"trustDomain": "example.org", "injector": {"replicas": 2}})]
        {
            let manifests = manifests(&overrides, "mesh").unwrap();
            let record = manifests.iter().find(|manifest| manifest.id().name == VALUES_CONFIG_MAP);
            assert_eq!(recorded(&record.unwrap().object), Some(overrides));
        }
    }
}
