//! Writes blocks of fields: RFC 7541, section 6. Without a dynamic table, so that a block is the same for
//! every connection, and without the Huffman code, so that strings are only copied.

use crate::http::hpack::integer;
use crate::http::hpack::static_table::{self, AUTHORITY, METHOD, PATH, SCHEME, STATUS};

/// Appends what the first block of a connection begins with: that the reader need not hold a table.
///
/// Without it, a reader whose settings ask for less than the 4096 octets of a new connection would have
/// to be told when these are acknowledged, and refuse what it is not told before (RFC 7541, section 4.2).
/// There is nothing below zero to ask for.
pub fn no_table(block: &mut Vec<u8>) {
    integer::write(0, SIZE_UPDATE, SIZE_MASK, block);
}

/// Appends `:status`. Codes have three digits (RFC 9110, section 15); of others, the last three.
pub fn status(code: u16, block: &mut Vec<u8>) {
    let digits = [code / 100, code / 10, code].map(|digits| digit(digits % 10));
    pseudo(STATUS, &digits, block);
}

/// Appends `:method`.
pub fn method(method: &[u8], block: &mut Vec<u8>) {
    pseudo(METHOD, method, block);
}

/// Appends `:path`.
pub fn path(path: &[u8], block: &mut Vec<u8>) {
    pseudo(PATH, path, block);
}

/// Appends `:scheme`.
pub fn scheme(scheme: &[u8], block: &mut Vec<u8>) {
    pseudo(SCHEME, scheme, block);
}

/// Appends `:authority`.
pub fn authority(authority: &[u8], block: &mut Vec<u8>) {
    pseudo(AUTHORITY, authority, block);
}

/// Appends a field: by its index where the static table has it, and else as a literal that the reader
/// does not put into its table. `name` is in lower case; that is not looked at. `static_name` is as in
/// [`super::fields::FieldRef`]: the lowest index of the name, or 0 where it is to be looked for.
///
/// What is sensitive is always a literal, and marked as one that nobody may index (section 6.2.3).
#[inline]
pub fn field(name: &[u8], value: &[u8], static_name: u8, is_sensitive: bool, block: &mut Vec<u8>) {
    let static_name = if static_name == 0 { static_table::find(name) } else { static_name };
    debug_assert!(
        static_name == 0
            || static_table::get(static_name.into()).is_some_and(|entry| entry.name() == name),
        "{static_name} is the index of another name"
    );
    if is_sensitive {
        literal(NEVER_INDEXED, name, static_name, value, block);
    } else if let Some(index) = static_table::find_value(static_name, value) {
        integer::write(index.into(), INDEXED, INDEXED_MASK, block);
    } else {
        literal(WITHOUT_INDEXING, name, static_name, value, block);
    }
}

fn pseudo(static_name: u8, value: &[u8], block: &mut Vec<u8>) {
    match static_table::find_value(static_name, value) {
        Some(index) => integer::write(index.into(), INDEXED, INDEXED_MASK, block),
        None => literal(WITHOUT_INDEXING, b"", static_name, value, block),
    }
}

fn literal(pattern: u8, name: &[u8], static_name: u8, value: &[u8], block: &mut Vec<u8>) {
    integer::write(static_name.into(), pattern, LITERAL_MASK, block);
    if static_name == 0 {
        string(name, block);
    }
    string(value, block);
}

fn string(text: &[u8], block: &mut Vec<u8>) {
    integer::write(text.len(), NOT_HUFFMAN, LENGTH_MASK, block);
    block.extend_from_slice(text);
}

fn digit(value: u16) -> u8 {
    let [_, low] = value.to_be_bytes();
    b'0' + low
}

const INDEXED: u8 = 0x80;
const INDEXED_MASK: u8 = 0x7f;
const SIZE_UPDATE: u8 = 0x20;
const SIZE_MASK: u8 = 0x1f;
const WITHOUT_INDEXING: u8 = 0;
const NEVER_INDEXED: u8 = 0x10;
const LITERAL_MASK: u8 = 0x0f;
const NOT_HUFFMAN: u8 = 0;
const LENGTH_MASK: u8 = 0x7f;
