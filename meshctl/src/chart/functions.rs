//! The functions that the chart's templates call, as Helm has them (<https://helm.sh/docs/chart_template_guide/function_list>).
//! One that is not here is an error: see `template`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{TemplateError, Value};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

/// A function of templates.
pub type Function = fn(&[Value]) -> Result<Value, TemplateError>;

/// By name.
pub const FUNCTIONS: [(&str, Function); 9] = [
    ("default", default),
    ("dict", dict),
    ("int", int),
    ("list", list),
    ("nindent", nindent),
    ("quote", quote),
    ("sha256sum", sha256sum),
    ("toJson", to_json_text),
    ("toYaml", to_yaml_text),
];

/// Those of the language itself that the chart may call, and `include`.
const LANGUAGE: [&str; 8] = ["and", "eq", "gt", "include", "ne", "not", "or", "printf"];

/// Whether a template may call it.
pub fn is_known(name: &str) -> bool {
    LANGUAGE.contains(&name) || FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// As templates see it.
pub fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| (name.as_str().into(), from_json(value)));
            Value::Map(Arc::new(fields.collect()))
        }
    }
}

/// The other way; fails for a function, which no value is.
pub fn to_json(value: &Value) -> Result<Json, TemplateError> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::String(text) => Json::from(&**text),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.to_string(), to_json(value)?)));
            Json::Object(fields.collect::<Result<_, TemplateError>>()?)
        }
        Value::Function(_) => return Err(wrong("a function is no value")),
    })
}

/// `default OTHERWISE VALUE`: the value, unless it is empty.
fn default(arguments: &[Value]) -> Result<Value, TemplateError> {
    match arguments {
        [otherwise, value] => Ok(if value.is_truthy() { value } else { otherwise }.clone()),
        _ => Err(wrong("default wants what to take otherwise, and a value")),
    }
}

/// `dict NAME VALUE ...`.
fn dict(arguments: &[Value]) -> Result<Value, TemplateError> {
    let mut fields = BTreeMap::new();
    for pair in arguments.chunks(2) {
        let [Value::String(name), value] = pair else {
            return Err(wrong("dict wants names and values in turn"));
        };
        fields.insert(Arc::clone(name), value.clone());
    }
    Ok(Value::Map(Arc::new(fields)))
}

/// `int VALUE`: a number of YAML, which Helm reads as a float, as an integer.
fn int(arguments: &[Value]) -> Result<Value, TemplateError> {
    match arguments {
        [Value::Int(value)] => Ok(Value::Int(*value)),
        _ => Err(wrong("int wants an integer")),
    }
}

/// `list VALUE ...`.
fn list(arguments: &[Value]) -> Result<Value, TemplateError> {
    Ok(Value::List(arguments.to_vec().into()))
}

/// `nindent SPACES TEXT`: on a new line, every line indented.
fn nindent(arguments: &[Value]) -> Result<Value, TemplateError> {
    let [Value::Int(spaces), Value::String(text)] = arguments else {
        return Err(wrong("nindent wants a number of spaces and a text"));
    };
    let spaces = usize::try_from(*spaces).map_err(|_| wrong("nindent wants some spaces"))?;
    let margin = format!("\n{}", " ".repeat(spaces.min(INDENT_LIMIT)));
    Ok(Value::String(format!("{margin}{}", text.replace('\n', &margin)).into()))
}

/// `quote VALUE`: in double quotes.
fn quote(arguments: &[Value]) -> Result<Value, TemplateError> {
    match arguments {
        [value] => Ok(Value::String(Json::from(value.to_string()).to_string().into())),
        _ => Err(wrong("quote wants one value")),
    }
}

/// `sha256sum TEXT`: in hexadecimal.
fn sha256sum(arguments: &[Value]) -> Result<Value, TemplateError> {
    let [Value::String(text)] = arguments else {
        return Err(wrong("sha256sum wants a text"));
    };
    let digest = Sha256::digest(text.as_bytes());
    let hexadecimal: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Value::String(hexadecimal.into()))
}

/// `toJson VALUE`: on one line, names in order.
fn to_json_text(arguments: &[Value]) -> Result<Value, TemplateError> {
    match arguments {
        [value] => Ok(Value::String(to_json(value)?.to_string().into())),
        _ => Err(wrong("toJson wants one value")),
    }
}

/// `toYaml VALUE`: without a line end.
fn to_yaml_text(arguments: &[Value]) -> Result<Value, TemplateError> {
    let [value] = arguments else {
        return Err(wrong("toYaml wants one value"));
    };
    let text = serde_saphyr::to_string(&to_json(value)?);
    let text = text.map_err(|error| wrong(&format!("this is no YAML: {error}")))?;
    Ok(Value::String(text.trim_end().into()))
}

fn wrong(message: &str) -> TemplateError {
    TemplateError::Exec(message.to_owned())
}

/// More is a mistake.
const INDENT_LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn called(name: &str, arguments: &[Json]) -> Result<Json, String> {
        let (_, function) = FUNCTIONS.iter().find(|(known, _)| *known == name).unwrap();
        let arguments: Vec<Value> = arguments.iter().map(from_json).collect();
        let answer = function(&arguments).map_err(|error| error.to_string())?;
        Ok(to_json(&answer).unwrap())
    }

    #[test]
    fn functions_do_what_helm_s_do() {
        for (name, arguments, expected) in [
            ("default", vec![json!("a"), json!("")], json!("a")),
            ("default", vec![json!("a"), json!("b")], json!("b")),
            ("dict", vec![json!("a"), json!(1), json!("b"), json!([])], json!({"a": 1, "b": []})),
            ("list", vec![json!(1), json!("x")], json!([1, "x"])),
            ("nindent", vec![json!(2), json!("a\nb")], json!("\n  a\n  b")),
            ("quote", vec![json!("a\"b")], json!("\"a\\\"b\"")),
            ("quote", vec![json!(5)], json!("\"5\"")),
            ("toJson", vec![json!({"b": 1, "a": "x"})], json!("{\"a\":\"x\",\"b\":1}")),
            ("toYaml", vec![json!({"a": "x"})], json!("a: x")),
            ("int", vec![json!(3)], json!(3)),
            (
                "sha256sum",
                vec![json!("")],
                json!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ),
        ] {
            assert_eq!(called(name, &arguments), Ok(expected), "case: {name} {arguments:?}");
        }
    }

    #[test]
    fn wrong_arguments_are_errors() {
        for (name, _) in FUNCTIONS.iter().filter(|(name, _)| *name != "list") {
            assert!(called(name, &[json!(1), json!(2), json!(3)]).is_err(), "case: {name}");
        }
        assert!(called("nindent", &[json!(-1), json!("x")]).is_err());
        assert!(called("int", &[json!("3")]).is_err());
    }
}
