//! Why a block of fields cannot be read: one closed set of rules of RFC 7541.

/// The rule that a block broke. After it nobody knows what the other side's table holds: RFC 9113,
/// section 4.3, has the connection end with `COMPRESSION_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The block ends within a field.
    #[error("the block ends within a field")]
    Truncated,
    /// Section 5.1: more than 32 bits, or more octets than these take.
    #[error("an integer of more than 32 bits")]
    Integer,
    /// Sections 2.3.3 and 6.1: zero, or beyond the end of the dynamic table.
    #[error("an index of no entry")]
    Index,
    /// Section 6.3: a size of the dynamic table above what our settings allow.
    #[error("a table larger than was allowed")]
    TableSize,
    /// Section 4.2: a size of the dynamic table stands before all fields of its block.
    #[error("a size of the table after a field")]
    TableSizeLate,
    /// Section 5.2: the end of a string is padded by at most seven bits, all of them ones.
    #[error("a string that is not padded by ones")]
    Padding,
    /// Section 5.2: the code for the end of a string never stands in one.
    #[error("the code of a string's end within it")]
    EndOfString,
}
