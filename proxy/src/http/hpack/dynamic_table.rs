//! The fields that one side has sent and may name by index again: RFC 7541, sections 2.3.2 and 4.

use std::collections::VecDeque;

use crate::http::hpack::entry::{Entry, OVERHEAD};

/// The table of one direction of a connection. Holds nothing until something is inserted.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The newest first.
    spans: VecDeque<Span>,
    /// Of all entries, the newest last. What was evicted stays at the front until it is as much as
    /// the rest: so each octet is moved once at most, and nothing is allocated for an entry.
    octets: Vec<u8>,
    /// How many octets were inserted before those that are here. May wrap.
    dropped: u32,
    /// As section 4.1 counts.
    size: usize,
    /// What `size` may be.
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// How many octets were inserted before. May wrap.
    begin: u32,
    length: u32,
    name_length: u32,
    static_name: u8,
}

impl DynamicTable {
    /// Fewer than 2^31 octets at once: an entry is found by the distance of two numbers that wrap.
    pub(super) fn new(limit: usize) -> Self {
        Self { spans: VecDeque::new(), octets: Vec::new(), dropped: 0, size: 0, limit }
    }

    /// The entry that so many were inserted after.
    #[inline]
    pub(super) fn get(&self, position: usize) -> Option<Entry<'_>> {
        let Span { begin, length, name_length, static_name } = *self.spans.get(position)?;
        let begin = wide(begin.wrapping_sub(self.dropped));
        let octets = self.octets.get(begin..)?.get(..wide(length))?;
        Some(Entry { octets, name_length: wide(name_length), static_name })
    }

    /// Inserts an entry before all others, and evicts as many of the oldest as have to make room. One
    /// that is larger than the table empties it (section 4.4).
    pub(super) fn insert(&mut self, entry: Entry<'_>) {
        let size = entry.octets.len().saturating_add(OVERHEAD);
        self.evict(self.limit.saturating_sub(size));
        if size > self.limit {
            return;
        }
        self.compact();
        self.spans.push_front(Span {
            begin: self.dropped.wrapping_add(narrow(self.octets.len())),
            length: narrow(entry.octets.len()),
            name_length: narrow(entry.name_length),
            static_name: entry.static_name,
        });
        self.octets.extend_from_slice(entry.octets);
        self.size += size;
    }

    /// Changes what the table may hold, and evicts what is too much (section 4.3).
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(limit);
        if limit == 0 {
            // Whoever says so does not use it.
            (self.spans, self.octets) = (VecDeque::new(), Vec::new());
        }
    }

    /// Evicts the oldest until `size` is what is left.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(span) = self.spans.pop_back() else { return };
            self.size = self.size.saturating_sub(wide(span.length).saturating_add(OVERHEAD));
        }
    }

    fn compact(&mut self) {
        let oldest = self.spans.back().map(|span| wide(span.begin.wrapping_sub(self.dropped)));
        let unused = oldest.unwrap_or(self.octets.len());
        if unused > 0 && unused >= self.octets.len().saturating_sub(unused) {
            self.octets.drain(..unused);
            self.dropped = self.dropped.wrapping_add(narrow(unused));
        }
    }
}

/// Of lengths within a table, whose limit is far below 2^32.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn wide(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(table: &DynamicTable) -> Vec<(Vec<u8>, Vec<u8>, u8)> {
        let found = (0..).map_while(|position| table.get(position));
        found.map(|it| (it.name().to_vec(), it.value().to_vec(), it.static_name)).collect()
    }

    #[test]
    fn an_entry_as_large_as_the_table_is_held_and_a_larger_one_empties_it() {
        let mut table = DynamicTable::new(100);
        let insert = |table: &mut DynamicTable, length: usize| {
            table.insert(Entry { octets: &vec![b'a'; length], name_length: 1, static_name: 7 });
        };
        insert(&mut table, 18);
        insert(&mut table, 18);
        assert_eq!((entries(&table).len(), table.size), (2, 100));
        insert(&mut table, 68);
        assert_eq!(entries(&table), [(b"a".to_vec(), vec![b'a'; 67], 7)]);
        insert(&mut table, 69);
        assert_eq!((entries(&table).len(), table.size), (0, 0));
        insert(&mut table, 0);
        assert_eq!((entries(&table).len(), table.size), (1, 32));
        table.resize(31);
        assert_eq!((entries(&table).len(), table.size), (0, 0));
    }

    #[test]
    fn a_table_of_no_size_holds_no_memory() {
        let mut table = DynamicTable::new(4096);
        assert_eq!(table.octets.capacity() + table.spans.capacity(), 0, "nothing was inserted");
        table.insert(Entry { octets: b"namevalue", name_length: 4, static_name: 0 });
        table.resize(0);
        assert_eq!(table.octets.capacity() + table.spans.capacity(), 0);
    }

    proptest! {
        /// Against one that moves all entries.
        #[test]
        fn it_holds_what_was_inserted_last(
            begun in prop_oneof![Just(0), Just(u32::MAX - 50)],
            steps in prop::collection::vec((any::<bool>(), 0_usize..120, 0_usize..120), 0..200),
        ) {
            let mut table = DynamicTable::new(300);
            table.dropped = begun;
            let (mut expected, mut limit) = (Vec::new(), 300);
            for (number, (is_resized, name_length, value_length)) in steps.into_iter().enumerate() {
                if is_resized && number % 8 == 0 {
                    limit = name_length * 4;
                    table.resize(limit);
                } else {
                    let octet = u8::try_from(number % 251).unwrap();
                    let octets = vec![octet; name_length + value_length];
                    table.insert(Entry { octets: &octets, name_length, static_name: octet });
                    let value = octets[name_length..].to_vec();
                    expected.insert(0, (octets[..name_length].to_vec(), value, octet));
                }
                let size = |list: &[(Vec<u8>, Vec<u8>, u8)]| {
                    list.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum::<usize>()
                };
                while size(&expected) > limit {
                    expected.pop();
                }
                prop_assert_eq!(entries(&table), &expected[..]);
                prop_assert_eq!(table.size, size(&expected));
                // At most as much again as is held; before an insertion of this one.
                prop_assert!(table.octets.len() <= 2 * 480, "{} octets", table.octets.len());
            }
        }
    }
}
