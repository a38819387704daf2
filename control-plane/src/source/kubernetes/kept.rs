//! Reads what the API server sends, and keeps of it, while it reads, what `pruning.rs` says: what is dropped
//! never takes memory of its own, and no object can make the mesh keep more than a bound.

use std::cell::Cell;
use std::fmt;

use kube::core::Status;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use crate::source::kubernetes::pruning::{Keep, METADATA};

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Where a watch goes on after it.
    pub version: String,
    /// Everything else, or why that is not kept.
    pub fields: Result<Map<String, Value>, Excess>,
}

/// Why an object is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// There is too much of it.
    #[error(
        "is larger than the {OBJECT_LIMIT_BYTES} bytes that the mesh keeps of one object; make several of it"
    )]
    Size,
    /// It is nested too deeply.
    #[error("is nested more than {LEVELS_LIMIT} levels deep, and no field that the mesh reads is")]
    Depth,
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of the list.
    pub items: Vec<Item>,
    /// What to ask for the next part with; empty: there is none.
    pub next: String,
    /// From where a watch goes on after the list.
    pub version: String,
}

/// One line of a watch.
#[derive(Debug)]
pub enum Change {
    /// An object is there, or is another.
    Applied(Item),
    /// An object is gone.
    Deleted(Item),
    /// Nothing happened up to here.
    Bookmark(String),
    /// The watch is over.
    Refused(Box<Status>),
}

/// Reads a part of a list.
pub fn page(text: &[u8], keep: Keep) -> serde_json::Result<Page> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let page = PageSeed(keep).deserialize(&mut reader)?;
    reader.end()?;
    Ok(page)
}

/// Reads one line of a watch.
pub fn change(line: &str, keep: Keep) -> serde_json::Result<Change> {
    // Which fields matter depends on the type, wherever that is on the line.
    let item = || {
        let mut reader = serde_json::Deserializer::from_str(line);
        EventSeed(keep).deserialize(&mut reader)
    };
    match serde_json::from_str::<EventType>(line)?.name.as_str() {
        "ADDED" | "MODIFIED" => Ok(Change::Applied(item()?)),
        "DELETED" => Ok(Change::Deleted(item()?)),
        "BOOKMARK" => Ok(Change::Bookmark(item()?.version)),
        "ERROR" => Ok(Change::Refused(serde_json::from_str::<Refused>(line)?.object)),
        other => Err(Error::custom(format!("{other:?} is no type of a watch's event"))),
    }
}

#[derive(serde::Deserialize)]
struct EventType {
    #[serde(rename = "type")]
    name: String,
}

#[derive(serde::Deserialize)]
struct Refused {
    object: Box<Status>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// How much of an object may still be kept.
#[derive(Debug)]
struct Room {
    left_bytes: Cell<usize>,
    excess: Cell<Option<Excess>>,
}

impl Room {
    fn new() -> Self {
        Self { left_bytes: Cell::new(OBJECT_LIMIT_BYTES), excess: Cell::new(None) }
    }

    /// False, from then on, if there is no room for a value with this much text.
    fn take(&self, text_bytes: usize) -> bool {
        match self.left_bytes.get().checked_sub(text_bytes.saturating_add(VALUE_BYTES)) {
            Some(left) if self.excess.get().is_none() => {
                self.left_bytes.set(left);
                true
            }
            Some(_) | None => {
                self.exceeded(Excess::Size);
                false
            }
        }
    }

    fn exceeded(&self, excess: Excess) {
        self.excess.set(self.excess.get().or(Some(excess)));
    }

    fn fits(self, fields: Map<String, Value>) -> Result<Map<String, Value>, Excess> {
        self.excess.get().map_or(Ok(fields), Err)
    }
}

/// A value of an object, and what of it is kept.
#[derive(Clone, Copy)]
struct Part<'a> {
    keep: Keep,
    level: usize,
    room: &'a Room,
}

