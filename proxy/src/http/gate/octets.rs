//! Which octets may stand where in a request: one table. What they spell is read elsewhere.

/// RFC 9110, section 5.6.2: a method, a field's name, an option of a connection.
pub(crate) fn is_token(octet: u8) -> bool {
    has(octet, TOKEN)
}

/// RFC 9110, section 5.5: a field's value, with what RFC 9112 calls `obs-text`.
pub(crate) fn is_value(octet: u8) -> bool {
    has(octet, VALUE)
}

/// Anything visible in ASCII: what a target's end is found by, before its parts are read.
pub(super) fn is_visible(octet: u8) -> bool {
    has(octet, VISIBLE)
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

fn has(octet: u8, class: u8) -> bool {
    TABLE.get(usize::from(octet)).is_some_and(|classes| classes & class != 0)
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const VISIBLE: u8 = 4;
const PATH: u8 = 8;
const QUERY: u8 = 16;
const HOST: u8 = 32;

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
    alphanumeric | token | value | visible | path | host
}

#[cfg(test)]
mod tests {
    use super::*;

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
