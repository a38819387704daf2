//! A YAML (or JSON) document as a tree that remembers the line of every value. What the values mean is
//! in `reader.rs`.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From 1; 0 if not known.
    pub line: u64,
    /// The value.
    pub value: Value,
}

/// What a document is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`; the other spellings of YAML 1.1 (`yes`, `on`, `n`) are texts.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number beyond `i64`.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order they were written; no key twice.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// From 1; 0 if not known.
    pub line: u64,
    /// The text.
    pub name: String,
}

/// A text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotYaml {
    /// Within the text, from 1.
    pub line: u64,
    /// What the parser says.
    pub message: String,
}

impl Node {
    /// Reads one document. Depth, size and aliases are bounded by the parser's budget.
    pub fn parse(text: &str) -> Result<Self, NotYaml> {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        serde_saphyr::from_str_with_options::<Self>(text, options).map_err(|error| NotYaml {
            line: error.location().map_or(1, |location| location.line()),
            message: without_place(&error.without_snippet().to_string()),
        })
    }

    /// The same tree as a document in JSON that was read already; no lines are known of it.
    pub fn from_json(json: &serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Integer(value),
                (None, Some(value)) => Value::Unsigned(value),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Array(items) => {
                Value::Sequence(items.iter().map(Self::from_json).collect())
            }
            serde_json::Value::Object(fields) => {
                let entry = |(name, value): (&String, &serde_json::Value)| {
                    (Key { line: 0, name: name.clone() }, Self::from_json(value))
                };
                Value::Mapping(fields.iter().map(entry).collect())
            }
        };
        Self { line: 0, value }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Sequence(_) => None,
        }
    }

    /// The text of a key, if this is a mapping that has it as a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value {
            Value::Text(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => None,
        }
    }

    /// A number that differs when the content differs, whatever its lines and the order of its keys.
    pub fn content_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.value {
            Value::Null => 0_u8.hash(&mut hasher),
            Value::Bool(value) => (1_u8, value).hash(&mut hasher),
            Value::Integer(value) => (2_u8, value).hash(&mut hasher),
            Value::Unsigned(value) => (3_u8, value).hash(&mut hasher),
            Value::Float(value) => (4_u8, value.to_bits()).hash(&mut hasher),
            Value::Text(value) => (5_u8, value).hash(&mut hasher),
            Value::Sequence(nodes) => {
                6_u8.hash(&mut hasher);
                for node in nodes {
                    node.content_hash().hash(&mut hasher);
                }
            }
            Value::Mapping(entries) => {
                7_u8.hash(&mut hasher);
                let mut hashes: Vec<(&str, u64)> = entries
                    .iter()
                    .map(|(key, node)| (key.name.as_str(), node.content_hash()))
                    .collect();
                hashes.sort_unstable();
                hashes.hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Adds lines that were before the text this was read from.
    pub fn moved_down(mut self, lines: u64) -> Self {
        self.line += lines;
        self.value = match self.value {
            Value::Sequence(nodes) => {
                Value::Sequence(nodes.into_iter().map(|node| node.moved_down(lines)).collect())
            }
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .into_iter()
                    .map(|(key, node)| {
                        (Key { line: key.line + lines, ..key }, node.moved_down(lines))
                    })
                    .collect(),
            ),
            scalar @ (Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)) => scalar,
        };
        self
    }
}

/// The parser ends or begins its messages with the place, which is told apart from them here.
fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let rest = first.split_once(": ").filter(|(place, _)| place.starts_with("line "));
    let text = rest.map_or(first, |(_, rest)| rest);
    let end = text.find(" at line ").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text);
    // A hint for programmers, not for who writes the file.
    text.strip_suffix(", set DuplicateKeyPolicy in Options if acceptable")
        .unwrap_or(text)
        .to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Unsigned(value), Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element::<Node>()? {
            nodes.push(node);
        }
        Ok(Value::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Node>()? {
            let name = key_text(&key.value)
                .ok_or_else(|| de::Error::custom("a key must be a text or a number"))?;
            entries.push((Key { line: key.line, name }, access.next_value()?));
        }
        Ok(Value::Mapping(entries))
    }
}

fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Unsigned(value) => Some(value.to_string()),
        Value::Null | Value::Float(_) | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let node = Node::parse("a: 1\nb:\n  - x\n  - y: {z: true}\n").unwrap();
        assert_eq!(node.field("a").unwrap().line, 1);
        let Value::Sequence(list) = &node.field("b").unwrap().value else { panic!("a list") };
        assert_eq!(list[1].field("y").unwrap().field("z").unwrap().line, 4);
    }

    #[test]
    fn the_order_of_keys_and_comments_do_not_change_the_hash() {
        let hash = |text| Node::parse(text).unwrap().content_hash();
        assert_eq!(hash("a: 1\nb: 2\n"), hash("# note\nb: 2\n\na: 1\n"));
        assert_ne!(hash("a: 1"), hash("a: '1'"));
        assert_ne!(hash("[a, b]"), hash("[b, a]"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = Node::parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        assert!(Node::parse("a: 1\na: 2\n").is_err(), "a key twice");
    }
}
