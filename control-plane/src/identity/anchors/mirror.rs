//! What a watch has told of, by name: complete after its first list, and whole again after each later one.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// What is known, by name.
#[derive(Clone, Debug)]
pub struct Mirror<V> {
    entries: BTreeMap<String, V>,
    /// The list that is being told.
    listing: Option<BTreeMap<String, V>>,
    known: bool,
}

impl<V> Default for Mirror<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), listing: None, known: false }
    }
}

impl<V: PartialEq> Mirror<V> {
    /// Takes note of an event; `read` tells an object's name and what is kept of it, `None`: nothing. True
    /// if something is other than before.
    pub fn take<K>(&mut self, event: Event<K>, read: impl Fn(&K) -> (String, Option<V>)) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                let (name, value) = read(&object);
                if let (Some(listing), Some(value)) = (&mut self.listing, value) {
                    listing.insert(name, value);
                }
                false
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let other = !self.known || listed != self.entries;
                (self.entries, self.known) = (listed, true);
                other
            }
            Event::Apply(object) => match read(&object) {
                (name, Some(value)) => {
                    let other = self.entries.get(&name) != Some(&value);
                    self.entries.insert(name, value);
                    other
                }
                (name, None) => self.entries.remove(&name).is_some(),
            },
            Event::Delete(object) => self.entries.remove(&read(&object).0).is_some(),
        }
    }

    /// Takes note of what this process has done itself.
    pub fn put(&mut self, name: String, value: V) {
        self.entries.insert(name, value);
    }

    /// Whether there was a whole list so far.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// By name.
    pub fn entries(&self) -> &BTreeMap<String, V> {
        &self.entries
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.entries.keys().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_list_takes_the_place_of_what_was_known_only_when_it_is_whole() {
        let mut mirror = Mirror::default();
        let mut take = |event: Event<(&str, Option<u8>)>| {
            let other = mirror.take(event, |(name, value)| ((*name).to_owned(), *value));
            (other, mirror.is_known(), mirror.names().collect::<Vec<_>>().join(" "))
        };
        for (case, event, expected) in [
            ("a list begins", Event::Init, (false, false, "")),
            ("one of it", Event::InitApply(("a", Some(1))), (false, false, "")),
            ("one that does not count", Event::InitApply(("x", None)), (false, false, "")),
            ("it is whole", Event::InitDone, (true, true, "a")),
            ("another", Event::Apply(("b", Some(2))), (true, true, "a b")),
            ("the same", Event::Apply(("b", Some(2))), (false, true, "a b")),
            ("a list begins anew", Event::Init, (false, true, "a b")),
            ("one of that", Event::InitApply(("b", Some(2))), (false, true, "a b")),
            ("that is whole", Event::InitDone, (true, true, "b")),
            ("it does not count any more", Event::Apply(("b", None)), (true, true, "")),
            ("deleted twice", Event::Delete(("b", None)), (false, true, "")),
        ] {
            let found = take(event);
            assert_eq!((found.0, found.1, found.2.as_str()), expected, "case: {case}");
        }
    }
}
