//! The fields that both sides know before they begin: RFC 7541, appendix A. Their indexes begin at 1.

use crate::http::hpack::entry::Entry;

/// Index of `:authority`.
pub const AUTHORITY: u8 = 1;
/// The lowest index of `:method`.
pub const METHOD: u8 = 2;
/// The lowest index of `:path`.
pub const PATH: u8 = 4;
/// The lowest index of `:scheme`.
pub const SCHEME: u8 = 6;
/// The lowest index of `:status`.
pub const STATUS: u8 = 8;

/// How many entries there are.
pub(super) const LENGTH: usize = 61;

/// The entry of an index, if it is one of this table.
#[inline]
pub(super) fn get(index: usize) -> Option<Entry<'static>> {
    ENTRIES.get(index.wrapping_sub(1)).copied()
}

/// The lowest index with this name, 0 if there is none.
#[inline]
pub(super) fn find(name: &[u8]) -> u8 {
    let index = SLOTS.get(slot(name)).copied().unwrap_or_default();
    if get(usize::from(index)).is_some_and(|entry| entry.name() == name) { index } else { 0 }
}

/// The index of the entry with the name of `static_name`, which is the lowest of it, and this value.
#[inline]
pub(super) fn find_value(static_name: u8, value: &[u8]) -> Option<u8> {
    let position = usize::from(static_name).checked_sub(1)?;
    // Those of one name stand together.
    let of_name = ENTRIES.get(position..)?.iter().take_while(|it| it.static_name == static_name);
    let mut indexed = (static_name..).zip(of_name);
    indexed.find(|(_, entry)| entry.value() == value).map(|(index, _)| index)
}

/// Where a name stands in [`SLOTS`]. The weights are some that give each name of the table a slot of
/// its own, which the compiler checks.
const fn slot(name: &[u8]) -> usize {
    // No name here is shorter.
    let [first, .., last] = name else { return 0 };
    (name.len() + 10 * *first as usize + 4 * *last as usize) % SLOT_COUNT
}

const SLOT_COUNT: usize = 256;

/// The lowest index of the only name that may stand in a slot, or 0.
static SLOTS: [u8; SLOT_COUNT] = slots();

#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const fn slots() -> [u8; SLOT_COUNT] {
    let mut slots = [0; SLOT_COUNT];
    let mut position = 0;
    while position < LENGTH {
        let Entry { octets, name_length, static_name } = ENTRIES[position];
        let slot = slot(octets.split_at(name_length).0);
        assert!(slots[slot] == 0 || slots[slot] == static_name, "two names in one slot");
        slots[slot] = static_name;
        position += 1;
    }
    slots
}

macro_rules! entry {
    ($static_name:literal, $name:literal, $value:literal) => {
        Entry {
            octets: concat!($name, $value).as_bytes(),
            name_length: $name.len(),
            static_name: $static_name,
        }
    };
}

static ENTRIES: [Entry<'static>; LENGTH] = [
    entry!(1, ":authority", ""),
    entry!(2, ":method", "GET"),
    entry!(2, ":method", "POST"),
    entry!(4, ":path", "/"),
    entry!(4, ":path", "/index.html"),
    entry!(6, ":scheme", "http"),
    entry!(6, ":scheme", "https"),
    entry!(8, ":status", "200"),
    entry!(8, ":status", "204"),
    entry!(8, ":status", "206"),
    entry!(8, ":status", "304"),
    entry!(8, ":status", "400"),
    entry!(8, ":status", "404"),
    entry!(8, ":status", "500"),
    entry!(15, "accept-charset", ""),
    entry!(16, "accept-encoding", "gzip, deflate"),
    entry!(17, "accept-language", ""),
    entry!(18, "accept-ranges", ""),
    entry!(19, "accept", ""),
    entry!(20, "access-control-allow-origin", ""),
    entry!(21, "age", ""),
    entry!(22, "allow", ""),
    entry!(23, "authorization", ""),
    entry!(24, "cache-control", ""),
    entry!(25, "content-disposition", ""),
    entry!(26, "content-encoding", ""),
    entry!(27, "content-language", ""),
    entry!(28, "content-length", ""),
    entry!(29, "content-location", ""),
    entry!(30, "content-range", ""),
    entry!(31, "content-type", ""),
    entry!(32, "cookie", ""),
    entry!(33, "date", ""),
    entry!(34, "etag", ""),
    entry!(35, "expect", ""),
    entry!(36, "expires", ""),
    entry!(37, "from", ""),
    entry!(38, "host", ""),
    entry!(39, "if-match", ""),
    entry!(40, "if-modified-since", ""),
    entry!(41, "if-none-match", ""),
    entry!(42, "if-range", ""),
    entry!(43, "if-unmodified-since", ""),
    entry!(44, "last-modified", ""),
    entry!(45, "link", ""),
    entry!(46, "location", ""),
    entry!(47, "max-forwards", ""),
    entry!(48, "proxy-authenticate", ""),
    entry!(49, "proxy-authorization", ""),
    entry!(50, "range", ""),
    entry!(51, "referer", ""),
    entry!(52, "refresh", ""),
    entry!(53, "retry-after", ""),
    entry!(54, "server", ""),
    entry!(55, "set-cookie", ""),
    entry!(56, "strict-transport-security", ""),
    entry!(57, "transfer-encoding", ""),
    entry!(58, "user-agent", ""),
    entry!(59, "vary", ""),
    entry!(60, "via", ""),
    entry!(61, "www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_is_found_by_its_name_and_its_value() {
        for index in 1..=LENGTH {
            let entry = get(index).unwrap();
            let lowest = (1..=index).find(|lower| get(*lower).unwrap().name() == entry.name());
            assert_eq!(Some(usize::from(entry.static_name)), lowest, "index {index}");
            assert_eq!(find(entry.name()), entry.static_name, "index {index}");
            let found = find_value(entry.static_name, entry.value());
            assert_eq!(found.map(usize::from), Some(index));
        }
        assert_eq!((get(0), get(LENGTH + 1)), (None, None));
    }

    #[test]
    fn entries_of_the_rfc() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (3, ":method", "POST"),
            (8, ":status", "200"),
            (14, ":status", "500"),
            (16, "accept-encoding", "gzip, deflate"),
            (23, "authorization", ""),
            (38, "host", ""),
            (50, "range", ""),
            (61, "www-authenticate", ""),
        ] {
            let entry = get(index).unwrap();
            assert_eq!((entry.name(), entry.value()), (name.as_bytes(), value.as_bytes()));
        }
        let names = [AUTHORITY, METHOD, PATH, SCHEME, STATUS].map(|index| {
            let entry = get(usize::from(index)).unwrap();
            assert_eq!(entry.static_name, index, "the lowest");
            entry.name()
        });
        assert_eq!(names, [&b":authority"[..], b":method", b":path", b":scheme", b":status"]);
    }

    #[test]
    fn other_names_are_not_found() {
        for name in ["", "a", "Host", "hosu", "iost", ":", "x-request-id", "content-lengti"] {
            assert_eq!(find(name.as_bytes()), 0, "{name}");
        }
        assert_eq!(find_value(METHOD, b"PUT"), None);
        assert_eq!(find_value(METHOD, b""), None);
        assert_eq!(find_value(0, b""), None);
    }
}
