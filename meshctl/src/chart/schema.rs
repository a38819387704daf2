//! Checks values against the chart's `values.schema.json`, so that `meshctl install` refuses what `helm install` refuses.
//! Only the keywords of JSON Schema that the chart's own schema uses are known; another one is an error, not passed over.

use std::fmt;

use regex::Regex;
use serde_json::{Map, Value};

use super::{ChartError, files, not_yaml};

/// A value that may not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `controlPlane.replicas`.
    pub path: String,
    /// What is wrong, and what would do.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

/// All violations of the chart's schema.
pub fn check(values: &Value) -> Result<Vec<Violation>, ChartError> {
    let schema: Value = serde_json::from_str(files::SCHEMA)
        .map_err(|error| not_yaml("values.schema.json", &error.to_string()))?;
    let mut checker = Checker { root: &schema, violations: Vec::new() };
    checker.value(&schema, values, "")?;
    Ok(checker.violations)
}

struct Checker<'a> {
    root: &'a Value,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, schema: &'a Value, value: &Value, path: &str) -> Result<(), ChartError> {
        let Some(keywords) = schema.as_object() else {
            return Err(broken(path, "a schema is a mapping"));
        };
        for (keyword, argument) in keywords {
            match keyword.as_str() {
                "$schema" | "definitions" | "description" => {}
                "$ref" => {
                    let target = argument.as_str().and_then(|text| text.strip_prefix('#'));
                    let target = target.and_then(|pointer| self.root.pointer(pointer));
                    let target = target.ok_or_else(|| broken(path, "a $ref leads nowhere"))?;
                    self.value(target, value, path)?;
                }
                "properties" | "required" | "additionalProperties" => {}
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.value(argument, item, &format!("{path}[{index}]"))?;
                    }
                }
                _ => {
                    if let Some(message) = violated(keyword, argument, value)
                        .map_err(|message| broken(path, &message))?
                    {
                        self.report(path, message);
                    }
                }
            }
        }
        if let Some(fields) = value.as_object() {
            self.fields(keywords, fields, path)?;
        }
        Ok(())
    }

    fn fields(
        &mut self,
        keywords: &'a Map<String, Value>,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Result<(), ChartError> {
        let within = |name: &str| {
            if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
        };
        let known = keywords.get("properties").and_then(Value::as_object);
        for (name, value) in fields {
            let schema = known.and_then(|known| known.get(name));
            match (schema, keywords.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, value, &within(name))?,
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> =
                        known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    let message =
                        format!("there is no such value; want one of {}", names.join(", "));
                    self.report(&within(name), message);
                }
                (None, None | Some(Value::Bool(true))) => {}
                (None, Some(schema)) => self.value(schema, value, &within(name))?,
            }
        }
        let required = keywords.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.report(&within(name), "is missing".to_owned());
            }
        }
        Ok(())
    }

    fn report(&mut self, path: &str, message: String) {
        self.violations.push(Violation { path: path.to_owned(), message });
    }
}

/// What a keyword that looks at the value alone has against it; an error when the keyword is not known.
fn violated(keyword: &str, argument: &Value, value: &Value) -> Result<Option<String>, String> {
    let limit = argument.as_f64();
    let number = value.as_f64();
    let text = value.as_str();
    let length = text.map(|text| text.chars().count() as u64);
    let message = match keyword {
        "type" => {
            let types: Vec<&str> = match argument {
                Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                Value::String(name) => vec![name.as_str()],
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
            };
            let fits = types.iter().any(|name| is_of_type(value, name));
            (!fits).then(|| format!("{value} is not of type {}", types.join(" or ")))
        }
        "enum" => {
            let allowed = argument.as_array().map_or(&[][..], Vec::as_slice);
            let list = || allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            (!allowed.contains(value)).then(|| format!("{value} is not one of {}", list()))
        }
        "pattern" => {
            let pattern = argument.as_str().unwrap_or_default();
            let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
            let refused = text.is_some_and(|text| !regex.is_match(text));
            refused.then(|| format!("{value} does not match {pattern}"))
        }
        "minimum" => above(limit, number).then(|| format!("{value} is less than {argument}")),
        "maximum" => above(number, limit).then(|| format!("{value} is more than {argument}")),
        "maxLength" => (length > argument.as_u64() && length.is_some())
            .then(|| format!("is longer than {argument} characters")),
        "minItems" => {
            let few = value.as_array().map(|items| items.len() as u64) < argument.as_u64();
            (few && value.is_array()).then(|| format!("has fewer than {argument} items"))
        }
        unknown => return Err(format!("the keyword {unknown} is not known")),
    };
    Ok(message)
}

