//! What a set of files says together, and which events follow when one of them changes. Pure: reading
//! is in `scan.rs`.
//!
//! Kept are the texts, which take a fifth of what typed objects do: an object that is told again without its file being
//! read, since another file gave it up, is read again from there.
//!
//! An object belongs to the file that defined it first; another file that defines it too is told so. A
//! file with an error remembers the objects it defined earlier: what cannot be read is not a deletion.
//! An object that one file defines and another only remembers was moved: the definition counts.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use heddle_model::names::ObjectReference;
use tracing::error;

use crate::source::document::{self, FileContent};
use crate::source::{Event, Failure, Object, Place, Unit};

/// The files, and what was told of them.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<String, File>,
    owners: BTreeMap<ObjectReference, String>,
    told: BTreeMap<ObjectReference, State>,
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
    objects: BTreeMap<ObjectReference, Known>,
    /// What earlier texts defined, and the present one may mean to.
    remembered: BTreeMap<ObjectReference, Known>,
    failures: Vec<Failure>,
    /// A text of an earlier life of this process that all of what is remembered is from, and nothing was wrong with.
    recalled: Option<Arc<str>>,
}

/// An object of a file.
#[derive(Debug)]
struct Known {
    state: State,
    /// All of the file.
    text: Arc<str>,
    /// Until it could be told.
    object: Option<Arc<Object>>,
}

/// What tells one state of an object from another: cheaper than to compare every field of every object at every change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    place: Place,
    content_hash: u64,
}

impl Known {
    fn new(object: Object, text: &Arc<str>) -> Self {
        let state = State { place: object.place.clone(), content_hash: object.content_hash };
        Self { state, text: Arc::clone(text), object: Some(Arc::new(object)) }
    }

    fn tell(
        &mut self,
        reference: &ObjectReference,
        texts: &mut TextsReadAgain,
    ) -> Option<Arc<Object>> {
        self.object.take().or_else(|| {
            let found = texts.object(self, reference);
            if found.is_none() {
                error!(object = %reference, place = %self.state.place, "an object is not in its text");
            }
            found
        })
    }
}

/// Texts of one file whose objects are told without its being read: each is parsed once, however many objects it has.
#[derive(Default)]
struct TextsReadAgain(Vec<(Arc<str>, Objects)>);

type Objects = BTreeMap<ObjectReference, Arc<Object>>;

impl TextsReadAgain {
    fn object(&mut self, known: &Known, reference: &ObjectReference) -> Option<Arc<Object>> {
        let text = &known.text;
        if !self.0.iter().any(|(read, _)| Arc::ptr_eq(read, text)) {
            let mut objects = Objects::new();
            for object in document::read_file(known.state.place.file(), text).objects {
                // The first definition is the one that counts.
                objects.entry(object.reference.clone()).or_insert_with(|| Arc::new(object));
            }
            self.0.push((Arc::clone(text), objects));
        }
        let (_text, objects) = self.0.iter().find(|(read, _)| Arc::ptr_eq(read, text))?;
        objects.get(reference).map(Arc::clone)
    }
}

impl File {
    fn defined(&self) -> &BTreeMap<ObjectReference, Known> {
        &self.objects
    }

    fn remembered(&self) -> &BTreeMap<ObjectReference, Known> {
        &self.remembered
    }

    fn known(&mut self) -> impl Iterator<Item = (&ObjectReference, &mut Known)> {
        self.objects.iter_mut().chain(&mut self.remembered)
    }

    /// Whether two readings of one file say nothing different but of what their objects are.
    fn defines_the_same(&self, other: &Self) -> bool {
        let is_plain = |file: &Self| file.remembered.is_empty() && file.failures.is_empty();
        is_plain(self) && is_plain(other) && self.objects.keys().eq(other.objects.keys())
    }

