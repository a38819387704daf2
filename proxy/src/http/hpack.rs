//! The compression of fields in HTTP/2 (RFC 7541): blocks of octets to fields, and back. Knows no
//! frames, and no rules of HTTP about fields.

pub mod decoder;
mod dynamic_table;
pub mod encoder;
mod entry;
pub mod fields;
mod huffman;
mod integer;
pub mod malformed;
pub mod static_table;

#[cfg(test)]
mod tests;
