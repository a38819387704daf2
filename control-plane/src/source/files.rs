//! What a set of files says together, and which events follow when one of them changes. Pure: reading
//! is in `scan.rs`.
//!
//! An object belongs to the file that defined it first; another file that defines it too is told so. A
//! file with an error keeps the objects it defined earlier: what cannot be read is not a deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_model::names::ObjectReference;

use crate::source::document::FileContent;
use crate::source::{Event, Failure, Object};

/// The files, and what was told of them.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<String, File>,
    owners: BTreeMap<ObjectReference, String>,
    told: BTreeMap<ObjectReference, Arc<Object>>,
    told_failures: BTreeMap<String, Vec<Failure>>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectReference, Arc<Object>>,
    failures: Vec<Failure>,
}

impl Files {
    /// Takes in a file's new content. [`Files::events`] tells what follows.
    pub fn replace(&mut self, file: &str, content: FileContent) {
        let before = self.files.remove(file).unwrap_or_default();
        let mut now = File { objects: BTreeMap::new(), failures: content.failures };
        for object in content.objects {
            if let Some(first) = now.objects.get(&object.reference) {
                now.failures.push(defined_twice(&object, first));
            } else {
                now.objects.insert(object.reference.clone(), Arc::new(object));
            }
        }
        // A text whose object cannot be told might be about any that the file held.
        let any = now.failures.iter().any(|failure| failure.object.is_none());
        let named: BTreeSet<&ObjectReference> =
            now.failures.iter().filter_map(|failure| failure.object.as_ref()).collect();
        for (reference, object) in before.objects {
            if any || named.contains(&reference) {
                now.objects.entry(reference).or_insert(object);
            }
        }
        self.files.insert(file.to_owned(), now);
    }

    /// Says that a file cannot be read at all; its objects stay.
    pub fn fail(&mut self, failure: Failure) {
        let file = self.files.entry(failure.place.file.clone()).or_default();
        file.failures = vec![failure];
    }

    /// Takes note that a file is gone.
    pub fn remove(&mut self, file: &str) {
        self.files.remove(file);
    }

    /// What changed since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        self.settle_owners();
        let mut objects: BTreeMap<ObjectReference, Arc<Object>> = BTreeMap::new();
        let mut failures: BTreeMap<String, Vec<Failure>> = BTreeMap::new();
        for (name, file) in &self.files {
            let mut of_file = file.failures.clone();
            for (reference, object) in &file.objects {
                let owner = self.owners.get(reference);
                if owner.is_none_or(|owner| owner == name) {
                    objects.insert(reference.clone(), Arc::clone(object));
                } else if let Some(first) = self.first(reference) {
                    of_file.push(defined_twice(object, first));
                }
            }
            if !of_file.is_empty() {
                failures.insert(name.clone(), of_file);
            }
        }
        let mut events = Vec::new();
        let gone = self.told.keys().filter(|reference| !objects.contains_key(*reference));
        events.extend(gone.cloned().map(Event::Deleted));
        for (reference, object) in &objects {
            if !self.told.get(reference).is_some_and(|told| same(told, object)) {
                events.push(Event::Applied(Box::new(Object::clone(object))));
            }
        }
        let names: BTreeSet<&String> = failures.keys().chain(self.told_failures.keys()).collect();
        for file in names {
            let now = failures.get(file).cloned().unwrap_or_default();
            if self.told_failures.get(file).unwrap_or(&Vec::new()) != &now {
                events.push(Event::Failed { file: file.clone(), failures: now });
            }
        }
        self.told = objects;
        self.told_failures = failures;
        events
    }

    fn first(&self, reference: &ObjectReference) -> Option<&Object> {
        let owner = self.owners.get(reference)?;
        self.files.get(owner)?.objects.get(reference).map(Arc::as_ref)
    }

    /// Gives objects whose file is gone, or defines them no more, to the first file that does.
    fn settle_owners(&mut self) {
        let files = &self.files;
        self.owners.retain(|reference, owner| {
            files.get(owner).is_some_and(|file| file.objects.contains_key(reference))
        });
        for (name, file) in files {
            for reference in file.objects.keys() {
                self.owners.entry(reference.clone()).or_insert_with(|| name.clone());
            }
        }
    }
}

/// Cheaper than comparing every field of every object at every change.
fn same(left: &Object, right: &Object) -> bool {
    left.content_hash == right.content_hash && left.place == right.place
}

fn defined_twice(second: &Object, first: &Object) -> Failure {
    Failure {
        place: second.place.clone(),
        object: Some(second.reference.clone()),
        field: String::new(),
        message: format!(
            "is already defined at {}, which counts; remove it here or there",
            first.place
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::document::read_file;

    fn service(name: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
        )
    }

    fn put(files: &mut Files, file: &str, text: &str) -> Vec<String> {
        files.replace(file, read_file(file, text));
        shown(files.events())
    }

    fn shown(events: Vec<Event>) -> Vec<String> {
        let show = |event| match event {
            Event::Applied(object) => format!("applied {} {}", object.reference.name, object.place),
            Event::Deleted(reference) => format!("deleted {}", reference.name),
            Event::Failed { file, failures } => format!("failed {file} {}", failures.len()),
            Event::Synced => "synced".to_owned(),
        };
        events.into_iter().map(show).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut files = Files::default();
        let text = service("a", 80) + &service("b", 80);
        assert_eq!(put(&mut files, "x.yaml", &text), ["applied a x.yaml:1", "applied b x.yaml:6"]);
        assert_eq!(put(&mut files, "x.yaml", &text), [""; 0]);
        let text = service("a", 80) + &service("b", 81);
        assert_eq!(put(&mut files, "x.yaml", &text), ["applied b x.yaml:6"]);
        assert_eq!(
            put(&mut files, "x.yaml", &service("b", 81)),
            ["deleted a", "applied b x.yaml:1"]
        );
        files.remove("x.yaml");
        assert_eq!(shown(files.events()), ["deleted b"]);
    }

    #[test]
    fn a_file_with_an_error_keeps_what_it_defined() {
        let mut files = Files::default();
        put(&mut files, "x.yaml", &(service("a", 80) + &service("b", 80)));
        let broken = service("a", 80).replace("ports", "prots") + &service("b", 81);
        assert_eq!(put(&mut files, "x.yaml", &broken), ["applied b x.yaml:6", "failed x.yaml 1"]);
        assert_eq!(put(&mut files, "x.yaml", "{"), ["failed x.yaml 1"]);
        assert_eq!(put(&mut files, "x.yaml", &service("a", 80)), ["deleted b", "failed x.yaml 0"]);
        files.fail(Failure {
            place: crate::source::Place { file: "x.yaml".into(), line: 1 },
            object: None,
            field: String::new(),
            message: "is not UTF-8".into(),
        });
        assert_eq!(shown(files.events()), ["failed x.yaml 1"]);
    }

    #[test]
    fn an_object_belongs_to_the_first_file_that_defines_it() {
        let mut files = Files::default();
        put(&mut files, "m.yaml", &service("a", 80));
        assert_eq!(put(&mut files, "b.yaml", &service("a", 81)), ["failed b.yaml 1"]);
        files.remove("m.yaml");
        assert_eq!(shown(files.events()), ["applied a b.yaml:1", "failed b.yaml 0"]);
    }

    #[test]
    fn an_object_twice_in_one_file_is_an_error() {
        let mut files = Files::default();
        let text = service("a", 80) + &service("a", 81);
        assert_eq!(put(&mut files, "m.yaml", &text), ["applied a m.yaml:1", "failed m.yaml 1"]);
    }
}