    /// All it has, the present text's before what is remembered.
    fn into_known(self) -> BTreeMap<ObjectReference, Known> {
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
            let reference = object.reference.clone();
            if let Some(first) = now.objects.get(&reference) {
                let second = Known::new(object, &content.text);
                now.failures.push(defined_twice((&reference, &second.state), &first.state));
            } else {
                let mut object = Known::new(object, &content.text);
                if self.told.get(&reference) == Some(&object.state) {
                    object.object = None;
                }
                now.objects.insert(reference, object);
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
    pub fn recall(&mut self, file: &str, content: FileContent) {
        let FileContent { objects, failures, text } = content;
        let (count, is_first) = (objects.len(), !self.files.contains_key(file));
        let file = self.files.entry(file.to_owned()).or_default();
        let known = |object: Object| (object.reference.clone(), Known::new(object, &text));
        file.remembered.extend(objects.into_iter().map(known));
        let is_all = is_first && failures.is_empty() && file.remembered.len() == count;
        file.recalled = is_all.then_some(text);
        self.changed = Changed::Anything;
    }

    /// Takes in that a file says what was recalled of it; false if it does not, and has to be read.
    pub fn confirm(&mut self, file: &str, text: &str) -> bool {
        let says_it = |file: &&mut File| file.recalled.as_deref() == Some(text);
        let Some(file) = self.files.get_mut(file).filter(says_it) else { return false };
        file.recalled = None;
        file.objects = mem::take(&mut file.remembered);
        self.changed = Changed::Anything;
        true
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
        for name in names {
            let Some(file) = self.files.get_mut(name) else { continue };
            let mut texts = TextsReadAgain::default();
            for (reference, known) in &mut file.objects {
                if let Some(told) = self.told.get_mut(reference)
                    && *told != known.state
                    && let Some(object) = known.tell(reference, &mut texts)
                {
                    told.clone_from(&known.state);
                    events.push(Event::Applied(object));
                }
            }
        }
        events
    }

    fn of_all(&mut self) -> Vec<Event> {
        self.settle_owners();
        let failures = self.failures();
        let mut told: BTreeMap<ObjectReference, State> = BTreeMap::new();
        let mut applied: BTreeMap<ObjectReference, Arc<Object>> = BTreeMap::new();
        for (name, file) in &mut self.files {
            let mut texts = TextsReadAgain::default();
            for (reference, known) in file.known() {
                if self.owners.get(reference).is_some_and(|owner| owner == name) {
                    let is_news = self.told.get(reference) != Some(&known.state);
                    let object = is_news.then(|| known.tell(reference, &mut texts)).flatten();
                    // What cannot be told stays what it was.
                    let state = match (is_news, &object) {
                        (true, None) => self.told.get(reference),
                        (true, Some(_)) | (false, _) => Some(&known.state),
                    };
                    told.extend(state.map(|state| (reference.clone(), state.clone())));
                    applied.extend(object.map(|object| (reference.clone(), object)));
                }
                known.object = None;
            }
        }
        let mut events = Vec::new();
        let gone = self.told.keys().filter(|reference| !told.contains_key(*reference));
        events.extend(gone.cloned().map(Event::Deleted));
        events.extend(applied.into_values().map(Event::Applied));
        let names: BTreeSet<&String> = failures.keys().chain(self.told_failures.keys()).collect();
        for file in names {
            let now = failures.get(file).cloned().unwrap_or_default();
            if self.told_failures.get(file).unwrap_or(&Vec::new()) != &now {
                events.push(Event::Failed { unit: Unit::File(file.clone()), failures: now });
            }
        }
        self.told = told;
        self.told_failures = failures;
        events
    }

    /// What is wrong with each file, once it is known which of them each object belongs to.
    fn failures(&self) -> BTreeMap<String, Vec<Failure>> {
        let mut failures: BTreeMap<String, Vec<Failure>> = BTreeMap::new();
        for (name, file) in &self.files {
            let mut of_file = file.failures.clone();
            for (reference, known) in &file.objects {
                let owner = self.owners.get(reference).filter(|owner| *owner != name);
                let first = owner.and_then(|owner| self.files.get(owner)?.objects.get(reference));
                if let Some(first) = first {
                    of_file.push(defined_twice((reference, &known.state), &first.state));
                }
            }
            if !of_file.is_empty() {
                failures.insert(name.clone(), of_file);
            }
        }
        failures
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

fn defined_twice((reference, second): (&ObjectReference, &State), first: &State) -> Failure {
    Failure {
        place: second.place.clone(),
        object: Some(reference.clone()),
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
    fn a_text_is_read_again_once_however_many_of_its_objects_are_told() {
        let text = service("a", 80) + &service("b", 80) + &service("a", 81);
        let content = read_file("x.yaml", &text);
        let (text, mut texts) = (Arc::clone(&content.text), TextsReadAgain::default());
        let references: Vec<ObjectReference> =
            content.objects.iter().map(|object| object.reference.clone()).collect();
        for (object, reference) in content.objects.into_iter().zip(references).take(2) {
            let mut known = Known::new(object, &text);
            known.object = None;
            let told = known.tell(&reference, &mut texts).unwrap();
            assert_eq!(told.reference, reference);
            assert_eq!(told.place, known.state.place, "the first of two");
        }
        assert_eq!(texts.0.len(), 1);
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
        files.recall("a.yaml", read_file("a.yaml", &service("a", 80)));
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
