//! What was told of the objects of one kind, and which events follow from what the API server says.
//! Pure: the watch is in `follow.rs`.
//!
//! A list is taken in as differences: what it holds is told as it comes, and what it lacks is gone only
//! when the list is complete. So neither a lost watch nor a list that breaks off takes anything away.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::names::ObjectReference;
use serde_json::{Map, Value};

use crate::source::kubernetes::kept::{Excess, Item};
use crate::source::kubernetes::kind::Kind;
use crate::source::node::Node;
use crate::source::{Event, Failure, Object, Place, Revision, Unit, document};

/// What was told of the objects of one kind.
#[derive(Debug, Default)]
pub struct Known {
    told: BTreeMap<ObjectReference, Told>,
    /// What a list held so far; `None`: no list is under way.
    listed: Option<BTreeSet<ObjectReference>>,
}

/// What was told of one object.
#[derive(Debug)]
struct Told {
    /// What was kept of it, or why nothing was.
    state: State,
    uid: String,
    /// Something good was told.
    applied: bool,
    /// What was told last was a failure.
    failed: bool,
}

/// What was kept of an object: its hash.
type State = Result<u64, Excess>;

/// One look at one object.
#[derive(Debug)]
pub struct Seen {
    reference: ObjectReference,
    node: Result<Node, Excess>,
    revision: Revision,
}

/// An object without a name: whatever sent it is not the API server.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an object has no name")]
pub struct Nameless;

impl Seen {
    /// An object as the API server sent it; it came as `api_version`, and items of lists do not say so.
    pub fn new(kind: &Kind, api_version: &str, item: Item) -> Result<Self, Nameless> {
        let Item { metadata, version: _, fields } = item;
        let reference = reference(kind, &metadata).ok_or(Nameless)?;
        let revision = Revision {
            api_version: api_version.to_owned(),
            uid: text(&metadata, "uid").unwrap_or_default().to_owned(),
            generation: metadata.get("generation").and_then(Value::as_i64),
        };
        let node = fields.map(|mut fields| {
            fields.insert("apiVersion".to_owned(), Value::String(api_version.to_owned()));
            fields.insert("kind".to_owned(), Value::String(kind.kind.to_owned()));
            fields.insert("metadata".to_owned(), Value::Object(metadata));
            Node::from_json(&Value::Object(fields))
        });
        Ok(Self { reference, node, revision })
    }

    fn read(&self) -> Result<Object, Box<Failure>> {
        let Self { reference, node, revision } = self;
        let place = Place::Cluster(revision.clone());
        let kind = (reference.kind.as_str(), revision.api_version.as_str());
        let read = match node {
            Ok(node) => document::object(node, place, Some(kind)),
            Err(excess) => Err(Box::new(Failure {
                place,
                object: None,
                field: String::new(),
                message: excess.to_string(),
            })),
        };
        read.map_err(|mut failure| {
            // Whatever is wrong with it, its name is known.
            failure.object = Some(reference.clone());
            failure
        })
    }
}

/// The name by which an object is known, if it has one.
pub fn reference(kind: &Kind, metadata: &Map<String, Value>) -> Option<ObjectReference> {
    let namespace = text(metadata, "namespace").unwrap_or(document::DEFAULT_NAMESPACE);
    Some(ObjectReference {
        kind: kind.kind.to_owned(),
        namespace: namespace.to_owned(),
        name: text(metadata, "name")?.to_owned(),
    })
}

