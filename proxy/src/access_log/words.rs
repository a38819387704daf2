//! Texts of others in a line: cut to a length, and written so that they can be nothing but texts. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// At most so many bytes of a text; that it was longer shows.
pub(super) fn bounded(text: &str, limit_bytes: usize) -> Cow<'_, str> {
    if text.len() <= limit_bytes {
        return Cow::Borrowed(text);
    }
    let beginning = text.get(..text.floor_char_boundary(limit_bytes)).unwrap_or_default();
    Cow::Owned(format!("{beginning}{CUT}"))
}

/// As a string of JSON. All that is not printable ASCII is escaped: a line feed would begin another line, and
/// terminals obey more than they show.
pub(super) fn push_json(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            ' '..='~' => line.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

/// As a word of a line: as it is if it is nothing but visible ASCII without quotation marks, and quoted and
/// escaped otherwise.
pub(super) fn push_word(line: &mut String, text: &str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'\'');
    if text.is_empty() {
        line.push('-');
    } else if text != "-" && text.bytes().all(is_plain) {
        line.push_str(text);
    } else {
        line.push('"');
        line.extend(text.chars().flat_map(char::escape_default));
        line.push('"');
    }
}

/// A moment as RFC 3339 has it, to the microsecond, in UTC.
pub(super) fn push_time(line: &mut String, at: SystemTime) {
    let at = OffsetDateTime::from(at);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, microsecond) =
        (at.hour(), at.minute(), at.second(), at.microsecond());
    let _ = write!(
        line,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z"
    );
}

/// Seconds, to the microsecond.
pub(super) fn push_seconds(line: &mut String, time: Duration) {
    let _ = write!(line, "{}.{:06}", time.as_secs(), time.subsec_micros());
}

/// Stands for what was cut off.
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_cannot_be_more_than_a_text() {
        for (case, text, json, word) in [
            ("plain", "/orders/7", r#""/orders/7""#, "/orders/7"),
            ("nothing", "", r#""""#, "-"),
            ("what stands for nothing", "-", r#""-""#, r#""-""#),
            ("a space", "a b", r#""a b""#, r#""a b""#),
            ("a line feed", "a\nb", r#""a\u000ab""#, r#""a\nb""#),
            ("a carriage return", "a\r\n{}", r#""a\u000d\u000a{}""#, r#""a\r\n{}""#),
            ("quotes", r#"a"b"#, r#""a\"b""#, r#""a\"b""#),
            ("a backslash", r"a\nb", r#""a\\nb""#, r#""a\\nb""#),
            ("zero", "a\0b", r#""a\u0000b""#, r#""a\u{0}b""#),
            ("colours of a terminal", "\x1b[31m", r#""\u001b[31m""#, r#""\u{1b}[31m""#),
            ("the same in one byte", "\u{9b}31m", r#""\u009b31m""#, r#""\u{9b}31m""#),
            ("delete", "a\x7f", r#""a\u007f""#, r#""a\u{7f}""#),
            ("a line separator", "a\u{2028}b", r#""a\u2028b""#, r#""a\u{2028}b""#),
            ("text that runs backwards", "\u{202e}a", r#""\u202ea""#, r#""\u{202e}a""#),
            ("what was no UTF-8", "a\u{fffd}", r#""a\ufffd""#, r#""a\u{fffd}""#),
            ("beyond the first plane", "😀", r#""\ud83d\ude00""#, r#""\u{1f600}""#),
        ] {
            let (mut as_json, mut as_word) = (String::new(), String::new());
            push_json(&mut as_json, text);
            push_word(&mut as_word, text);
            assert_eq!((as_json.as_str(), as_word.as_str()), (json, word), "case: {case}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for (text, limit, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "abc..."), ("aää", 2, "a..."), ("ä", 1, "...")]
        {
            assert_eq!(bounded(text, limit), expected, "case: {text}");
        }
    }

    #[test]
    fn a_moment_is_written_as_rfc_3339_has_it() {
        let (mut time, mut seconds) = (String::new(), String::new());
        push_time(&mut time, SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_692_000_000_042));
        push_seconds(&mut seconds, Duration::from_micros(12_000_345));
        assert_eq!(time, "2026-11-26T11:20:00.000042Z");
        assert_eq!(seconds, "12.000345");
    }

    proptest! {
        #[test]
        fn whatever_a_text_is_json_reads_it_back_from_printable_ascii(text in any::<String>()) {
            let mut line = String::new();
            push_json(&mut line, &text);
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let read: String = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn whatever_a_text_is_it_is_one_word(text in any::<String>()) {
            let mut line = String::new();
            push_word(&mut line, &text);
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let is_quoted = line.starts_with('"');
            prop_assert!(is_quoted || !line.contains(' '));
            let inner = line.trim_start_matches('"').trim_end_matches('"');
            let mut before = ' ';
            let mut escaped = false;
            for character in inner.chars() {
                escaped = before == '\\' && !escaped;
                prop_assert!(character != '"' || escaped, "{}", line);
                before = character;
            }
        }
    }
}
