//! Reads one parameter out of a query, as forms encode it.

use std::borrow::Cow;

/// The decoded value of the first parameter of this name. A pure function.
pub(super) fn first<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _value)| *decode(key) == *name.as_bytes())
        .map(|(_key, value)| decode(value))
}

/// `+` is a space and `%XX` a byte; what is not valid stands for itself.
/// Source: WHATWG URL, application/x-www-form-urlencoded parsing.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'+' || byte == b'%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, escaped(after)) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |index: usize| {
        let value = char::from(*digits.get(index)?).to_digit(16)?;
        u8::try_from(value).ok()
    };
    Some(digit(0)? * 16 + digit(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        for (query, name, expected) in [
            ("", "a", None),
            ("a=1", "a", Some("1")),
            ("a=1&a=2", "a", Some("1")),
            ("b=1&a=2", "a", Some("2")),
            ("a", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("a=x+y%20z", "a", Some("x y z")),
            ("%61=1", "a", Some("1")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("A=1", "a", None),
        ] {
            let found = first(query, name);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "case: {query}");
        }
    }
}