fn text<'a>(metadata: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl Known {
    /// A list begins; one that was under way broke off.
    pub fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// An object is there, or is there still.
    pub fn take(&mut self, seen: Seen) -> Vec<Event> {
        let reference = seen.reference.clone();
        if let Some(listed) = &mut self.listed {
            listed.insert(reference.clone());
        }
        let state: State = seen.node.as_ref().map(Node::content_hash).map_err(|excess| *excess);
        let uid = seen.revision.uid.clone();
        let before = self.told.get(&reference);
        if before.is_some_and(|told| told.state == state && told.uid == uid) {
            return Vec::new();
        }
        let mut events = Vec::new();
        // Another object of the same name inherits nothing.
        if before.is_some_and(|told| told.uid != uid) {
            events = self.remove(&reference);
        }
        let before = self.told.get(&reference);
        let was_applied = before.is_some_and(|told| told.applied);
        let had_failed = before.is_some_and(|told| told.failed);
        let unit = || Unit::Object(reference.clone());
        let told = match seen.read() {
            Ok(object) => {
                events.push(Event::Applied(object.into()));
                if had_failed {
                    events.push(Event::Failed { unit: unit(), failures: Vec::new() });
                }
                Told { state, uid, applied: true, failed: false }
            }
            Err(failure) => {
                events.push(Event::Failed { unit: unit(), failures: vec![*failure] });
                Told { state, uid, applied: was_applied, failed: true }
            }
        };
        self.told.insert(reference, told);
        events
    }

    /// The list is complete: what it did not hold is gone.
    pub fn end(&mut self) -> Vec<Event> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone = self.told.keys().filter(|reference| !listed.contains(*reference));
        let gone: Vec<ObjectReference> = gone.cloned().collect();
        gone.iter().flat_map(|reference| self.remove(reference)).collect()
    }

    /// An object is gone.
    pub fn remove(&mut self, reference: &ObjectReference) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(told) = self.told.remove(reference) {
            if told.applied {
                events.push(Event::Deleted(reference.clone()));
            }
            if told.failed {
                let unit = Unit::Object(reference.clone());
                events.push(Event::Failed { unit, failures: Vec::new() });
            }
        }
        events
    }

    /// The kind itself is gone, and all of its objects with it.
    pub fn clear(&mut self) -> Vec<Event> {
        self.begin();
        self.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::kubernetes::{kept, kind};

    const VERSION: &str = "gateway.networking.k8s.io/v1";

    fn route(name: &str, generation: i64, spec: Value) -> Seen {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": generation,
                "resourceVersion": generation.to_string()},
            "spec": spec,
            "status": {"parents": [{"looks": generation}]},
        });
        seen(&object)
    }

    fn seen(object: &Value) -> Seen {
        let kind = kind::find("HTTPRoute").unwrap();
        let page = json!({"metadata": {}, "items": [object]}).to_string();
        let item = kept::page(page.as_bytes(), kind.keep).unwrap().items.remove(0);
        Seen::new(kind, VERSION, item).unwrap()
    }

    fn good(name: &str, generation: i64) -> Seen {
        route(name, generation, json!({"hostnames": [format!("h{generation}")]}))
    }

    fn bad(name: &str, generation: i64) -> Seen {
        route(name, generation, json!({"hostname": []}))
    }

    fn shown(events: Vec<Event>) -> Vec<String> {
        let show = |event| match event {
            Event::Applied(object) => format!("applied {} {}", object.reference, object.place),
            Event::Deleted(reference) => format!("deleted {reference}"),
            Event::Failed { unit: Unit::Object(reference), failures } => {
                let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
                format!("failed {reference} [{}]", failures.join(", "))
            }
            Event::Failed { unit: Unit::File(file), .. } => panic!("{file}"),
            Event::Synced => "synced".to_owned(),
        };
        events.into_iter().map(show).collect()
    }

    fn listed(known: &mut Known, seen: Vec<Seen>) -> Vec<String> {
        known.begin();
        let mut events: Vec<Event> = seen.into_iter().flat_map(|one| known.take(one)).collect();
        events.extend(known.end());
        shown(events)
    }

    #[test]
    fn a_list_is_told_as_differences() {
        let mut known = Known::default();
        assert_eq!(
            listed(&mut known, vec![good("a", 1), good("b", 1)]),
            ["applied HTTPRoute shop/a generation 1", "applied HTTPRoute shop/b generation 1"]
        );
        assert_eq!(listed(&mut known, vec![good("a", 1), good("b", 1)]), [""; 0]);
        assert_eq!(
            listed(&mut known, vec![good("b", 2), good("c", 1)]),
            [
                "applied HTTPRoute shop/b generation 2",
                "applied HTTPRoute shop/c generation 1",
                "deleted HTTPRoute shop/a"
            ]
        );
        assert_eq!(shown(known.clear()), ["deleted HTTPRoute shop/b", "deleted HTTPRoute shop/c"]);
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_away() {
        let mut known = Known::default();
        listed(&mut known, vec![good("a", 1), good("b", 1)]);
        known.begin();
        assert_eq!(shown(known.take(good("b", 2))), ["applied HTTPRoute shop/b generation 2"]);
        assert_eq!(listed(&mut known, vec![good("a", 1), good("b", 2)]), [""; 0]);
    }

    #[test]
    fn a_status_that_changed_is_not_told() {
        let mut known = Known::default();
        listed(&mut known, vec![good("a", 1)]);
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "a", "generation": 1,
                "resourceVersion": "77"},
            "spec": {"hostnames": ["h1"]},
        });
        object["status"] = json!({"parents": []});
        assert_eq!(shown(known.take(seen(&object))), [""; 0]);
    }

    #[test]
    fn another_object_of_the_same_name_inherits_nothing() {
        let mut known = Known::default();
        listed(&mut known, vec![good("a", 1)]);
        let mut other = bad("a", 1);
        other.revision.uid = "other".to_owned();
        let events = shown(known.take(other));
        assert_eq!(events[0], "deleted HTTPRoute shop/a");
        assert!(events[1].starts_with("failed HTTPRoute shop/a [generation 1"), "{events:?}");
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_its_last_good_state() {
        let mut known = Known::default();
        let failed = "failed HTTPRoute shop/a [generation 2: HTTPRoute shop/a: spec.hostname: is not a \
                      known field; did you mean \"hostnames\"?]";
        assert_eq!(listed(&mut known, vec![good("a", 1)]).len(), 1);
        assert_eq!(shown(known.take(bad("a", 2))), [failed]);
        assert_eq!(listed(&mut known, vec![bad("a", 2)]), [""; 0]);
        assert_eq!(
            shown(known.take(good("a", 3))),
            ["applied HTTPRoute shop/a generation 3", "failed HTTPRoute shop/a []"]
        );
        known.take(bad("a", 4));
        let reference = good("a", 4).reference;
        assert_eq!(
            shown(known.remove(&reference)),
            ["deleted HTTPRoute shop/a", "failed HTTPRoute shop/a []"]
        );
        known.take(bad("b", 1));
        let reference = bad("b", 1).reference;
        assert_eq!(shown(known.remove(&reference)), ["failed HTTPRoute shop/b []"]);
    }

    #[test]
    fn an_object_that_is_too_large_keeps_its_last_good_state_and_says_why() {
        let mut known = Known::default();
        assert_eq!(listed(&mut known, vec![good("a", 1)]).len(), 1);
        let large = || route("a", 2, json!({"hostnames": ["x".repeat(kept::OBJECT_LIMIT_BYTES)]}));
        let failed = "failed HTTPRoute shop/a [generation 2: HTTPRoute shop/a: is larger than the 1048576 \
                      bytes that the mesh keeps of one object; make several of it]";
        assert_eq!(shown(known.take(large())), [failed]);
        assert_eq!(listed(&mut known, vec![large()]), [""; 0], "neither told again nor gone");
        assert_eq!(
            shown(known.take(good("a", 3))),
            ["applied HTTPRoute shop/a generation 3", "failed HTTPRoute shop/a []"]
        );
    }

    #[test]
    fn what_has_no_name_is_no_object() {
        let item =
            kept::Item { metadata: Map::new(), version: String::new(), fields: Ok(Map::new()) };
        assert!(Seen::new(kind::find("Pod").unwrap(), "v1", item).is_err());
    }
}
