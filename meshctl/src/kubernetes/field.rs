//! Fields of objects as JSON, by pointer (RFC 6901): one that is not there, or is of another type, is empty. Pure.

use serde_json::Value;

/// A text; empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list; empty where there is none.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A whole number; 0 where there is none, as the API server leaves zeros out.
pub fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// The object's name.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The object's namespace; empty where it is in none.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// A label; empty where there is none.
pub fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    let labels = object.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether there is an annotation of this name.
pub fn has_annotation(object: &Value, name: &str) -> bool {
    let annotations = object.pointer("/metadata/annotations");
    annotations.is_some_and(|annotations| annotations.get(name).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_empty() {
        let object = json!({
            "metadata": {"name": "a", "labels": {"x/y": "z"}, "annotations": {"b": ""}},
            "spec": {"replicas": 2, "list": [1]},
        });
        assert_eq!((name(&object), namespace(&object)), ("a", ""));
        assert_eq!((label(&object, "x/y"), label(&object, "z")), ("z", ""));
        assert_eq!((number(&object, "/spec/replicas"), number(&object, "/spec/list")), (2, 0));
        assert_eq!((list(&object, "/spec/list").len(), list(&object, "/spec/name").len()), (1, 0));
        assert!(has_annotation(&object, "b") && !has_annotation(&object, "c"));
    }
}
