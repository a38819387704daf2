//! The fields of one block, decoded: names and values one after the other in one arena, which is used
//! again for the next block.

use std::slice;

use crate::http::hpack::entry::Entry;

/// One header block, decoded: pseudo fields included, in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name and the value of each field, with nothing between them.
    pub(super) arena: Vec<u8>,
    pub(super) fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name_length: usize,
    pub(super) value_length: usize,
    pub(super) static_name: u8,
    pub(super) is_sensitive: bool,
}

/// A field of a block. Nothing says that it is one that HTTP allows: a name may have any octets, upper
/// case and none at all, and so may a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef<'a> {
    /// As it was sent.
    pub name: &'a [u8],
    /// As it was sent.
    pub value: &'a [u8],
    /// The lowest index (1 to 61) of a static table entry with this name, such as
    /// [`super::static_table::METHOD`]; 0 if none is known. Known is that of a name that was sent by
    /// index, from the static table or from a dynamic entry whose name was.
    pub static_name: u8,
    /// RFC 7541, section 6.2.3: the sender asked never to index it, and it must be passed on as such.
    pub is_sensitive: bool,
}

impl Fields {
    /// Removes all fields, and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields, in order.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.arena, fields: self.fields.iter() }
    }

    /// Whether they are larger than nearly all are, so that the memory had better not be kept.
    pub fn is_large(&self) -> bool {
        self.arena.len() > LARGE_BYTES
    }

    /// Adds a field after all others, as one that was sent without an index.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        let (name_length, value_length) = (name.len(), value.len());
        self.fields.push(Field { name_length, value_length, static_name: 0, is_sensitive: false });
    }

    /// Adds what an index stands for.
    #[inline]
    pub(super) fn push_entry(&mut self, entry: Entry<'_>) {
        let Entry { octets, name_length, static_name } = entry;
        self.arena.extend_from_slice(octets);
        let value_length = octets.len().saturating_sub(name_length);
        self.fields.push(Field { name_length, value_length, static_name, is_sensitive: false });
    }
}

/// The fields of a block, in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    fields: slice::Iter<'a, Field>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = FieldRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = *self.fields.next()?;
        let (name, after) = self.rest.split_at_checked(field.name_length)?;
        let (value, after) = after.split_at_checked(field.value_length)?;
        self.rest = after;
        let Field { static_name, is_sensitive, .. } = field;
        Some(FieldRef { name, value, static_name, is_sensitive })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

/// What servers take of a head by default: nginx and Apache 8 KiB a field or so, Node.js 16 KiB in all.
const LARGE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_however_long_they_are() {
        let mut fields = Fields::default();
        let pushed: [(&[u8], &[u8]); 5] =
            [(b"a", b"b"), (b"", b""), (b"name", b""), (b"", b"value"), (b"last", b"one")];
        for round in 0..2 {
            assert!(fields.is_empty(), "round {round}");
            for (name, value) in pushed {
                fields.push(name, value);
            }
            assert_eq!(fields.len(), pushed.len());
            let listed = fields.iter().map(|field| (field.name, field.value));
            assert!(listed.clone().eq(pushed), "{:?}", listed.collect::<Vec<_>>());
            fields.clear();
        }
    }
}
