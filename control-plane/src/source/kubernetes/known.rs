//! What was told of the objects of one kind, and which events follow from what the API server says.
//! Pure: the watch is in `follow.rs`.
//!
//! A list is taken in as differences: what it holds is told as it comes, and what it lacks is gone only
//! when the list is complete. So neither a lost watch nor a list that breaks off takes anything away.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::names::ObjectReference;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::source::kubernetes::kind::Kind;
use crate::source::kubernetes::pruning;
use crate::source::node::Node;
use crate::source::{Event, Place, Revision, Unit, document};

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
    /// Of what was kept of it.
    hash: u64,
    uid: String,
    /// Something good was told.
    applied: bool,
    /// What was told last was a failure.
    failed: bool,
}

/// One look at one object.
#[derive(Debug)]
pub struct Seen {
    reference: ObjectReference,
    node: Node,
    revision: Revision,
}

impl Seen {
    /// An object as the API server sent it; it came as `api_version`, and items of lists do not say so.
    pub fn new(kind: &Kind, api_version: &str, object: DynamicObject) -> Self {
        let DynamicObject { metadata, data, .. } = object;
        let reference = reference(kind, &metadata);
        let revision = Revision {
            api_version: api_version.to_owned(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
        };
        let mut kept = match kind.keep.of(data) {
            Value::Object(fields) => fields,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => serde_json::Map::new(),
        };
        kept.insert("apiVersion".to_owned(), Value::String(api_version.to_owned()));
        kept.insert("kind".to_owned(), Value::String(kind.kind.to_owned()));
        kept.insert("metadata".to_owned(), pruning::metadata(&metadata));
        let node = Node::from_json(&Value::Object(kept));
        Self { reference, node, revision }
    }
}

/// The name by which an object is known.
pub fn reference(kind: &Kind, metadata: &kube::core::ObjectMeta) -> ObjectReference {
    let namespace = metadata.namespace.as_deref().unwrap_or(document::DEFAULT_NAMESPACE);
    ObjectReference {
        kind: kind.kind.to_owned(),
        namespace: namespace.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

impl Known {
    /// A list begins; one that was under way broke off.
    pub fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// An object is there, or is there still.
    pub fn take(&mut self, seen: Seen) -> Vec<Event> {
        let Seen { reference, node, revision } = seen;
        if let Some(listed) = &mut self.listed {
            listed.insert(reference.clone());
        }
        let hash = node.content_hash();
        let before = self.told.get(&reference);
        if before.is_some_and(|told| told.hash == hash) {
            return Vec::new();
        }
        let Revision { api_version, uid, .. } = revision.clone();
        let place = Place::Cluster(revision);
        let mut events = Vec::new();
        // Another object of the same name inherits nothing.
        if before.is_some_and(|told| told.uid != uid) {
            events = self.remove(&reference);
        }
        let before = self.told.get(&reference);
        let was_applied = before.is_some_and(|told| told.applied);
        let had_failed = before.is_some_and(|told| told.failed);
        let unit = || Unit::Object(reference.clone());
        let read = document::object(&node, place, Some((&reference.kind, &api_version)));
        let told = match read {
            Ok(object) => {
                events.push(Event::Applied(Box::new(object)));
                if had_failed {
                    events.push(Event::Failed { unit: unit(), failures: Vec::new() });
                }
                Told { hash, uid, applied: true, failed: false }
            }
            Err(mut failure) => {
                // Whatever is wrong with it, its name is known.
                failure.object = Some(reference.clone());
                events.push(Event::Failed { unit: unit(), failures: vec![*failure] });
                Told { hash, uid, applied: was_applied, failed: true }
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
    use crate::source::kubernetes::kind;

    const VERSION: &str = "gateway.networking.k8s.io/v1";

    fn route(name: &str, generation: i64, spec: Value) -> Seen {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": generation,
                "resourceVersion": generation.to_string()},
            "spec": spec,
            "status": {"parents": [{"looks": generation}]},
        });
        let object = serde_json::from_value(object).unwrap();
        Seen::new(kind::find("HTTPRoute").unwrap(), VERSION, object)
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
        let object = serde_json::from_value(object).unwrap();
        let seen = Seen::new(kind::find("HTTPRoute").unwrap(), VERSION, object);
        assert_eq!(shown(known.take(seen)), [""; 0]);
    }

    #[test]
    fn another_object_of_the_same_name_inherits_nothing() {
        let mut known = Known::default();
        listed(&mut known, vec![good("a", 1)]);
        let mut other = bad("a", 1);
        other.revision.uid = "other".to_owned();
        if let crate::source::node::Value::Mapping(fields) = &mut other.node.value {
            fields.retain(|(key, _)| key.name != "metadata");
        }
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
}
