//! Reads the head of an HTTP/1 request octet by octet, in pieces of any size, and takes nothing but
//! the strict grammar of RFC 9112. What the head means is for request.rs.

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
    fields: Vec<(Span, Span)>,
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
    /// Reads on. `octets` is all there is since the head's beginning; they are not looked at twice.
    ///
    /// The length of the head when it is there, `None` while it needs more.
    pub fn read(&mut self, octets: &[u8]) -> Result<Option<usize>, Refusal> {
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

    /// Begins anew, with fields only: the trailers of a body.
    pub(super) fn reset_to_trailers(&mut self) {
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
        let next = self.run(rest, octets::is_token);
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
        let next = self.run(rest, octets::is_visible);
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
        let next = self.run(rest, octets::is_token);
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
        let next = self.run(rest, octets::is_value);
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
                self.fields.push((self.name, self.span().trimmed(octets)));
                self.skip(2, State::FieldStart)
            }
            [_, _, ..] => Err(Refusal::BareCarriageReturn),
        }
    }

    /// Passes over the octets of one kind; the one that is not.
    fn run(&mut self, rest: &[u8], passes: fn(u8) -> bool) -> Option<u8> {
        let length = rest.iter().position(|octet| !passes(*octet));
        self.position += length.unwrap_or(rest.len());
        length.and_then(|length| rest.get(length)).copied()
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
        let octets = self.octets;
        self.reader.fields.iter().map(move |(name, value)| (name.of(octets), value.of(octets)))
    }
}

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
    use super::*;

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
