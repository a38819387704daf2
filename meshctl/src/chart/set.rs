//! `--set a.b=c,d={e,f}`, as Helm reads it: dots part names, commas part values, braces make lists, `\` takes any of these
//! as it is. Places in lists (`a[0]=b`) are not read: a file of values says that better.

use serde_json::{Map, Value};

use super::ChartError;

/// Puts what the text says into `values`.
pub fn apply(values: &mut Value, text: &str) -> Result<(), ChartError> {
    let wrong =
        |message: &str| ChartError::BadSet { text: text.to_owned(), message: message.to_owned() };
    for assignment in split(text, ',') {
        let mut parts = split(&assignment, '=').into_iter();
        let (Some(path), Some(first)) = (parts.next(), parts.next()) else {
            return Err(wrong("want NAME=VALUE"));
        };
        let value = parts.fold(first, |value, part| format!("{value}={part}"));
        let names = split(&path, '.');
        if path.contains(['[', ']']) {
            return Err(wrong("places in lists are not read: use a file of values (-f)"));
        }
        if names.iter().any(String::is_empty) {
            return Err(wrong("a name is empty"));
        }
        let mut place = &mut *values;
        for name in names {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(fields) = place else {
                return Err(wrong("a name is within a value that is no mapping"));
            };
            place = fields.entry(unescape(&name)).or_insert(Value::Null);
        }
        *place = parse(&value);
    }
    Ok(())
}

fn parse(text: &str) -> Value {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some("") => Value::Array(Vec::new()),
        Some(items) => split(items, ',').iter().map(|item| scalar(item)).collect(),
        None => scalar(text),
    }
}

/// As Helm: booleans, null and integers are what they look like, unless a zero leads; the rest is text.
fn scalar(text: &str) -> Value {
    let text = unescape(text);
    match text.as_str() {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        "null" => return Value::Null,
        "0" => return Value::from(0),
        _ => {}
    }
    match text.parse::<i64>() {
        Ok(number) if !text.starts_with(['0', '+']) => Value::from(number),
        _ => Value::String(text),
    }
}

/// Cuts at a character that is neither escaped nor within braces. Escapes stay.
fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    let mut depth = 0_usize;
    for c in text.chars() {
        if !escaped && c == '{' {
            depth += 1;
        } else if !escaped && c == '}' {
            depth = depth.saturating_sub(1);
        }
        let cuts = c == at && !escaped && depth == 0;
        escaped = c == '\\' && !escaped;
        match parts.last_mut() {
            Some(part) if !cuts => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(text: &str) -> Result<Value, String> {
        let mut values = json!({"kept": 1});
        apply(&mut values, text).map_err(|error| error.to_string())?;
        values.as_object_mut().unwrap().remove("kept");
        Ok(values)
    }

    #[test]
    fn values_are_set() {
        for (case, text, expected) in [
            ("a path", "a.b.c=d", json!({"a": {"b": {"c": "d"}}})),
            ("two", "a=1,b=x", json!({"a": 1, "b": "x"})),
            (
                "types",
                "a=true,b=null,c=0,d=007,e=-3,f=1.5",
                json!({"a": true, "b": null, "c": 0, "d": "007", "e": -3, "f": "1.5"}),
            ),
            ("a list", "a={x,2},b=y", json!({"a": ["x", 2], "b": "y"})),
            ("an empty list", "a={}", json!({"a": []})),
            (
                "an escaped dot",
                "a.kubernetes\\.io/os=linux",
                json!({"a": {"kubernetes.io/os": "linux"}}),
            ),
            ("an escaped comma", "a=b\\,c", json!({"a": "b,c"})),
            ("a value with =", "a=b=c", json!({"a": "b=c"})),
            ("empty", "a=", json!({"a": ""})),
            ("over a text", "a=b,a.c=d", json!({"a": {"c": "d"}})),
        ] {
            assert_eq!(set(text), Ok(expected), "case: {case}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["a", "", "=b", "a..b=c", "a[0]=b", "a=b,"] {
            assert!(set(bad).is_err(), "case: {bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-c.,={}\\[\\]\\\\]{0,30}") {
            let _ = set(&text);
        }
    }
}
