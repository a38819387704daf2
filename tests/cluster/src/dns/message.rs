//! Questions and answers as bytes. Source: RFC 1035, section 4; RFC 2782 for service records.

use std::net::IpAddr;

use super::records::Outcome;

/// A question that was understood, with what its answer must repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    id: u16,
    recursion_desired: bool,
    /// The question as it came.
    raw_question: Vec<u8>,
    /// The same, as meant.
    pub question: Question,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A name, without the dot at its end.
    pub name: String,
    /// Of which records.
    pub kind: Kind,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A
    Ipv4,
    /// AAAA
    Ipv6,
    /// SRV
    Service,
    /// One that this server has none of.
    Other(u16),
}

/// A record, of the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA
    Address(IpAddr),
    /// CNAME
    Name(String),
    /// SRV
    Service {
        /// The port,
        port: u16,
        /// at this name.
        target: String,
    },
}

impl Record {
    /// Of the name that was asked for.
    pub fn new(data: Data) -> Self {
        Self { data }
    }
}

impl Message {
    /// None for what is no query with one question.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let flags = word(2)?;
        let is_query = flags & (RESPONSE | OPERATION) == 0;
        if !is_query || word(4)? != 1 {
            return None;
        }
        let (name, end) = parse_name(bytes, HEADER_BYTES)?;
        let kind = match word(end)? {
            1 => Kind::Ipv4,
            28 => Kind::Ipv6,
            33 => Kind::Service,
            other => Kind::Other(other),
        };
        let raw_question = bytes.get(HEADER_BYTES..end + 4)?.to_vec();
        let recursion_desired = flags & RECURSION_DESIRED != 0;
        Some(Self {
            id: word(0)?,
            recursion_desired,
            raw_question,
            question: Question { name, kind },
        })
    }

    /// The bytes of an answer. One that is too long says so instead of its records: it is asked for over TCP then.
    pub fn answer(&self, outcome: &Outcome, limit_bytes: usize) -> Vec<u8> {
        let (code, records) = match outcome {
            Outcome::Records(records) => (NO_ERROR, records.as_slice()),
            Outcome::NoSuchName => (NO_SUCH_NAME, [].as_slice()),
        };
        let answer = self.write(code, records);
        if answer.len() <= limit_bytes {
            return answer;
        }
        self.write(TRUNCATED, &[])
    }

    fn write(&self, flags: u16, records: &[Record]) -> Vec<u8> {
        let desired = if self.recursion_desired { RECURSION_DESIRED } else { 0 };
        let flags = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | desired | flags;
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::new();
        for word in [self.id, flags, 1, count, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.raw_question);
        for record in records {
            let (kind, data) = record.data.to_bytes();
            for word in [NAME_OF_QUESTION, kind, INTERNET] {
                bytes.extend(word.to_be_bytes());
            }
            bytes.extend(LIFETIME_SECONDS.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }
}

impl Data {
    fn to_bytes(&self) -> (u16, Vec<u8>) {
        match self {
            Self::Address(IpAddr::V4(address)) => (1, address.octets().to_vec()),
            Self::Address(IpAddr::V6(address)) => (28, address.octets().to_vec()),
            Self::Name(name) => (5, write_name(name)),
            Self::Service { port, target } => {
                let mut bytes = Vec::new();
                // All of one priority and weight: there is nothing to prefer.
                for word in [0, 1, *port] {
                    bytes.extend(word.to_be_bytes());
                }
                bytes.extend(write_name(target));
                (33, bytes)
            }
        }
    }
}

/// A name of labels, and where it ends. In the only question of a message there is nothing to point back to.
fn parse_name(bytes: &[u8], from: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = from;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        if length > LABEL_LIMIT_BYTES || at + length > from + NAME_LIMIT_BYTES {
            return None;
        }
        labels.push(std::str::from_utf8(bytes.get(at..at + length)?).ok()?);
        at += length;
    }
}

fn write_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes();
        // Longer ones are no names, and Kubernetes has none.
        let label = label.get(..LABEL_LIMIT_BYTES).unwrap_or(label);
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// What an answer over UDP may have, to those who do not say that it may have more.
pub const UDP_LIMIT_BYTES: usize = 512;
const HEADER_BYTES: usize = 12;
const LABEL_LIMIT_BYTES: usize = 63;
const NAME_LIMIT_BYTES: usize = 255;
const RESPONSE: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const NO_ERROR: u16 = 0;
const NO_SUCH_NAME: u16 = 3;
const NAME_OF_QUESTION: u16 = 0xc00c;
const INTERNET: u16 = 1;
/// As CoreDNS has it by default for Kubernetes.
const LIFETIME_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(write_name(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn a_question_is_understood() {
        let message = Message::parse(&query("api.shop.svc.cluster.local", 28)).unwrap();
        let name = "api.shop.svc.cluster.local".to_owned();
        assert_eq!(message.question, Question { name, kind: Kind::Ipv6 });
    }

    #[test]
    fn what_is_no_question_is_left_unanswered() {
        let good = query("api", 1);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let cases = [
            ("nothing", Vec::new()),
            ("a part", good[..good.len() - 1].to_vec()),
            ("an answer", with(2, 0x81)),
            ("an update", with(2, 0x29)),
            ("two questions", with(5, 2)),
            ("a pointer for a name", with(12, 0xc0)),
            ("a label beyond the end", with(12, 40)),
        ];
        for (case, bytes) in cases {
            assert_eq!(Message::parse(&bytes), None, "case: {case}");
        }
    }

    #[test]
    fn an_answer_repeats_the_question_and_has_the_records() {
        let bytes = query("a.b", 1);
        let message = Message::parse(&bytes).unwrap();
        let records = vec![Record::new(Data::Address([10, 0, 0, 1].into()))];
        let answer = message.answer(&Outcome::Records(records), UDP_LIMIT_BYTES);
        assert_eq!(answer[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[12..bytes.len()], bytes[12..]);
        assert_eq!(answer[bytes.len()..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 1]);
        let none = message.answer(&Outcome::NoSuchName, UDP_LIMIT_BYTES);
        assert_eq!(none[2..4], [0x85, 0x83]);
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let message = Message::parse(&query("a.b", 1)).unwrap();
        let record = Record::new(Data::Address([10, 0, 0, 1].into()));
        let answer = message.answer(&Outcome::Records(vec![record; 40]), UDP_LIMIT_BYTES);
        assert_eq!((answer[2] & 2, answer[7]), (2, 0));
    }
}