fn above(one: Option<f64>, other: Option<f64>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one > other)
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => {
            let whole = number.is_i64() || number.is_u64();
            name == "number" || (name == "integer" && whole)
        }
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    }
}

fn broken(path: &str, message: &str) -> ChartError {
    not_yaml("values.schema.json", &format!("at {path:?}: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(schema: &Value, value: &Value) -> Result<Vec<String>, String> {
        let mut checker = Checker { root: schema, violations: Vec::new() };
        checker.value(schema, value, "").map_err(|error| error.to_string())?;
        Ok(checker.violations.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_keyword_is_checked() {
        for (case, schema, good, bad) in [
            ("type", json!({"type": "integer"}), json!(1), json!(1.5)),
            ("types", json!({"type": ["integer", "string"]}), json!("x"), json!(true)),
            ("enum", json!({"enum": ["a"]}), json!("a"), json!("b")),
            ("pattern", json!({"pattern": "^a$"}), json!("a"), json!("ab")),
            ("a pattern is for texts", json!({"pattern": "^a$"}), json!(5), json!("5")),
            ("minimum", json!({"minimum": 1}), json!(1), json!(0)),
            ("maximum", json!({"maximum": 1}), json!(1), json!(2)),
            ("maxLength", json!({"maxLength": 1}), json!("é"), json!("ab")),
            ("minItems", json!({"minItems": 1}), json!([1]), json!([])),
            ("items", json!({"items": {"type": "string"}}), json!(["a"]), json!([1])),
            ("required", json!({"required": ["a"]}), json!({"a": 1}), json!({})),
            (
                "properties",
                json!({"properties": {"a": {"type": "string"}}}),
                json!({"a": "x"}),
                json!({"a": 1}),
            ),
            ("no others", json!({"additionalProperties": false}), json!({}), json!({"a": 1})),
            (
                "others",
                json!({"additionalProperties": {"type": "string"}}),
                json!({"a": "x"}),
                json!({"a": 1}),
            ),
            (
                "$ref",
                json!({"$ref": "#/definitions/x", "definitions": {"x": {"type": "string"}}}),
                json!("a"),
                json!(1),
            ),
        ] {
            assert_eq!(checked(&schema, &good), Ok(vec![]), "case: {case}");
            assert_eq!(checked(&schema, &bad).unwrap().len(), 1, "case: {case}");
        }
    }

    #[test]
    fn what_is_not_known_of_a_schema_is_an_error() {
        assert!(checked(&json!({"oneOf": []}), &json!(1)).is_err());
        assert!(checked(&json!({"$ref": "#/definitions/none"}), &json!(1)).is_err());
    }

    #[test]
    fn all_violations_are_reported_with_their_paths() {
        let schema = json!({"properties": {"a": {"items": {"type": "string"}}}, "required": ["b"], "additionalProperties": false});
        let found = checked(&schema, &json!({"a": [1, "x"], "c": 1})).unwrap();
        assert_eq!(
            found,
            [
                "a[0]: 1 is not of type string",
                "c: there is no such value; want one of a",
                "b: is missing"
            ]
        );
    }
}
