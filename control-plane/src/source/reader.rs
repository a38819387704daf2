//! Reads a typed object out of a document's tree. An error names the field's path and line; a field
//! that the type does not know is an error with a guess at what was meant, since a mistyped name that
//! is dropped would change what an object does without a word.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::source::node::{Key, Node, Value};

/// Reads a value of type `T`.
pub fn read<'de, T: de::Deserialize<'de>>(node: &'de Node) -> Result<T, Misread> {
    T::deserialize(Reader(node)).map_err(|error| error.on_line(node.line))
}

/// A tree that is not what it was read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// From the inside out.
    segments: Vec<Segment>,
    line: Option<u64>,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

impl Misread {
    /// The field's path, such as `spec.backends[1].weight`; empty for the whole document.
    pub fn field(&self) -> String {
        let mut path = String::new();
        for segment in self.segments.iter().rev() {
            match segment {
                Segment::Key(key) if path.is_empty() => path.push_str(key),
                Segment::Key(key) => path.extend([".", key]),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// An error that is found before, or after, the fields are read.
    pub fn of_field(field: &str, message: String) -> Self {
        Self { segments: vec![Segment::Key(field.to_owned())], line: None, message }
    }

    /// From 1.
    pub fn line(&self) -> u64 {
        self.line.unwrap_or(1)
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn inside(mut self, segment: Segment, line: u64) -> Self {
        self.segments.push(segment);
        self.on_line(line)
    }

    fn on_line(mut self, line: u64) -> Self {
        self.line = self.line.or(Some(line));
        self
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misread {}

impl de::Error for Misread {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { segments: Vec::new(), line: None, message: message.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let number = matches!(
            found,
            Unexpected::Bool(_)
                | Unexpected::Signed(_)
                | Unexpected::Unsigned(_)
                | Unexpected::Float(_)
        );
        let hint = if number && expected.contains("string") { "; put it in quotes" } else { "" };
        Self::custom(format!("{found} is not {}{hint}", plain_words(&expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("{found} is not {}", plain_words(&expected.to_string())))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format!("{found:?} is not known (known: {})", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Self::custom("is missing");
        error.segments.push(Segment::Key(field.to_owned()));
        error
    }
}

/// Names of Rust's types mean nothing to who wrote the file.
fn plain_words(expected: &str) -> &str {
    match expected {
        "i32" | "i64" | "u16" | "u32" | "u64" => "a whole number in range",
        "std::string::String" | "a string" => "a text (string)",
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        other if other.starts_with("struct ") => "a mapping of fields",
        other => other,
    }
}

fn unknown_field(key: &Key, known: &[&str]) -> Misread {
    let name = &key.name;
    let nearest = known
        .iter()
        .map(|field| (distance(name, field), *field))
        .min()
        .filter(|(distance, field)| *distance <= 1 + field.len() / 4);
    let message = match nearest {
        Some((_, field)) => format!("is not a known field; did you mean {field:?}?"),
        None if known.len() <= FIELDS_NAMED_LIMIT => {
            format!("is not a known field (known: {})", known.join(", "))
        }
        None => "is not a known field".to_owned(),
    };
    Misread { segments: vec![Segment::Key(name.clone())], line: Some(key.line), message }
}

/// Letters to insert, remove, replace, or swap with their neighbour, in any case (optimal string
/// alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().take(DISTANCE_LIMIT_CHARS).collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut previous: Option<char> = None;
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut last = row + 1;
        for (column, to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column) + usize::from(from != to);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(last + 1);
            let swapped = column.checked_sub(1).filter(|left_column| {
                right.get(*left_column) == Some(from) && previous == Some(*to)
            });
            if let Some(left_column) = swapped {
                best = best.min(at(&before, left_column).saturating_add(1));
            }
            current.push(best);
            last = best;
        }
        previous = Some(*from);
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

/// More known fields than this are no help in a message.
const FIELDS_NAMED_LIMIT: usize = 12;
/// A longer key is no mistyped field.
const DISTANCE_LIMIT_CHARS: usize = 64;

#[derive(Clone, Copy)]
struct Reader<'de>(&'de Node);

impl<'de> Reader<'de> {
    fn unexpected(self) -> Unexpected<'de> {
        match &self.0.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Integer(value) => Unexpected::Signed(*value),
            Value::Unsigned(value) => Unexpected::Unsigned(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::Text(text) => Unexpected::Str(text),
            Value::Sequence(_) => Unexpected::Seq,
            Value::Mapping(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Misread;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misread> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Sequence(nodes) => visitor.visit_seq(Elements { nodes, index: 0 }),
            Value::Mapping(entries) => visitor.visit_map(Entries { entries, value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misread> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misread> {
        // Kubernetes takes `cpu: 1` for `cpu: "1"`; the type here takes texts only.
        let number = match &self.0.value {
            Value::Integer(value) if name == QUANTITY => Some(value.to_string()),
            Value::Float(value) if name == QUANTITY => Some(value.to_string()),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => None,
        };
        match number {
            Some(text) => visitor.visit_newtype_struct(StringDeserializer::<Misread>::new(text)),
            None => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misread> {
        if let Value::Mapping(entries) = &self.0.value {
            let unknown = entries.iter().find(|(key, _)| !fields.contains(&key.name.as_str()));
            if let Some((key, _)) = unknown {
                return Err(unknown_field(key, fields));
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misread> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_enum(BorrowedStrDeserializer::<Misread>::new(text)),
            Value::Mapping(entries) => match entries.as_slice() {
                [(key, value)] => visitor.visit_enum(Variant { key, value }),
                _ => Err(Misread::custom("must have exactly one key")),
            },
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Sequence(_) => Err(Misread::invalid_type(self.unexpected(), &"a name")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The name that k8s-openapi gives to quantities of resources.
const QUANTITY: &str = "Quantity";

struct Elements<'de> {
    nodes: &'de [Node],
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Misread;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misread> {
        let Some(node) = self.nodes.get(self.index) else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Reader(node))
            .map(Some)
            .map_err(|error| error.inside(Segment::Index(index), node.line))
    }
}

struct Entries<'de> {
    entries: &'de [(Key, Node)],
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misread;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misread> {
        let Some((first, rest)) = self.entries.split_first() else { return Ok(None) };
        self.entries = rest;
        self.value = Some(first);
        seed.deserialize(BorrowedStrDeserializer::new(&first.0.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misread> {
        let Some((key, node)) = self.value.take() else {
            return Err(Misread::custom("a value was asked for before its key"));
        };
        seed.deserialize(Reader(node))
            .map_err(|error| error.inside(Segment::Key(key.name.clone()), key.line))
    }
}

struct Variant<'de> {
    key: &'de Key,
    value: &'de Node,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Misread;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misread> {
        let name: BorrowedStrDeserializer<'de, Misread> =
            BorrowedStrDeserializer::new(&self.key.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Misread;

    fn unit_variant(self) -> Result<(), Misread> {
        Err(Misread::custom("takes no value"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misread> {
        seed.deserialize(Reader(self.value))
            .map_err(|error| error.inside(Segment::Key(self.key.name.clone()), self.key.line))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Misread> {
        Reader(self.value).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misread> {
        Reader(self.value).deserialize_struct("", fields, visitor)
    }
}

impl<'de> IntoDeserializer<'de, Misread> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Outer {
        #[serde(default)]
        backends: Vec<Inner>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        weight: u32,
        #[serde(default)]
        mode: Option<Mode>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Mode {
        Fast,
        Slow,
    }

    fn check(text: &str) -> Result<Outer, String> {
        let node = Node::parse(text).unwrap();
        read::<Outer>(&node)
            .map_err(|error| format!("{} | {} | {}", error.line(), error.field(), error.message()))
    }

    #[test]
    fn a_good_tree_is_read() {
        let outer = check("backends:\n- weight: 3\n  mode: Fast\nlabels: {a: b}\n").unwrap();
        assert_eq!(outer.backends, vec![Inner { weight: 3, mode: Some(Mode::Fast) }]);
    }

    #[test]
    fn an_error_names_line_path_and_what_would_do() {
        for (case, text, expected) in [
            (
                "a mistyped field",
                "backends:\n- weight: 1\n- wieght: 2\n",
                "3 | backends[1].wieght | is not a known field; did you mean \"weight\"?",
            ),
            (
                "an unknown field",
                "backends:\n- weight: 1\n  colour: red\n",
                "3 | backends[0].colour | is not a known field (known: weight, mode)",
            ),
            ("a missing field", "backends:\n- mode: Slow\n", "2 | backends[0].weight | is missing"),
            (
                "a number as a label",
                "labels:\n  a: 1\n",
                "2 | labels.a | integer `1` is not a text (string); put it in quotes",
            ),
            (
                "a text as a number",
                "backends:\n- weight: ten\n",
                "2 | backends[0].weight | string \"ten\" is not a whole number in range",
            ),
            (
                "too large",
                "backends:\n- weight: 5000000000\n",
                "2 | backends[0].weight | integer `5000000000` is not a whole number in range",
            ),
            (
                "an unknown name",
                "backends:\n- {weight: 1, mode: Fsat}\n",
                "2 | backends[0].mode | \"Fsat\" is not known (known: Fast, Slow)",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), expected, "case: {case}");
        }
    }

    #[test]
    fn distance_counts_what_a_typist_did() {
        for (left, right, expected) in [
            ("weight", "weight", 0),
            ("wieght", "weight", 1),
            ("wght", "weight", 2),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(left, right), expected, "case: {left} {right}");
        }
    }
}
