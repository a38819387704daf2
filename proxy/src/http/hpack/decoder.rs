//! Reads blocks of fields: RFC 7541, sections 3 and 6. What HTTP makes of the fields is read elsewhere.

use crate::http::hpack::dynamic_table::DynamicTable;
use crate::http::hpack::entry::{Entry, OVERHEAD};
use crate::http::hpack::fields::{Field, Fields};
use crate::http::hpack::malformed::Malformed;
use crate::http::hpack::{huffman, integer, static_table};

/// Reads what one side of a connection sends. Holds no memory until that side has it remember a field.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// What a size update may ask for.
    table_limit: usize,
}

/// Why there are no fields, or not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The connection cannot go on: what follows could mean anything.
    #[error("a malformed block of fields")]
    Malformed(#[from] Malformed),
    /// The limit was reached. Later blocks can be read: this stream is the only one that ends.
    #[error("more fields than are read")]
    TooLarge,
}

impl Decoder {
    /// `table_limit` is what our `SETTINGS_HEADER_TABLE_SIZE` says, the most octets that a size update
    /// may ask for; no more than 2^31. Until there is one, the other side has a table of 4096, which is
    /// what it has before it knows our settings (RFC 9113, section 6.5.2).
    pub fn new(table_limit: usize) -> Self {
        let table_limit = table_limit.min(LARGEST_TABLE);
        Self { table: DynamicTable::new(DEFAULT_TABLE_SIZE), table_limit }
    }

    /// Decodes a whole block into `fields`, from which what was there before is removed. `limit` is for
    /// the sum over all fields of name, value and 32 octets (RFC 9113, section 6.5.2,
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`).
    ///
    /// A block beyond the limit is decoded to its end all the same, so that the dynamic table stays
    /// right, but nothing is kept of the first field that is too much and those behind it: `fields` has
    /// what came before. After [`DecodeError::Malformed`] it has none.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        fields: &mut Fields,
    ) -> Result<(), DecodeError> {
        fields.clear();
        let room = Room { left: limit, is_over: false };
        let mut reader = Reader { table: &mut self.table, rest: block, room, fields };
        let read = reader.resize(self.table_limit).and_then(|()| reader.read());
        let is_over = reader.room.is_over;
        if let Err(malformed) = read {
            fields.clear();
            return Err(DecodeError::Malformed(malformed));
        }
        if is_over { Err(DecodeError::TooLarge) } else { Ok(()) }
    }
}

/// A block that is being read.
struct Reader<'a> {
    table: &'a mut DynamicTable,
    rest: &'a [u8],
    room: Room,
    fields: &'a mut Fields,
}

/// What becomes of a literal: RFC 7541, section 6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexing {
    Incremental,
    Without,
    Never,
}

impl Reader<'_> {
    /// Takes the size updates that a block may begin with. Section 4.2: there are two where the size
    /// was changed twice in between.
    fn resize(&mut self, limit: usize) -> Result<(), Malformed> {
        while let Some((first, after)) = self.rest.split_first()
            && first & !SIZE_MASK == SIZE_UPDATE
        {
            self.rest = after;
            let size = integer::read(*first, SIZE_MASK, &mut self.rest)?;
            if size > limit {
                return Err(Malformed::TableSize);
            }
            self.table.resize(size);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Malformed> {
        while let Some((first, after)) = self.rest.split_first() {
            self.rest = after;
            let first = *first;
            if first & INDEXED == INDEXED {
                self.indexed(first)?;
            } else if first & INCREMENTAL == INCREMENTAL {
                self.literal(first, INCREMENTAL_MASK, Indexing::Incremental)?;
            } else if first & SIZE_UPDATE == SIZE_UPDATE {
                return Err(Malformed::TableSizeLate);
            } else if first & NEVER == NEVER {
                self.literal(first, LITERAL_MASK, Indexing::Never)?;
            } else {
                self.literal(first, LITERAL_MASK, Indexing::Without)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn indexed(&mut self, first: u8) -> Result<(), Malformed> {
        let index = integer::read(first, INDEXED_MASK, &mut self.rest)?;
        let entry = entry(self.table, index)?;
        // A few octets can stand for very many: what is not kept is not copied.
        if self.room.take(entry.octets.len()) {
            self.fields.push_entry(entry);
        }
        Ok(())
    }

    fn literal(&mut self, first: u8, mask: u8, indexing: Indexing) -> Result<(), Malformed> {
        let begin = self.fields.arena.len();
        let index = integer::read(first, mask, &mut self.rest)?;
        let static_name = if index == 0 {
            self.string()?;
            0
        } else {
            let entry = entry(self.table, index)?;
            self.fields.arena.extend_from_slice(entry.name());
            entry.static_name
        };
        let name_length = self.fields.arena.len().saturating_sub(begin);
        self.string()?;
        let octets = self.fields.arena.get(begin..).unwrap_or_default();
        let length = octets.len();
        if indexing == Indexing::Incremental {
            // Of a copy: the entry that had the name may be evicted for it (section 4.4).
            self.table.insert(Entry { octets, name_length, static_name });
        }
        if self.room.take(length) {
            let value_length = length.saturating_sub(name_length);
            let is_sensitive = indexing == Indexing::Never;
            let field = Field { name_length, value_length, static_name, is_sensitive };
            self.fields.fields.push(field);
        } else {
            self.fields.arena.truncate(begin);
        }
        Ok(())
    }

    /// Appends a string to the arena: section 5.2.
    fn string(&mut self) -> Result<(), Malformed> {
        let (first, after) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = after;
        let length = integer::read(*first, LENGTH_MASK, &mut self.rest)?;
        let (octets, after) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = after;
        if first & HUFFMAN == HUFFMAN {
            return huffman::decode(octets, &mut self.fields.arena);
        }
        self.fields.arena.extend_from_slice(octets);
        Ok(())
    }
}

/// One space of indexes for both tables: section 2.3.3.
#[inline]
fn entry(table: &DynamicTable, index: usize) -> Result<Entry<'_>, Malformed> {
    if let Some(entry) = static_table::get(index) {
        return Ok(entry);
    }
    let position = index.checked_sub(static_table::LENGTH + 1);
    position.and_then(|position| table.get(position)).ok_or(Malformed::Index)
}

/// What is left of the limit of a block.
struct Room {
    left: usize,
    /// Stays: what came after a field that is missing would be another list.
    is_over: bool,
}

impl Room {
    /// Takes what a field needs whose name and value have so many octets. False if that is too much, or
    /// something was before.
    #[inline]
    fn take(&mut self, octets: usize) -> bool {
        match self.left.checked_sub(octets.saturating_add(OVERHEAD)) {
            Some(left) if !self.is_over => {
                self.left = left;
                true
            }
            Some(_) | None => {
                self.is_over = true;
                false
            }
        }
    }
}

/// RFC 9113, section 6.5.2.
const DEFAULT_TABLE_SIZE: usize = 4096;
/// More than anyone has, and what [`DynamicTable`] needs.
const LARGEST_TABLE: usize = 1 << 31;

/// How a field begins: section 6, from the longest prefix to the shortest.
const INDEXED: u8 = 0x80;
const INDEXED_MASK: u8 = 0x7f;
const INCREMENTAL: u8 = 0x40;
const INCREMENTAL_MASK: u8 = 0x3f;
const SIZE_UPDATE: u8 = 0x20;
const SIZE_MASK: u8 = 0x1f;
const NEVER: u8 = 0x10;
const LITERAL_MASK: u8 = 0x0f;
/// How a string begins: section 5.2.
const HUFFMAN: u8 = 0x80;
const LENGTH_MASK: u8 = 0x7f;
