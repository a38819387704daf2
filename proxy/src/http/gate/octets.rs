//! Which octets may stand where in a request: one table, and how many at the beginning of a text are of a kind. What they
//! spell is read elsewhere.

/// RFC 9110, section 5.6.2: a method, a field's name, an option of a connection.
pub(crate) fn is_token(octet: u8) -> bool {
    has(octet, TOKEN)
}

/// RFC 9110, section 5.5: a field's value, with what RFC 9112 calls `obs-text`.
pub(crate) fn is_value(octet: u8) -> bool {
    has(octet, VALUE)
}

/// RFC 3986, section 3.3, and what clients send unescaped all the same. Without `#`, which begins a
/// fragment, and without the backslash, which some servers read as a slash.
pub(super) fn is_path(octet: u8) -> bool {
    has(octet, PATH)
}

/// RFC 3986, section 3.4, and what clients send unescaped all the same.
pub(super) fn is_query(octet: u8) -> bool {
    has(octet, QUERY)
}

/// What the names of hosts consist of: letters, digits, and `-._~`. RFC 3986 allows for more, which
/// no resolver takes and readers split at.
pub(super) fn is_host(octet: u8) -> bool {
    has(octet, HOST)
}

/// How many octets at the beginning are those of a token.
pub(super) fn token_length(octets: &[u8]) -> usize {
    length::<TOKEN>(octets)
}

/// How many octets at the beginning are visible in ASCII: what a target's end is found by, before its parts are read.
pub(super) fn visible_length(octets: &[u8]) -> usize {
    length::<VISIBLE>(octets)
}

/// How many octets at the beginning are those of a host.
pub(super) fn host_length(octets: &[u8]) -> usize {
    length::<HOST>(octets)
}

/// How many octets at the beginning are those of a path, and neither a dot nor the beginning of an escape: what
/// cannot be a part of a segment of dots.
pub(super) fn plain_path_length(octets: &[u8]) -> usize {
    length::<PLAIN_PATH>(octets)
}

/// How many octets at the beginning are those of a value. Eight at a time: values are most of a head.
pub(in crate::http) fn value_length(octets: &[u8]) -> usize {
    let (eights, _rest) = octets.as_chunks::<8>();
    let mut passed = 0;
    for eight in eights {
        let controls = controls(u64::from_le_bytes(*eight));
        if controls != 0 {
            // The first one is marked in the highest bit of its octet.
            passed += usize::try_from(controls.trailing_zeros() / u8::BITS).unwrap_or(0);
            break;
        }
        passed += eight.len();
    }
    // From the first control on, which a tab is, too.
    passed + length::<VALUE>(octets.get(passed..).unwrap_or_default())
}

/// Eight octets, of which those have their highest bit set that are less than a space, or DEL: of the first one of these
/// this is exact, and without any of them it is zero. Source: Henry S. Warren, "Hacker's Delight", on finding a zero byte.
#[inline]
fn controls(octets: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHEST: u64 = ONES << 7;
    let less_than_space = octets.wrapping_sub(ONES * 0x20) & !octets;
    let without_del = octets ^ (ONES * 0x7f);
    let del = without_del.wrapping_sub(ONES) & !without_del;
    (less_than_space | del) & HIGHEST
}

#[inline]
fn length<const CLASS: u8>(octets: &[u8]) -> usize {
    octets.iter().position(|octet| !has(*octet, CLASS)).unwrap_or(octets.len())
}

#[inline]
fn has(octet: u8, class: u8) -> bool {
    TABLE.get(usize::from(octet)).is_some_and(|classes| classes & class != 0)
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const VISIBLE: u8 = 4;
const PATH: u8 = 8;
const QUERY: u8 = 16;
const HOST: u8 = 32;
const PLAIN_PATH: u8 = 64;

static TABLE: [u8; 256] = table();

const fn table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet: u8 = 0;
    loop {
        #[expect(clippy::indexing_slicing, reason = "an octet is less than 256")]
        {
            table[octet as usize] = classes(octet);
        }
        if octet == u8::MAX {
            return table;
        }
        octet += 1;
    }
}

