//! A field as the tables have it: what an index stands for.

/// A name and a value, one right after the other, so that both are copied at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) octets: &'a [u8],
    /// Of `octets`, how many are the name.
    pub(super) name_length: usize,
    /// The lowest index of the static table with this name, 0 if none is known.
    pub(super) static_name: u8,
}

impl<'a> Entry<'a> {
    pub(super) fn name(self) -> &'a [u8] {
        self.octets.get(..self.name_length).unwrap_or_default()
    }

    pub(super) fn value(self) -> &'a [u8] {
        self.octets.get(self.name_length..).unwrap_or_default()
    }
}

/// What an entry counts beyond its octets: RFC 7541, section 4.1, and RFC 9113, section 6.5.2.
pub(super) const OVERHEAD: usize = 32;
