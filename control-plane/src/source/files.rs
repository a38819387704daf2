//! What a set of files says together, and which events follow when one of them changes. Pure: reading
//! is in `scan.rs`.
//!
//! An object belongs to the file that defined it first; another file that defines it too is told so. A
//! file with an error remembers the objects it defined earlier: what cannot be read is not a deletion.
//! An object that one file defines and another only remembers was moved: the definition counts.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use heddle_model::names::ObjectReference;

use crate::source::document::FileContent;
use crate::source::{Event, Failure, Object, Unit};

/// The files, and what was told of them.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<String, File>,
    owners: BTreeMap<ObjectReference, String>,
    told: BTreeMap<ObjectReference, Arc<Object>>,
    told_failures: BTreeMap<String, Vec<Failure>>,
    changed: Changed,
}

/// What may differ from what was told.
#[derive(Debug, Default)]
enum Changed {
    #[default]
    Nothing,
    /// Objects of these files, each of which defines the same ones as before, and nothing is wrong with any: so no object
    /// came, went, or belongs to another file.
    Objects(BTreeSet<String>),
    Anything,
}

#[derive(Debug, Default)]
struct File {
    /// What its present text defines.
    objects: BTreeMap<ObjectReference, Arc<Object>>,
    /// What earlier texts defined, and the present one may mean to.
    remembered: BTreeMap<ObjectReference, Arc<Object>>,
    failures: Vec<Failure>,
}

impl File {
    fn defined(&self) -> &BTreeMap<ObjectReference, Arc<Object>> {
        &self.objects
    }

    fn remembered(&self) -> &BTreeMap<ObjectReference, Arc<Object>> {
        &self.remembered
    }

    /// Whether two readings of one file say nothing different but of what their objects are.
    fn defines_the_same(&self, other: &Self) -> bool {
        let is_plain = |file: &Self| file.remembered.is_empty() && file.failures.is_empty();
        is_plain(self) && is_plain(other) && self.objects.keys().eq(other.objects.keys())
    }

    /// All it has, the present text's before what is remembered.
    fn into_known(self) -> BTreeMap<ObjectReference, Arc<Object>> {
        let mut known = self.remembered;
        known.extend(self.objects);
        known
    }
}

impl Changed {
    fn add_objects_of(&mut self, file: &str) {
        match self {
            Self::Nothing => *self = Self::Objects(BTreeSet::from([file.to_owned()])),
            Self::Objects(files) => {
                files.insert(file.to_owned());
            }
            Self::Anything => {}
        }
    }
}

impl Files {
    /// Takes in a file's new content, and says whether all of it could be read. [`Files::events`] tells
    /// what follows.
    pub fn replace(&mut self, file: &str, content: FileContent) -> bool {
        let known = self.files.contains_key(file);
        let before = self.files.remove(file).unwrap_or_default();
        let mut now = File { failures: content.failures, ..File::default() };
        for object in content.objects {
            if let Some(first) = now.objects.get(&object.reference) {
                now.failures.push(defined_twice(&object, first));
            } else {
                now.objects.insert(object.reference.clone(), Arc::new(object));
            }
        }
        if known && before.defines_the_same(&now) {
            self.changed.add_objects_of(file);
        } else {
            self.changed = Changed::Anything;
        }
        // A text whose object cannot be told might be about any that the file held.
        let any = now.failures.iter().any(|failure| failure.object.is_none());
        let named: BTreeSet<&ObjectReference> =
            now.failures.iter().filter_map(|failure| failure.object.as_ref()).collect();
        let mut remembered = before.into_known();
        remembered.retain(|reference, _| {
            (any || named.contains(reference)) && !now.objects.contains_key(reference)
        });
        now.remembered = remembered;
        let whole = now.failures.is_empty();
        self.files.insert(file.to_owned(), now);
        whole
    }

    /// Has a file remember objects that it defined in an earlier life of this process.
    pub fn recall(&mut self, file: &str, objects: Vec<Object>) {
        let objects = objects.into_iter().map(|object| (object.reference.clone(), object.into()));
        self.files.entry(file.to_owned()).or_default().remembered.extend(objects);
        self.changed = Changed::Anything;
    }

    /// Says that a file cannot be read at all; its objects stay.
    pub fn fail(&mut self, failure: Failure) {
        let name = failure.place.file().to_owned();
        let before = self.files.remove(&name).unwrap_or_default();
        let remembered = before.into_known();
        let now = File { remembered, failures: vec![failure], ..File::default() };
        self.files.insert(name, now);
        self.changed = Changed::Anything;
    }

