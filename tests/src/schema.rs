//! Holds a JSON value against a JSON Schema (2020-12), strictly: what the schema does not name is an error too. Our own
//! because the schemas of `docs/schema` use a dozen keywords, and each of the validators that there are brings twenty
//! crates along. A keyword that is not known here is an error, so that none passes unchecked.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

/// Fails when a value is not as the schema of `docs/schema` with this name has it.
pub fn hold(name: &str, value: &Value) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name);
    let file = file.with_extension("json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let found = violations(&serde_json::from_str(&text)?, value);
    ensure!(found.is_empty(), "not as {} has it:\n{}", file.display(), found.join("\n"));
    Ok(())
}

/// What is wrong with a value, each with its place in it; empty: nothing.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Check { root: schema, found: &mut found }.value(schema, value, "$");
    found
}

struct Check<'a> {
    root: &'a Value,
    found: &'a mut Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, schema: &Value, value: &Value, place: &str) {
        // Anything goes.
        if *schema == Value::Bool(true) {
            return;
        }
        let Some(schema) = schema.as_object() else {
            return self.tell(place, "the schema is none");
        };
        let merged = self.merged(schema);
        let schema = merged.as_ref().unwrap_or(schema);
        for (keyword, argument) in schema {
            match (keyword.as_str(), argument) {
                ("$schema" | "$defs" | "title" | "description" | "format" | "default", _) => {}
                ("type", argument) => self.type_of(argument, value, place),
                ("enum", Value::Array(allowed)) if allowed.contains(value) => {}
                ("const", allowed) if allowed == value => {}
                ("enum" | "const", _) => {
                    self.tell(place, &format!("{value} is none of {argument}"));
                }
                ("minimum", least) if value.as_f64() >= least.as_f64() || !value.is_number() => {}
                ("maximum", most) if value.as_f64() <= most.as_f64() || !value.is_number() => {}
                ("minimum" | "maximum", _) => {
                    self.tell(place, &format!("{value} is beyond {argument}"));
                }
                ("$ref", Value::String(name)) => match self.definition(name) {
                    Some(definition) => self.value(&definition, value, place),
                    None => self.tell(place, &format!("there is no {name}")),
                },
                ("anyOf" | "oneOf", Value::Array(choices)) => self.any(choices, value, place),
                ("items", items) => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.value(items, item, &format!("{place}[{index}]"));
                    }
                }
                ("required", Value::Array(names)) => self.required(names, value, place),
                ("properties", Value::Object(properties)) => {
                    self.properties(properties, schema, value, place);
                }
                ("additionalProperties", others) if !schema.contains_key("properties") => {
                    for (name, other) in value.as_object().into_iter().flatten() {
                        self.value(others, other, &format!("{place}.{name}"));
                    }
                }
                ("additionalProperties", Value::Bool(false)) => {}
                _ => self.tell(place, &format!("the keyword {keyword} is not known here")),
            }
        }
    }

    fn tell(&mut self, place: &str, what: &str) {
        self.found.push(format!("{place}: {what}"));
    }

    /// Of an object that is another one with more fields, all fields together: neither has all of them.
    fn merged(&self, schema: &Map<String, Value>) -> Option<Map<String, Value>> {
        let (Some(Value::String(name)), Some(own)) = (schema.get("$ref"), schema.get("properties"))
        else {
            return None;
        };
        let mut merged = self.definition(name)?.as_object()?.clone();
        let properties = merged.get_mut("properties")?.as_object_mut()?;
        properties.extend(own.as_object()?.clone());
        let required = merged.get_mut("required")?.as_array_mut()?;
        required.extend(
            schema.get("required").and_then(Value::as_array).into_iter().flatten().cloned(),
        );
        let is_other = |keyword: &str| !matches!(keyword, "$ref" | "properties" | "required");
        merged.extend(
            schema
                .iter()
                .filter(|(keyword, _)| is_other(keyword))
                .map(|(keyword, value)| (keyword.clone(), value.clone())),
        );
        Some(merged)
    }

    fn definition(&self, name: &str) -> Option<Value> {
        self.root.pointer(name.strip_prefix('#')?).cloned()
    }

    fn type_of(&mut self, expected: &Value, value: &Value, place: &str) {
        let several = expected.as_array().map(Vec::as_slice);
        let names = several.unwrap_or(std::slice::from_ref(expected));
        let is_one = names.iter().filter_map(Value::as_str).any(|name| match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => false,
        });
        if !is_one {
            self.tell(place, &format!("{value} is no {expected}"));
        }
    }

    fn any(&mut self, choices: &[Value], value: &Value, place: &str) {
        let mut all = Vec::new();
        for choice in choices {
            let mut found = Vec::new();
            Check { root: self.root, found: &mut found }.value(choice, value, place);
            if found.is_empty() {
                return;
            }
            all.extend(found);
        }
        self.found.extend(all);
    }

    fn required(&mut self, names: &[Value], value: &Value, place: &str) {
        let Some(object) = value.as_object() else { return };
        for name in
            names.iter().filter_map(Value::as_str).filter(|name| !object.contains_key(*name))
        {
            self.tell(place, &format!("{name} is missing"));
        }
    }

    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        schema: &Map<String, Value>,
        value: &Value,
        place: &str,
    ) {
        for (name, one) in value.as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            match (properties.get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, one, &place),
                (None, Some(others)) if others.is_object() => self.value(others, one, &place),
                (None, _) => self.tell(&place, "the schema does not have it"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_with_more_fields_has_those_of_both() {
        let extended = json!({
            "$ref": "#/$defs/Row",
            "properties": {"kind": {"const": "row"}},
            "required": ["kind"],
            "$defs": {"Row": {
                "type": "object",
                "required": ["count"],
                "properties": {"count": {"type": "integer"}},
            }},
        });
        for (value, expected) in [
            (json!({"kind": "row", "count": 1}), vec![]),
            (json!({"kind": "row"}), vec!["$: count is missing"]),
            (json!({"count": 1}), vec!["$: kind is missing"]),
            (
                json!({"kind": "row", "count": 1, "more": 1}),
                vec!["$.more: the schema does not have it"],
            ),
        ] {
            assert_eq!(violations(&extended, &value), expected, "case: {value}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["name", "rows"],
            "properties": {
                "name": {"type": ["string", "null"]},
                "rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}},
                "counts": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
                "state": {"oneOf": [{"const": "good"}, {"const": "bad"}]},
                "maybe": {"anyOf": [{"$ref": "#/$defs/Row"}, {"type": "null"}]},
                "any": true,
            },
            "$defs": {"Row": {
                "type": "object",
                "required": ["count"],
                "properties": {"count": {"type": "integer", "minimum": 0}},
            }},
        });
        for (case, value, expected) in [
            (
                "good",
                json!({"name": null, "rows": [{"count": 1}], "any": [1], "counts": {"a": 1}}),
                vec![],
            ),
            (
                "good, with a choice",
                json!({"name": "", "rows": [], "state": "bad", "maybe": null}),
                vec![],
            ),
            (
                "unknown",
                json!({"name": "", "rows": [], "more": 1}),
                vec!["$.more: the schema does not have it"],
            ),
            (
                "unknown, deep inside",
                json!({"name": "", "rows": [{"count": 1, "more": 1}]}),
                vec!["$.rows[0].more: the schema does not have it"],
            ),
            ("missing", json!({"name": ""}), vec!["$: rows is missing"]),
            (
                "of another type",
                json!({"name": 1, "rows": []}),
                vec!["$.name: 1 is no [\"string\",\"null\"]"],
            ),
            (
                "below",
                json!({"name": "", "rows": [{"count": -1}]}),
                vec!["$.rows[0].count: -1 is beyond 0"],
            ),
            (
                "in a map",
                json!({"name": "", "rows": [], "counts": {"a": "b"}}),
                vec!["$.counts.a: \"b\" is no \"integer\""],
            ),
            (
                "no choice",
                json!({"name": "", "rows": [], "state": "odd"}),
                vec!["$.state: \"odd\" is none of \"good\"", "$.state: \"odd\" is none of \"bad\""],
            ),
        ] {
            assert_eq!(violations(&schema, &value), expected, "case: {case}");
        }
        let unknown = violations(&json!({"pattern": "a"}), &json!("b"));
        assert_eq!(unknown, ["$: the keyword pattern is not known here"]);
    }
}
