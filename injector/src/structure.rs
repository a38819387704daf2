//! How much a text of JSON will become when it is parsed, told before anybody parses it: a list of empty lists
//! takes three bytes for each in the text, and a hundred times that in memory. Pure.

/// A text, and how many values it can hold.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    text: &'a [u8],
    structure: usize,
}

impl<'a> Measured<'a> {
    /// Counts `{`, `[` and `,` outside of strings: each begins a value, and there is one value more than
    /// these at most. What is not JSON is counted up to where a parser stops, and maybe beyond.
    pub fn new(text: &'a [u8]) -> Self {
        let mut structure = 0;
        let mut place = Place::Outside;
        for byte in text {
            place = match (place, byte) {
                (Place::Outside, b'{' | b'[' | b',') => {
                    structure += 1;
                    Place::Outside
                }
                (Place::Outside, b'"') => Place::Within,
                (Place::Outside, _) => Place::Outside,
                (Place::Within, b'"') => Place::Outside,
                (Place::Within, b'\\') => Place::Escaped,
                (Place::Within | Place::Escaped, _) => Place::Within,
            };
        }
        Self { text, structure }
    }

    /// The text.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// How many values it can hold, less one.
    pub fn structure(self) -> usize {
        self.structure
    }
}

#[derive(Clone, Copy)]
enum Place {
    Outside,
    /// A string.
    Within,
    /// A string, after a backslash.
    Escaped,
}

/// How much structure a review may have. A variable of a container is ten, with what the API server notes of
/// who set it, so that this is five thousand variables in one pod; pods of hundreds of variables and dozens
/// of containers have some thousands. The objects of 1.5 MiB that etcd takes would only have more if they
/// consisted of it.
pub const STRUCTURE_LIMIT: usize = 50_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_begins_a_value_is_counted_and_what_only_looks_like_it_is_not() {
        for (case, text, expected) in [
            ("nothing", "", 0),
            ("a number", "17", 0),
            ("empty lists", "[[],[],[]]", 6),
            ("an object", r#"{"a":1,"b":{}}"#, 3),
            ("a string", r#""{[,""#, 0),
            ("an escaped quote", r#"["\"[[[",1]"#, 2),
            ("an escaped backslash", r#"["\\",[]]"#, 3),
            ("an escape in code points", r#"["\u0022[",[]]"#, 3),
            ("a string without an end", r#"["[[["#, 1),
        ] {
            assert_eq!(Measured::new(text.as_bytes()).structure(), expected, "case: {case}");
        }
    }

    fn values(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(values).sum::<usize>(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},\"\\\\a]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let key = "[\\[{,\"\\\\a-c]{0,4}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_text_becomes_more_values_than_were_counted(value in any_json()) {
            let text = value.to_string();
            prop_assert!(values(&value) <= Measured::new(text.as_bytes()).structure() + 1);
        }
    }
}
