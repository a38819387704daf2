//! Reads the head of an HTTP/1 request, in pieces of any size, and takes nothing but the strict grammar of RFC 9112: line
//! by line where these are there, else octet by octet. What the head means is for request.rs.

use std::ops::Range;

use crate::http::gate::fields::{self, Known};
use crate::http::gate::octets;
use crate::http::gate::refusal::Refusal;

/// A reader of one head, or of the trailers of a chunked body; used again for the next.
///
/// More octets never change what it has said, and how they are cut makes no difference.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    state: State,
    /// How much was read.
    position: usize,
    /// Where the part began that is being read.
    mark: usize,
    method: Span,
    target: Span,
    version: Version,
    name: Span,
    fields: Vec<Line>,
}

/// The line of a field.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
    /// Of the line, with what ends it.
    end: usize,
    known: Known,
}

/// Which HTTP/1 a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Connections end after one answer, unless asked for; no transfer codings.
    Http10,
    /// What everybody speaks.
    #[default]
    Http11,
}

/// A head that was read, beside the octets that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    octets: &'a [u8],
    reader: &'a HeadReader,
}

/// A field that was read.
#[derive(Clone, Debug)]
pub(in crate::http) struct Field<'a> {
    pub(in crate::http) name: &'a [u8],
    /// Without the spaces around it.
    pub(in crate::http) value: &'a [u8],
    pub(in crate::http) known: Known,
    /// Where its line is in the head, with what ends it.
    pub(in crate::http) line: Range<usize>,
    /// Whether its line is in the one form that the gate writes lines in.
    pub(in crate::http) is_canonical: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Method,
    Target,
    Version,
    FieldStart,
    Name,
    Value,
    ValueEnd,
    Done,
}

/// What reading one part came to.
enum Part {
    /// On to the next one.
    Read,
    /// It needs more octets.
    Short,
}

impl HeadReader {
    /// Reads on. `octets` is all there is since the head's beginning; they are not looked at again but for the line that
    /// is not all there.
    ///
    /// The length of the head when it is there, `None` while it needs more.
    pub fn read(&mut self, octets: &[u8]) -> Result<Option<usize>, Refusal> {
        self.read_lines(octets);
        self.read_parts(octets)
    }

    /// Reads the lines that are there and have nothing about them, as almost all: of whatever they do not take,
    /// [`Self::read_parts`] says what it is.
    fn read_lines(&mut self, octets: &[u8]) {
        if self.state == State::Start && self.read_request_line(octets).is_some() {
            self.state = State::FieldStart;
        }
        if self.state == State::FieldStart {
            while self.read_field(octets).is_some() {}
        }
    }

    fn read_request_line(&mut self, octets: &[u8]) -> Option<()> {
        let rest = octets.get(self.position..)?;
        let (method, rest) = rest.split_at_checked(octets::token_length(rest))?;
        let rest = rest.strip_prefix(b" ")?;
        let (target, rest) = rest.split_at_checked(octets::visible_length(rest))?;
        let is_short = (1..=METHOD_LIMIT_BYTES).contains(&method.len())
            && (1..=TARGET_LIMIT_BYTES).contains(&target.len());
        if !is_short || !rest.starts_with(HTTP11_END) {
            return None;
        }
        self.method = Span::of_length(self.position, method.len());
        self.target = Span::of_length(self.method.end + 1, target.len());
        self.version = Version::Http11;
        self.position = self.target.end + HTTP11_END.len();
        self.mark = self.position;
        Some(())
    }

    fn read_field(&mut self, octets: &[u8]) -> Option<()> {
        let rest = octets.get(self.position..)?;
        let (name, rest) = rest.split_at_checked(octets::token_length(rest))?;
        let rest = rest.strip_prefix(b":")?;
        let (value, rest) = rest.split_at_checked(octets::value_length(rest))?;
        let name_span = Span::of_length(self.position, name.len());
        let value = Span::of_length(name_span.end + 1, value.len());
        let has_room = value.end <= HEAD_LIMIT_BYTES && self.fields.len() < FIELD_LIMIT;
        if name.is_empty() || !has_room || !rest.starts_with(b"\r\n") {
            return None;
        }
        self.position = value.end + 2;
        self.mark = self.position;
        self.add(name_span, value, octets);
        Some(())
    }