impl Part<'_> {
    fn scalar(self, text_bytes: usize, value: impl FnOnce() -> Value) -> Value {
        if self.room.take(text_bytes) { value() } else { Value::Null }
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        if self.level > LEVELS_LIMIT {
            self.room.exceeded(Excess::Depth);
        }
        // The rest of the object is read over, and whatever comes after it is not affected.
        if self.room.excess.get().is_some() {
            return IgnoredAny::deserialize(reader).map(|_| Value::Null);
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(self.scalar(0, || Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(self.scalar(0, || Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.scalar(0, || Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.scalar(0, || Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(self.scalar(0, || Value::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.scalar(value.len(), || Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        self.room.take(0);
        let part = Part { level: self.level + 1, ..self };
        while let Some(item) = items.next_element_seed(part)? {
            // What does not fit is not kept in part.
            if self.room.excess.get().is_none() {
                kept.push(item);
            }
        }
        Ok(Value::Array(kept))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        self.room.take(0);
        while let Some(name) = fields.next_key::<String>()? {
            match self.keep.field(&name) {
                Some(keep) if self.room.take(name.len()) => {
                    let part = Part { keep, level: self.level + 1, ..self };
                    kept.insert(name, fields.next_value_seed(part)?);
                }
                Some(_) | None => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }
}

/// A whole object.
struct ItemSeed(Keep);

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Item, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Item, A::Error> {
        // Whose object it is has room of its own: whatever the rest is, its name is known.
        let (names, room) = (Room::new(), Room::new());
        let mut metadata = Value::Null;
        let mut kept = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            match self.0.field(&name) {
                _ if name == "metadata" => {
                    let part = Part { keep: METADATA, level: 1, room: &names };
                    metadata = fields.next_value_seed(part)?;
                }
                Some(keep) if room.take(name.len()) => {
                    let part = Part { keep, level: 1, room: &room };
                    kept.insert(name, fields.next_value_seed(part)?);
                }
                Some(_) | None => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        let mut metadata = match metadata {
            Value::Object(metadata) => metadata,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        let version = metadata.remove("resourceVersion");
        let version = version.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(excess) = names.excess.get() {
            room.exceeded(excess);
        }
        Ok(Item { metadata, version, fields: room.fits(kept) })
    }
}

/// The object of a line of a watch.
struct EventSeed(Keep);

impl<'de> DeserializeSeed<'de> for EventSeed {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Item, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event of a watch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Item, A::Error> {
        let mut item = None;
        while let Some(name) = fields.next_key::<String>()? {
            if name == "object" {
                item = Some(fields.next_value_seed(ItemSeed(self.0))?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        item.ok_or_else(|| Error::missing_field("object"))
    }
}

struct PageSeed(Keep);

impl<'de> DeserializeSeed<'de> for PageSeed {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Page, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        let mut listed = false;
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "metadata" => {
                    let ListMetadata { resource_version, next } = fields.next_value()?;
                    page.version = resource_version.unwrap_or_default();
                    page.next = next.unwrap_or_default();
                }
                "items" => {
                    page.items = fields.next_value_seed(ItemsSeed(self.0))?;
                    listed = true;
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        // An answer that is no list must not be taken for an empty one.
        if listed { Ok(page) } else { Err(Error::missing_field("items")) }
    }
}

struct ItemsSeed(Keep);

impl<'de> DeserializeSeed<'de> for ItemsSeed {
    type Value = Vec<Item>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Vec<Item>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    /// An empty list may be written so.
    fn visit_unit<E>(self) -> Result<Vec<Item>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Item>, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(ItemSeed(self.0))? {
            kept.push(item);
        }
        Ok(kept)
    }
}

/// How much is kept of one object: texts, and `VALUE_BYTES` for each value. The largest EndpointSlice that
/// Kubernetes takes, of 1,000 endpoints, has about 0.7 MB of them; etcd takes objects of 1.5 MB.
pub const OBJECT_LIMIT_BYTES: usize = 1 << 20;
/// What a value takes beside its text.
const VALUE_BYTES: usize = 32;
/// No field that the mesh reads is nested as deeply. What is nested more than twice as deeply cannot be read
/// by `serde_json`.
const LEVELS_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::kubernetes::pruning;

    fn listed(items: &str, keep: Keep) -> Vec<Item> {
        let text = format!(
            r#"{{"kind": "List", "metadata": {{"resourceVersion": "7", "continue": "more"}}, "items": {items}}}"#
        );
        let page = page(text.as_bytes(), keep).unwrap();
        assert_eq!((page.version.as_str(), page.next.as_str()), ("7", "more"));
        page.items
    }

    fn named(name: &str, spec: &str) -> String {
        format!(
            r#"{{"metadata": {{"name": "{name}", "resourceVersion": "5"}}, "spec": {spec}, "status": {{"a": 1}}}}"#
        )
    }

    #[test]
    fn one_object_that_is_too_much_is_not_kept_and_the_others_are() {
        let large = format!("\"{}\"", "x".repeat(OBJECT_LIMIT_BYTES));
        let many = format!("[{}1]", "1,".repeat(OBJECT_LIMIT_BYTES / VALUE_BYTES));
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        let keys = format!("{{\"{}\": 1}}", "k".repeat(OBJECT_LIMIT_BYTES));
        for (case, spec, expected) in [
            ("small", "{\"a\": 1}", None),
            ("a long text", large.as_str(), Some(Excess::Size)),
            ("many values", &many, Some(Excess::Size)),
            ("a long name of a field", &keys, Some(Excess::Size)),
            ("deeper than can be read", &deep, Some(Excess::Depth)),
        ] {
            let items = format!("[{}, {}]", named("a", spec), named("b", "{\"a\": 2}"));
            let found = listed(&items, pruning::CUSTOM);
            let [first, second] = found.as_slice() else { panic!("case: {case}") };
            assert_eq!(first.fields.as_ref().err(), expected.as_ref(), "case: {case}");
            assert_eq!((&first.metadata["name"], first.version.as_str()), (&json!("a"), "5"));
            assert_eq!(second.fields, Ok(json!({"spec": {"a": 2}}).as_object().unwrap().clone()));
        }
    }

    #[test]
    fn what_is_dropped_takes_no_room() {
        let junk = "x".repeat(2 * OBJECT_LIMIT_BYTES);
        let pod = format!(
            r#"[{{"metadata": {{"name": "a", "annotations": {{"junk": "{junk}"}}, "managedFields": ["{junk}"]}},
               "spec": {{"nodeName": "n", "containers": [{{"name": "c", "env": ["{junk}"]}}]}}}}]"#
        );
        let found = listed(&pod, pruning::POD);
        let expected = json!({"spec": {"nodeName": "n", "containers": [{"name": "c"}]}});
        assert_eq!(found[0].fields.as_ref().unwrap(), expected.as_object().unwrap());
        assert_eq!(
            Value::Object(found[0].metadata.clone()),
            json!({"name": "a", "annotations": {}})
        );
    }

    #[test]
    fn what_is_no_list_is_not_an_empty_one() {
        for (case, text, items) in [
            ("a list without items", r#"{"metadata": {}, "items": []}"#, Some(0)),
            ("items of Go's nil", r#"{"metadata": {}, "items": null}"#, Some(0)),
            ("a status", r#"{"kind": "Status", "metadata": {}}"#, None),
            ("items that are no list", r#"{"metadata": {}, "items": {}}"#, None),
            ("cut off", r#"{"metadata": {}, "items": [{"metadata": {}}"#, None),
            ("something after it", r#"{"metadata": {}, "items": []} x"#, None),
        ] {
            let read = page(text.as_bytes(), Keep::All).ok().map(|page| page.items.len());
            assert_eq!(read, items, "case: {case}");
        }
    }

    #[test]
    fn a_line_of_a_watch_is_read_whatever_the_order_of_its_fields() {
        let object = r#"{"metadata": {"name": "a", "resourceVersion": "9"}, "spec": {}}"#;
        for (case, line, expected) in [
            ("added", format!(r#"{{"type": "ADDED", "object": {object}}}"#), "applied 9"),
            ("modified", format!(r#"{{"object": {object}, "type": "MODIFIED"}}"#), "applied 9"),
            ("deleted", format!(r#"{{"type": "DELETED", "object": {object}}}"#), "deleted 9"),
            ("a bookmark", format!(r#"{{"type": "BOOKMARK", "object": {object}}}"#), "at 9"),
            (
                "an error",
                r#"{"object": {"kind": "Status", "code": 410}, "type": "ERROR"}"#.to_owned(),
                "refused 410",
            ),
            ("another", format!(r#"{{"type": "NEW", "object": {object}}}"#), "unreadable"),
            ("half a line", r#"{"type": "ADDED", "object": {"#.to_owned(), "unreadable"),
        ] {
            let shown = match change(&line, Keep::All) {
                Ok(Change::Applied(item)) => format!("applied {}", item.version),
                Ok(Change::Deleted(item)) => format!("deleted {}", item.version),
                Ok(Change::Bookmark(version)) => format!("at {version}"),
                Ok(Change::Refused(status)) => format!("refused {}", status.code),
                Err(_) => "unreadable".to_owned(),
            };
            assert_eq!(shown, expected, "case: {case}");
        }
    }
}