    /// Takes note that a file has another name: it is still known what it defined.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.to_owned(), file);
            self.changed = Changed::Anything;
        }
    }

    /// Takes note that a file is gone.
    pub fn remove(&mut self, file: &str) {
        if self.files.remove(file).is_some() {
            self.changed = Changed::Anything;
        }
    }

    /// What changed since the last call. Costs as much as there are files only where that can be told by looking at all
    /// of them alone.
    pub fn events(&mut self) -> Vec<Event> {
        match mem::take(&mut self.changed) {
            Changed::Nothing => Vec::new(),
            // What is said of one file may name the place of an object in another.
            Changed::Objects(files) if self.told_failures.is_empty() => self.of_files(&files),
            Changed::Objects(_) | Changed::Anything => self.of_all(),
        }
    }

    fn of_files(&mut self, names: &BTreeSet<String>) -> Vec<Event> {
        let mut events = Vec::new();
        for file in names.iter().filter_map(|name| self.files.get(name)) {
            for (reference, object) in &file.objects {
                if let Some(told) = self.told.get_mut(reference)
                    && !same(told, object)
                {
                    *told = Arc::clone(object);
                    events.push(Event::Applied(Arc::clone(object)));
                }
            }
        }
        events
    }

    fn of_all(&mut self) -> Vec<Event> {
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
            for (reference, object) in &file.remembered {
                if self.owners.get(reference).is_some_and(|owner| owner == name) {
                    objects.insert(reference.clone(), Arc::clone(object));
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
                events.push(Event::Applied(Arc::clone(object)));
            }
        }
        let names: BTreeSet<&String> = failures.keys().chain(self.told_failures.keys()).collect();
        for file in names {
            let now = failures.get(file).cloned().unwrap_or_default();
            if self.told_failures.get(file).unwrap_or(&Vec::new()) != &now {
                events.push(Event::Failed { unit: Unit::File(file.clone()), failures: now });
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

    /// Gives every object to a file that defines it, or else to one that remembers it; of several to
    /// the one that had it, or else to the first by name.
    fn settle_owners(&mut self) {
        let files = &self.files;
        let former = mem::take(&mut self.owners);
        for known in [File::defined, File::remembered] {
            let mut owners: BTreeMap<ObjectReference, String> = BTreeMap::new();
            for (reference, owner) in &former {
                if files.get(owner).is_some_and(|file| known(file).contains_key(reference)) {
                    owners.insert(reference.clone(), owner.clone());
                }
            }
            for (name, file) in files {
                for reference in known(file).keys() {
                    owners.entry(reference.clone()).or_insert_with(|| name.clone());
                }
            }
            for (reference, owner) in owners {
                self.owners.entry(reference).or_insert(owner);
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
            Event::Failed { unit: Unit::File(file), failures } => {
                format!("failed {file} {}", failures.len())
            }
            Event::Failed { unit: Unit::Object(reference), .. } => panic!("{reference}"),
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
    fn several_rewritten_files_are_told_as_if_all_were_looked_at() {
        let rewrite = |files: &mut Files| {
            for (file, name, port) in
                [("x.yaml", "a", 81), ("y.yaml", "b", 80), ("z.yaml", "c", 82)]
            {
                files.replace(file, read_file(file, &service(name, port)));
            }
        };
        let mut files = Files::default();
        for (file, name) in [("x.yaml", "a"), ("y.yaml", "b"), ("z.yaml", "c")] {
            put(&mut files, file, &service(name, 80));
        }
        rewrite(&mut files);
        assert!(matches!(&files.changed, Changed::Objects(names) if names.len() == 3));
        assert_eq!(shown(files.events()), ["applied a x.yaml:1", "applied c z.yaml:1"]);
        files.changed = Changed::Anything;
        assert_eq!(shown(files.events()), [""; 0], "all of them have nothing to add");
        // What is wrong with one file names a place in another, which a rewriting may change.
        assert_eq!(put(&mut files, "zz.yaml", &service("a", 80)), ["failed zz.yaml 1"]);
        let moved = format!("# moved\n{}", service("a", 81));
        assert_eq!(put(&mut files, "x.yaml", &moved), ["applied a x.yaml:2", "failed zz.yaml 1"]);
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
            place: crate::source::Place::File { file: "x.yaml".into(), line: 1 },
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
    fn an_object_moved_out_of_a_broken_file_is_what_the_new_file_says() {
        let mut files = Files::default();
        put(&mut files, "a.yaml", &(service("a", 80) + &service("b", 80)));
        assert_eq!(put(&mut files, "a.yaml", "{"), ["failed a.yaml 1"]);
        assert_eq!(put(&mut files, "m.yaml", &service("a", 81)), ["applied a m.yaml:1"]);
        assert_eq!(put(&mut files, "m.yaml", &service("a", 82)), ["applied a m.yaml:1"]);
        assert_eq!(put(&mut files, "m.yaml", "{"), ["failed m.yaml 1"], "the newer memory stays");
    }

    #[test]
    fn a_broken_file_with_another_name_keeps_what_it_defined() {
        let mut files = Files::default();
        put(&mut files, "a.yaml", &service("a", 80));
        put(&mut files, "a.yaml", "{");
        files.rename("a.yaml", "b.yaml");
        assert_eq!(put(&mut files, "b.yaml", "{"), ["failed a.yaml 0", "failed b.yaml 1"]);
    }

    #[test]
    fn what_is_recalled_counts_until_the_file_can_be_read() {
        let mut files = Files::default();
        files.recall("a.yaml", read_file("a.yaml", &service("a", 80)).objects);
        assert_eq!(shown(files.events()), ["applied a a.yaml:1"]);
        assert_eq!(put(&mut files, "a.yaml", "{"), ["failed a.yaml 1"]);
        assert_eq!(
            put(&mut files, "a.yaml", &service("b", 80)),
            ["deleted a", "applied b a.yaml:1", "failed a.yaml 0"]
        );
    }

    #[test]
    fn an_object_twice_in_one_file_is_an_error() {
        let mut files = Files::default();
        let text = service("a", 80) + &service("a", 81);
        assert_eq!(put(&mut files, "m.yaml", &text), ["applied a m.yaml:1", "failed m.yaml 1"]);
    }
}