    /// A field, at the end of whose line the reader is. `value` has the spaces around it.
    fn add(&mut self, name: Span, value: Span, octets: &[u8]) {
        let known = fields::known(name.of(octets));
        let (value, end) = (value.trimmed(octets), self.position);
        self.fields.push(Line { name, value, end, known });
    }

    fn read_parts(&mut self, octets: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            let rest = octets.get(self.position..).unwrap_or_default();
            let part = match self.state {
                State::Start => self.read_start(rest)?,
                State::Method => self.read_method(rest)?,
                State::Target => self.read_target(rest)?,
                State::Version => self.read_version(rest)?,
                State::FieldStart => self.read_field_start(rest)?,
                State::Name => self.read_name(rest)?,
                State::Value => self.read_value(rest)?,
                State::ValueEnd => self.read_value_end(rest, octets)?,
                State::Done => return Ok(Some(self.position)),
            };
            match part {
                Part::Read => {}
                Part::Short => return Ok(None),
            }
        }
    }

    /// Begins anew, with a request.
    pub fn reset(&mut self) {
        self.position = 0;
        self.state = State::Start;
        self.fields.clear();
    }

    /// Begins anew, with fields only: the trailers of a body, or what follows the first line of an answer.
    pub(in crate::http) fn reset_to_trailers(&mut self) {
        self.reset();
        self.state = State::FieldStart;
    }

    /// Whether anything but an empty line was read.
    pub(super) fn has_begun(&self) -> bool {
        self.state != State::Start
    }

    /// What was read, once it is complete. `octets` is what it was read from.
    pub fn head<'a>(&'a self, octets: &'a [u8]) -> Head<'a> {
        Head { octets, reader: self }
    }

    fn read_start(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        match (rest, self.position) {
            // A lone CR may still become either refusal: which one must not depend on the cut.
            ([] | [b'\r'], _) => Ok(Part::Short),
            ([b'\r', b'\n', ..], 0) => self.skip(2, State::Start),
            ([b'\r', b'\n', ..], _) => Err(Refusal::BlankLines),
            ([b'\r', ..], _) => Err(Refusal::BareCarriageReturn),
            ([b'\n', ..], _) => Err(Refusal::BareLineFeed),
            ([_, ..], _) => self.skip(0, State::Method),
        }
    }

    fn read_method(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        let next = self.run(rest, octets::token_length(rest));
        if self.position - self.mark > METHOD_LIMIT_BYTES {
            return Err(Refusal::MethodTooLong);
        }
        match next {
            None => Ok(Part::Short),
            Some(b' ') if self.position > self.mark => {
                self.method = self.span();
                self.skip(1, State::Target)
            }
            Some(_) => Err(Refusal::Method),
        }
    }

    fn read_target(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        let next = self.run(rest, octets::visible_length(rest));
        if self.position - self.mark > TARGET_LIMIT_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        match next {
            None => Ok(Part::Short),
            Some(b' ') if self.position > self.mark => {
                self.target = self.span();
                self.skip(1, State::Version)
            }
            Some(b' ' | b'\r' | b'\n' | b'\t') => Err(Refusal::RequestLine),
            Some(_) => Err(Refusal::Target),
        }
    }

    fn read_version(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        for (octet, place) in rest.iter().zip(0_u8..) {
            let name = b"HTTP/".get(usize::from(place));
            match (place, octet) {
                (0..=4, octet) if Some(octet) == name => {}
                (5 | 7, b'0'..=b'9') | (6, b'.') => {}
                (8, b'\r') => {}
                (8, b'\n') => return Err(Refusal::BareLineFeed),
                (9, b'\n') => return self.skip(10, State::FieldStart),
                (9, _) => return Err(Refusal::BareCarriageReturn),
                _ => return Err(Refusal::RequestLine),
            }
            match (place, octet) {
                (5, b'1') | (7, b'0' | b'1') => {}
                (5 | 7, _) => return Err(Refusal::Version),
                _ => {}
            }
            if place == 7 {
                self.version = if *octet == b'1' { Version::Http11 } else { Version::Http10 };
            }
        }
        Ok(Part::Short)
    }

    fn read_field_start(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        match rest {
            [] | [b'\r'] => Ok(Part::Short),
            [b'\r', b'\n', ..] => self.skip(2, State::Done),
            [b'\r', ..] => Err(Refusal::BareCarriageReturn),
            [b'\n', ..] => Err(Refusal::BareLineFeed),
            [b' ' | b'\t', ..] => Err(Refusal::Folded),
            [_, ..] if self.fields.len() >= FIELD_LIMIT => Err(Refusal::FieldsTooLarge),
            [_, ..] => self.skip(0, State::Name),
        }
    }

    fn read_name(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        let next = self.run(rest, octets::token_length(rest));
        self.check_length()?;
        match next {
            None => Ok(Part::Short),
            Some(b':') if self.position > self.mark => {
                self.name = self.span();
                self.skip(1, State::Value)
            }
            Some(b' ' | b'\t') => Err(Refusal::SpaceBeforeColon),
            Some(_) => Err(Refusal::FieldName),
        }
    }

    fn read_value(&mut self, rest: &[u8]) -> Result<Part, Refusal> {
        let next = self.run(rest, octets::value_length(rest));
        self.check_length()?;
        match next {
            None => Ok(Part::Short),
            // The mark stays: it is where the value began.
            Some(b'\r') => {
                self.state = State::ValueEnd;
                Ok(Part::Read)
            }
            Some(b'\n') => Err(Refusal::BareLineFeed),
            Some(_) => Err(Refusal::FieldValue),
        }
    }

    fn read_value_end(&mut self, rest: &[u8], octets: &[u8]) -> Result<Part, Refusal> {
        match rest {
            [] | [_] => Ok(Part::Short),
            [_, b'\n', ..] => {
                let (name, value) = (self.name, self.span());
                let part = self.skip(2, State::FieldStart)?;
                self.add(name, value, octets);
                Ok(part)
            }
            [_, _, ..] => Err(Refusal::BareCarriageReturn),
        }
    }

    /// Passes over so many octets, which are of one kind; the one that is not.
    fn run(&mut self, rest: &[u8], length: usize) -> Option<u8> {
        self.position += length;
        rest.get(length).copied()
    }

    fn skip(&mut self, length: usize, state: State) -> Result<Part, Refusal> {
        self.position += length;
        self.mark = self.position;
        self.state = state;
        Ok(Part::Read)
    }

    fn span(&self) -> Span {
        Span { start: self.mark, end: self.position }
    }

    fn check_length(&self) -> Result<(), Refusal> {
        if self.position > HEAD_LIMIT_BYTES { Err(Refusal::FieldsTooLarge) } else { Ok(()) }
    }
}

