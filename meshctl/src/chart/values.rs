//! What the chart is rendered with: its defaults, then what files say, then what `--set` says.

use serde_json::{Map, Value};

use super::{ChartError, files, not_yaml, schema, set};

/// What a user says about values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Start from the values for several replicas.
    pub ha: bool,
    /// Files of values, each with its name and its text; later ones go before earlier ones.
    pub files: Vec<(String, String)>,
    /// `a.b=c`, which goes before all files.
    pub set: Vec<String>,
}

/// What differs from the defaults. It is kept in the cluster, so that an upgrade knows it.
pub fn overrides(wanted: &Wanted) -> Result<Value, ChartError> {
    let mut overrides = Value::Object(Map::new());
    if wanted.ha {
        merge(&mut overrides, read("values-ha.yaml", files::HA_VALUES)?);
    }
    for (name, text) in &wanted.files {
        merge(&mut overrides, read(name, text)?);
    }
    for text in &wanted.set {
        set::apply(&mut overrides, text)?;
    }
    Ok(overrides)
}

/// All values, checked against the chart's schema.
pub fn complete(overrides: &Value) -> Result<Value, ChartError> {
    let mut values = read("values.yaml", files::VALUES)?;
    merge(&mut values, overrides.clone());
    drop_nulls(&mut values);
    let violations = schema::check(&values)?;
    if violations.is_empty() { Ok(values) } else { Err(ChartError::BadValues(violations)) }
}

/// Reads a file of values; an empty one says nothing.
pub fn read(name: &str, text: &str) -> Result<Value, ChartError> {
    let nothing = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    });
    if nothing {
        return Ok(Value::Object(Map::new()));
    }
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| not_yaml(name, &error.without_snippet().to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ChartError::NotAMapping { file: name.to_owned() })
    }
}

/// Mappings are merged name by name; everything else is replaced.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// As in Helm, null takes a default away.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_words_go_before_earlier_ones() {
        let wanted = Wanted {
            ha: true,
            files: vec![
                ("a.yaml".to_owned(), "injector: {replicas: 3}\nproxy: {log: debug}\n".to_owned()),
                ("b.yaml".to_owned(), "injector: {replicas: 4}\n".to_owned()),
                ("empty.yaml".to_owned(), "# nothing\n".to_owned()),
            ],
            set: vec!["injector.replicas=5,trustDomain=example.org".to_owned()],
        };
        let overrides = overrides(&wanted).unwrap();
        assert_eq!(overrides["injector"]["replicas"], 5);
        let values = complete(&overrides).unwrap();
        assert_eq!(values["controlPlane"]["replicas"], 3, "of values-ha.yaml");
        assert_eq!(values["proxy"]["log"], "debug");
        assert_eq!(values["trustDomain"], "example.org");
        assert_eq!(values["image"]["repository"], "heddle", "a default");
    }

    #[test]
    fn a_bad_value_is_named() {
        for (case, set, expected) in [
            ("a wrong name", "replicas=2", "replicas: there is no such value"),
            ("a wrong type", "controlPlane.replicas=two", "controlPlane.replicas: "),
            ("too small", "controlPlane.replicas=0", "controlPlane.replicas: "),
            ("not one of", "injector.failurePolicy=Maybe", "injector.failurePolicy: "),
            ("a pattern", "trustDomain=Example.org", "trustDomain: "),
            ("taken away", "trustDomain=null", "trustDomain: is missing"),
        ] {
            let wanted = Wanted { set: vec![set.to_owned()], ..Wanted::default() };
            let error = complete(&overrides(&wanted).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "case: {case}: {error}");
        }
    }

    #[test]
    fn a_file_of_values_is_a_mapping() {
        assert!(matches!(read("x", "[1]"), Err(ChartError::NotAMapping { .. })));
        assert!(matches!(read("x", "a: ["), Err(ChartError::NotYaml { .. })));
        assert_eq!(read("x", "---\n").unwrap(), json!({}));
    }
}
