//! The definition of our own kind, as Kubernetes takes it: made from the type that it is read as, so that the
//! two cannot differ. `install/crds/` holds what this makes.

use kube::core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::{Value, json};

use crate::source::traffic_policy::TrafficPolicySpec;

/// The CustomResourceDefinition of TrafficPolicy, in YAML. Fails only if the serializer does.
pub fn traffic_policy() -> Result<String, serde_saphyr::SerializeError> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "trafficpolicies.heddle.dev",
            "labels": {"app.kubernetes.io/name": "heddle", "app.kubernetes.io/part-of": "heddle"},
        },
        "spec": {
            "group": "heddle.dev",
            "names": {
                "kind": "TrafficPolicy",
                "listKind": "TrafficPolicyList",
                "plural": "trafficpolicies",
                "singular": "trafficpolicy",
                "categories": ["heddle"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "How the endpoints of services are used by those who call them.",
                    "required": ["spec"],
                    "properties": {"spec": spec(), "status": status()},
                }},
            }],
        },
    });
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&definition)?))
}

fn columns() -> Value {
    let condition = |kind: &str, priority: u8| {
        json!({
            "name": kind,
            "type": "string",
            "priority": priority,
            "jsonPath": format!(".status.conditions[?(@.type==\"{kind}\")].status"),
        })
    };
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    json!([
        condition("Ready", 0),
        condition("Accepted", 0),
        condition("Programmed", 0),
        condition("ResolvedRefs", 1),
        age
    ])
}

fn spec() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<TrafficPolicySpec>().to_value();
    tidy(&mut schema);
    let rules = [
        ("/properties/targetRefs/items", TARGET_RULE, "only Services have policies"),
        (
            "/properties/loadBalancing/properties/consistentHash",
            HASH_RULE,
            "wants one of header: NAME, cookie: NAME and source: true",
        ),
        (
            "/properties/loadBalancing",
            BALANCE_RULE,
            "type ConsistentHash goes with consistentHash, and nothing else does",
        ),
    ];
    for (pointer, rule, message) in rules {
        if let Some(Value::Object(part)) = schema.pointer_mut(pointer) {
            let rules = json!([{"rule": rule, "message": message}]);
            part.insert("x-kubernetes-validations".to_owned(), rules);
        }
    }
    schema
}

/// Takes out what clusters warn about, or what only says how the type is written in Rust.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // What a field means when it is not there is for the control plane to say: it may be changed
            // later, and what somebody wrote stays as it was written. No property has one of these names.
            for field in ["title", "nullable", "default"] {
                fields.remove(field);
            }
            if fields.get("type").and_then(Value::as_str) == Some("integer") {
                fields.remove("format");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn status() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "What became of it. Written by the control plane.",
        "properties": {"conditions": {
            "type": "array",
            "description": "Accepted, ResolvedRefs, Programmed, and Ready when all of them hold.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                "properties": {
                    "type": text("Which condition."),
                    "status": {
                        "type": "string",
                        "description": "Whether it holds.",
                        "enum": ["True", "False", "Unknown"],
                    },
                    "reason": text("Why, in one word."),
                    "message": text("Why, for people."),
                    "lastTransitionTime": {
                        "type": "string",
                        "format": "date-time",
                        "description": "When status last changed.",
                    },
                    "observedGeneration": {
                        "type": "integer",
                        "description": "The generation of the policy that this is about.",
                    },
                },
            },
        }},
    })
}

const HEADER: &str = "# Made from control-plane/src/source/traffic_policy.rs; to make it anew:\n\
                      # cargo run -p heddle-control-plane --example crds\n";
const TARGET_RULE: &str =
    "self.kind == 'Service' && (!has(self.group) || self.group == '' || self.group == 'core')";
const HASH_RULE: &str = "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.source) \
                         && self.source ? 1 : 0) == 1";
const BALANCE_RULE: &str =
    "has(self.consistentHash) == (has(self.type) && self.type == 'ConsistentHash')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_in_the_repository_is_that_of_the_type() {
        let written = include_str!("../../install/crds/trafficpolicies.heddle.dev.yaml");
        assert!(
            traffic_policy().unwrap() == written,
            "write it anew: cargo run -p heddle-control-plane --example crds"
        );
    }

    #[test]
    fn every_field_says_what_it_is_and_no_integer_has_a_format() {
        fn check(path: &str, schema: &Value) {
            assert!(schema["description"].is_string(), "{path} has no description");
            assert!(schema["type"].is_string(), "{path} has no type");
            assert!(schema["type"] != "integer" || schema["format"].is_null(), "{path}");
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                check(&format!("{path}.{name}"), property);
            }
            if let Some(items) = schema["items"].as_object() {
                let items = Value::Object(items.clone());
                for (name, property) in items["properties"].as_object().into_iter().flatten() {
                    check(&format!("{path}[].{name}"), property);
                }
            }
        }
        check("spec", &spec());
        for pointer in ["/properties/targetRefs/items", "/properties/loadBalancing"] {
            let rules = format!("{pointer}/x-kubernetes-validations");
            assert!(spec().pointer(&rules).is_some(), "{pointer} has a rule");
        }
    }
}