impl Span {
    #[inline]
    fn of_length(start: usize, length: usize) -> Self {
        Self { start, end: start + length }
    }

    #[inline]
    fn of(self, octets: &[u8]) -> &[u8] {
        octets.get(self.start..self.end).unwrap_or_default()
    }

    fn trimmed(self, octets: &[u8]) -> Self {
        let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
        let value = self.of(octets);
        let end = value.iter().rposition(|octet| !is_space(octet)).map_or(0, |last| last + 1);
        let start = value.iter().position(|octet| !is_space(octet)).unwrap_or(0).min(end);
        Self { start: self.start + start, end: self.start + end }
    }
}

impl<'a> Head<'a> {
    /// A token.
    pub fn method(&self) -> &'a [u8] {
        self.reader.method.of(self.octets)
    }

    /// Visible octets.
    pub fn target(&self) -> &'a [u8] {
        self.reader.target.of(self.octets)
    }

    /// As it was written.
    pub fn version(&self) -> Version {
        self.reader.version
    }

    /// Names and values, without the spaces around these.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        self.lines().map(|field| (field.name, field.value))
    }

    /// The same, with what was found out about each.
    pub(in crate::http) fn lines(&self) -> impl Iterator<Item = Field<'a>> + Clone + use<'a> {
        let octets = self.octets;
        self.reader.fields.iter().map(move |line| {
            let Line { name, value, end, known } = *line;
            // One space, and nothing behind.
            let is_canonical = name.end + 2 == value.start
                && value.end + 2 == end
                && octets.get(name.end + 1) == Some(&b' ');
            let (line, name, value) = (name.start..end, name.of(octets), value.of(octets));
            Field { name, value, known, line, is_canonical }
        })
    }

    /// What was said of each field, and its value.
    pub(super) fn known(&self) -> impl Iterator<Item = (Known, &'a [u8])> + use<'a> {
        let octets = self.octets;
        self.reader.fields.iter().map(move |line| (line.known, line.value.of(octets)))
    }

    /// Where the request line is, with what ends it.
    pub(super) fn request_line(&self) -> Range<usize> {
        // Versions are of one length.
        self.reader.method.start..self.reader.target.end + HTTP11_END.len()
    }

    /// What it was read from.
    pub(in crate::http) fn octets(&self) -> &'a [u8] {
        self.octets
    }
}

