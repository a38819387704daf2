//! The cases of `tests/corpus/gate/`, read, and sent through real sockets.

mod harness;
mod http1;
mod http2;
mod recorder;
mod responses;
mod server;
mod tunnels;

/// A case of HTTP/1.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) send: Vec<u8>,
    pub(super) expect: Expect,
    /// The canonical form, if it passes.
    pub(super) canonical: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Pass,
    Tunnel,
    /// Nothing of it reaches a backend.
    Refuse(u16, String),
    /// A backend gets no end of it.
    Break(u16, String),
}

/// The blocks of a file: a name, and lines of keys and values.
pub(super) fn blocks(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut blocks: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            blocks.push((name.strip_suffix(']').expect(line).to_owned(), Vec::new()));
        } else {
            let (key, value) = line.split_once(": ").expect(line);
            blocks.last_mut().expect(line).1.push((key.to_owned(), value.to_owned()));
        }
    }
    blocks
}

/// `\r \n \t \\ \xNN`.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(if octet != b'\\' {
            octet
        } else {
            match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
                    u8::try_from(digit() * 16 + digit()).unwrap()
                }
                other => panic!("{other:?} is escaped in {text}"),
            }
        });
    }
    octets
}

pub(super) fn value<'a>(lines: &'a [(String, String)], key: &str) -> Option<&'a str> {
    lines.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
}

/// All of HTTP/1.
pub(super) fn http1() -> Vec<Case> {
    let text = include_str!("../../../../tests/corpus/gate/http1.cases");
    let cases = blocks(text).into_iter().map(|(name, lines)| {
        assert!(value(&lines, "rule").is_some(), "{name} has no rule");
        let send = unescape(value(&lines, "send").expect(&name));
        let words: Vec<&str> = value(&lines, "expect").expect(&name).split(' ').collect();
        let expect = match words.as_slice() {
            ["pass"] => Expect::Pass,
            ["tunnel"] => Expect::Tunnel,
            ["refuse", status, rule] => Expect::Refuse(status.parse().unwrap(), (*rule).to_owned()),
            ["break", status, rule] => Expect::Break(status.parse().unwrap(), (*rule).to_owned()),
            other => panic!("{name} expects {other:?}"),
        };
        let canonical = value(&lines, "as").map_or_else(|| send.clone(), unescape);
        Case { name, send, expect, canonical }
    });
    cases.collect()
}