const fn classes(octet: u8) -> u8 {
    let alphanumeric = if octet.is_ascii_alphanumeric() { TOKEN | PATH | QUERY | HOST } else { 0 };
    let token = match octet {
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        | b'`' | b'|' | b'~' => TOKEN,
        _ => 0,
    };
    let value = match octet {
        b'\t' | b' '..=b'~' | 0x80..=0xff => VALUE,
        _ => 0,
    };
    let visible = if octet.is_ascii_graphic() { VISIBLE } else { 0 };
    let path = match octet {
        b'!'
        | b'$'..=b'/'
        | b':'
        | b';'
        | b'='
        | b'@'
        | b'['
        | b']'
        | b'^'
        | b'_'
        | b'{'
        | b'|'
        | b'}'
        | b'~' => PATH | QUERY,
        b'?' | b'\\' | b'`' => QUERY,
        _ => 0,
    };
    let host = match octet {
        b'-' | b'.' | b'_' | b'~' => HOST,
        _ => 0,
    };
    let plain = match octet {
        b'.' | b'%' => 0,
        _ if (alphanumeric | path) & PATH != 0 => PLAIN_PATH,
        _ => 0,
    };
    alphanumeric | token | value | visible | path | plain | host
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lengths_are_those_that_are_found_octet_by_octet(
            mut octets in proptest::collection::vec(prop_oneof![4 => 0x20_u8..0x7f, 1 => any::<u8>()], 0..60),
            at in 0_usize..60,
            stop in proptest::sample::select(vec![b'\r', b'\t', b' ', 0, 0x1f, 0x7f, 0x80, 0xff]),
        ) {
            if let Some(octet) = octets.get_mut(at) {
                *octet = stop;
            }
            let slowly = |passes: fn(u8) -> bool| {
                octets.iter().position(|octet| !passes(*octet)).unwrap_or(octets.len())
            };
            prop_assert_eq!(token_length(&octets), slowly(is_token));
            prop_assert_eq!(visible_length(&octets), slowly(|octet| octet.is_ascii_graphic()));
            prop_assert_eq!(host_length(&octets), slowly(is_host));
            prop_assert_eq!(value_length(&octets), slowly(is_value));
            let is_plain = |octet| is_path(octet) && octet != b'.' && octet != b'%';
            prop_assert_eq!(plain_path_length(&octets), slowly(is_plain));
        }
    }

    #[test]
    fn a_value_ends_where_any_octet_that_is_none_of_it_stands() {
        for stop in 0..=u8::MAX {
            for at in 0..20 {
                let mut octets = [b'a'; 20];
                octets[at] = stop;
                let expected = if is_value(stop) { 20 } else { at };
                assert_eq!(value_length(&octets), expected, "{stop} at {at}");
            }
        }
    }

    #[test]
    fn whatever_may_be_in_a_target_is_one_to_the_http_library() {
        for octet in 0..=u8::MAX {
            for (case, passes, target) in [
                ("path", is_path(octet), [b"/", &[octet][..]].concat()),
                ("query", is_query(octet), [b"/?", &[octet][..]].concat()),
            ] {
                let is_known = http::Uri::try_from(&target[..])
                    .is_ok_and(|uri| uri.to_string().as_bytes() == target);
                assert!(!passes || is_known, "{case}: {:?}", char::from(octet));
            }
        }
    }

    #[test]
    fn a_token_is_what_the_standard_lists() {
        let listed = b"!#$%&'*+-.^_`|~";
        for octet in 0..=u8::MAX {
            let expected = octet.is_ascii_alphanumeric() || listed.contains(&octet);
            assert_eq!(is_token(octet), expected, "{octet}");
        }
    }
}