/// What follows the target of almost every request.
const HTTP11_END: &[u8] = b" HTTP/1.1\r\n";

/// The longest registered method, `BASELINE-CONTROL` or `UPDATEREDIRECTREF`, has 17.
pub const METHOD_LIMIT_BYTES: usize = 32;
/// RFC 9112, section 3 asks for 8,000 at least.
pub const TARGET_LIMIT_BYTES: usize = 32 * 1024;
/// Envoy's default; less than what hyper may buffer.
pub const HEAD_LIMIT_BYTES: usize = 60 * 1024;
/// As many as hyper reads, but for a host that is added to them.
pub const FIELD_LIMIT: usize = 99;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Heads, and what is nearly one.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let line = "(GET|POST|a{31,34}|)[ ]{1,2}[!-~]{0,12}[ ]{1,2}HTTP/1.[01]\r?\n";
        let field = "[a-zA-Z_-]{0,18}[ ]?:[ \t]{0,2}[ -~\t]{0,20}[ \t]{0,2}\r?\n";
        let changed = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
        (line, proptest::collection::vec(field, 0..6), "(\r\n|\n|\r|)[a-z]{0,4}", changed).prop_map(
            |(line, fields, end, changed)| {
                let mut head = [line, fields.concat(), end].concat().into_bytes();
                if let Some((at, octet)) = changed {
                    let at = at.index(head.len());
                    head[at] = octet;
                }
                head
            },
        )
    }

    fn strict_heads() -> impl Strategy<Value = Vec<u8>> {
        let field = "[a-zA-Z_-]{1,18}:[ \t]{0,2}[ -~\t]{0,20}[ \t]{0,2}\r\n";
        let fields = proptest::collection::vec(field, 0..6);
        ("(GET|PUT) [!-~]{1,12} HTTP/1\\.[01]\r\n", fields)
            .prop_map(|(line, fields)| [line, fields.concat(), "\r\n".to_owned()].concat().into())
    }

    /// All that there is to know of a reader.
    fn seen(reader: &HeadReader, octets: &[u8]) -> String {
        let head = reader.head(octets);
        let lines: Vec<_> = head.lines().collect();
        let request = (head.method(), head.target(), head.version(), head.request_line());
        format!("{:?} {:?} {request:?} {lines:?}", reader.state, reader.position)
    }

    proptest! {
        #[test]
        fn whole_lines_are_read_as_their_octets_are(
            octets in prop_oneof![heads(), strict_heads()],
            from_field in any::<bool>(),
        ) {
            let mut reader = HeadReader::default();
            if from_field {
                reader.reset_to_trailers();
            }
            let mut by_parts = reader.clone();
            let (read, expected) = (reader.read(&octets), by_parts.read_parts(&octets));
            prop_assert_eq!(read, expected);
            if expected.is_ok() {
                prop_assert_eq!(seen(&reader, &octets), seen(&by_parts, &octets));
            }
        }

        #[test]
        fn a_canonical_line_is_the_one_that_is_written(octets in strict_heads()) {
            let mut reader = HeadReader::default();
            prop_assert_eq!(reader.read(&octets), Ok(Some(octets.len())));
            let head = reader.head(&octets);
            let mut end = head.request_line().end;
            for field in head.lines() {
                let mut written = Vec::new();
                fields::write(&mut written, field.name, field.value);
                // One without a value is written anew, to the same.
                let is_same = octets[field.line.clone()] == written && !field.value.is_empty();
                prop_assert_eq!(field.is_canonical, is_same);
                prop_assert_eq!(field.line.start, end, "one line follows the other");
                end = field.line.end;
            }
            prop_assert_eq!(end + 2, octets.len());
        }
    }

    #[test]
    fn limits_are_the_same_for_whole_lines() {
        let start = "GET / HTTP/1.1\r\n";
        for (case, length, expected) in [("the limit", 0, true), ("one more", 1, false)] {
            let value = HEAD_LIMIT_BYTES - start.len() - "a:".len() + length;
            let head = format!("{start}a:{}\r\n\r\n", "b".repeat(value));
            let (mut reader, mut by_parts) = (HeadReader::default(), HeadReader::default());
            let expected =
                if expected { Ok(Some(head.len())) } else { Err(Refusal::FieldsTooLarge) };
            assert_eq!(reader.read(head.as_bytes()), expected, "case: {case}");
            assert_eq!(by_parts.read_parts(head.as_bytes()), expected, "case: {case}, by parts");
        }
    }

    #[test]
    fn a_head_is_read_in_its_parts() {
        let octets = b"\r\nGET /a?b HTTP/1.0\r\nHost:\t a b \r\nx:\r\n\r\nrest";
        let mut reader = HeadReader::default();
        assert_eq!(reader.read(octets), Ok(Some(octets.len() - 4)));
        let head = reader.head(octets);
        assert_eq!((head.method(), head.target()), (&b"GET"[..], &b"/a?b"[..]));
        assert_eq!(head.version(), Version::Http10);
        let fields: Vec<_> = head.fields().collect();
        assert_eq!(fields, [(&b"Host"[..], &b"a b"[..]), (b"x", b"")]);
    }

    #[test]
    fn a_head_ends_at_its_limits() {
        let long = |length| "a".repeat(length);
        for (case, head, expected) in [
            ("method", format!("{} / HTTP/1.1\r\n", long(33)), Refusal::MethodTooLong),
            ("target", format!("GET /{}", long(TARGET_LIMIT_BYTES)), Refusal::TargetTooLong),
            (
                "value",
                format!("GET / HTTP/1.1\r\na: {}", long(HEAD_LIMIT_BYTES)),
                Refusal::FieldsTooLarge,
            ),
            (
                "fields",
                format!("GET / HTTP/1.1\r\n{}", "a:b\r\n".repeat(FIELD_LIMIT + 1)),
                Refusal::FieldsTooLarge,
            ),
        ] {
            assert_eq!(HeadReader::default().read(head.as_bytes()), Err(expected), "case: {case}");
        }
    }
}
