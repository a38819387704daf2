//! Writes the lines of a head anew: those that stay as they are in one piece with their neighbours. Which stay is for
//! framing.rs to say, and for the lane's answers.

use std::ops::Range;

use crate::http::gate::fields;
use crate::http::gate::head::Field;

/// What is to be written of a head, and is not yet.
#[derive(Debug)]
pub(in crate::http) struct Lines<'a> {
    octets: &'a [u8],
    kept: Range<usize>,
}

impl<'a> Lines<'a> {
    /// Begins with what is at `first` in a head.
    pub(in crate::http) fn new(octets: &'a [u8], first: Range<usize>) -> Self {
        Self { octets, kept: first }
    }

    /// A field that goes on. If its line is not in the one form, it is written anew.
    pub(in crate::http) fn keep(&mut self, field: &Field<'_>, output: &mut Vec<u8>) {
        if field.is_canonical && field.line.start == self.kept.end {
            self.kept.end = field.line.end;
            return;
        }
        self.flush(output);
        if field.is_canonical {
            self.kept = field.line.clone();
        } else {
            fields::write(output, field.name, field.value);
        }
    }

    /// To be called before anything else is written, and at the end.
    pub(in crate::http) fn flush(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.octets.get(self.kept.clone()).unwrap_or_default());
        self.kept = self.kept.end..self.kept.end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::gate::head::HeadReader;

    proptest! {
        #[test]
        fn lines_that_are_kept_are_the_same_as_lines_written_one_by_one(
            lines in proptest::collection::vec("[a-zA-Z-]{1,5}:[ \t]{0,2}[a-z \t]{0,5}\r\n", 0..8),
            kept in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let text = format!("GET / HTTP/1.1\r\n{}\r\n", lines.concat());
            let mut reader = HeadReader::default();
            prop_assert_eq!(reader.read(text.as_bytes()), Ok(Some(text.len())));
            let head = reader.head(text.as_bytes());
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            let mut lines = Lines::new(text.as_bytes(), 0..16);
            expected.extend_from_slice(b"GET / HTTP/1.1\r\n");
            for (field, is_kept) in head.lines().zip(kept) {
                if is_kept {
                    lines.keep(&field, &mut found);
                    fields::write(&mut expected, field.name, field.value);
                }
            }
            lines.flush(&mut found);
            prop_assert_eq!(String::from_utf8(found), String::from_utf8(expected));
        }
    }
}
