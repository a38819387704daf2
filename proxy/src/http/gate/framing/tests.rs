//! The corpus, octet by octet, and properties of whatever else might come.

use proptest::prelude::*;

use super::*;
use crate::http::gate::corpus::{self, Expect};

/// Everything that a connection's octets come to, fed in pieces of these lengths.
fn read(input: &[u8], pieces: &[usize]) -> (Vec<u8>, Result<Phase, Refusal>, u64) {
    let mut framer = Framer::new();
    let mut output = Vec::new();
    let mut unread: Vec<u8> = Vec::new();
    let mut rest = input;
    let mut pieces = pieces.iter().copied().cycle();
    loop {
        loop {
            match framer.read(&unread, &mut output) {
                Ok(0) => break,
                Ok(used) => drop(unread.drain(..used)),
                Err(refusal) => return (output, Err(refusal), framer.heads()),
            }
        }
        if rest.is_empty() {
            return (output, Ok(framer.phase(unread.len())), framer.heads());
        }
        let length = pieces.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (piece, after) = rest.split_at(length);
        // Sometimes as io.rs does it with bodies.
        let passable = usize::try_from(framer.passable()).unwrap_or(usize::MAX);
        if unread.is_empty() && passable >= piece.len() && length % 2 == 0 {
            output.extend_from_slice(piece);
            framer.pass(piece.len());
        } else {
            unread.extend_from_slice(piece);
        }
        rest = after;
    }
}

#[test]
fn every_case_of_the_corpus_is_decided_as_it_says() {
    let cases = corpus::http1();
    assert!(cases.len() >= 89, "{}", cases.len());
    for case in &cases {
        for pieces in [&[usize::MAX][..], &[1], &[3, 2, 7]] {
            let name = &case.name;
            let (output, end, _heads) = read(&case.send, pieces);
            match &case.expect {
                Expect::Pass => assert_eq!(end, Ok(Phase::Between), "case: {name}"),
                Expect::Tunnel => assert_eq!(end, Ok(Phase::Asked), "case: {name}"),
                Expect::Refuse(status, rule) | Expect::Break(status, rule) => {
                    let refusal = end.expect_err(name);
                    assert_eq!(refusal.rule(), rule, "case: {name}");
                    assert_eq!(refusal.status().as_u16(), *status, "case: {name}");
                }
            }
            match &case.expect {
                Expect::Pass | Expect::Tunnel => {
                    let (output, expected) = (text(&output), text(&case.canonical));
                    assert_eq!(output, expected, "case: {name}");
                }
                Expect::Refuse(..) => assert_eq!(text(&output), "", "case: {name}"),
                Expect::Break(..) => assert!(!output.is_empty(), "case: {name}"),
            }
        }
    }
}

fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// Octets that come far into the grammar, and then go wrong.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let cases: Vec<Vec<u8>> = corpus::http1().into_iter().map(|case| case.send).collect();
    let case = proptest::sample::select(cases);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(case.clone(), 1..4).prop_map(|cases| cases.concat()),
        (case, any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut case, at, octet)| {
            let at = at.index(case.len());
            case[at] = octet;
            case
        }),
        "(GET|POST) /[a-z#\\\\]{0,3} HTTP/1.[01]\r\n(Host|Transfer-Encoding|Content-Length|X)[: ]{1,2}[a-z0-9, ]{0,8}\r\n(Host: a\r\n)?\r\n{1,2}[0-9a-f]{0,2}(\r\n){0,2}[a-z]{0,8}"
            .prop_map(String::into_bytes),
    ]
}

/// A head with fields that stay and fields that do not, side by side.
fn motley() -> impl Strategy<Value = Vec<u8>> {
    let fields = proptest::sample::select(vec![
        "Accept: */*\r\n",
        "x:1\r\n",
        "x-a:  2 \r\n",
        "Connection: keep-alive\r\n",
        "Keep-Alive: 5\r\n",
        "X-Heddle-A: forged\r\n",
        "te: trailers\r\n",
        "Upgrade: b\r\n",
        "Connection: upgrade\r\n",
        "empty:\r\n",
        "empty: \r\n",
    ]);
    let fields = || proptest::collection::vec(fields.clone(), 0..4);
    let line = proptest::sample::select(vec!["GET /a?b", "PUT http://b/c", "OPTIONS http://b"]);
    let body = proptest::sample::select(vec![
        "",
        "Content-Length: 10\r\n",
        "content-length: 007\r\n",
        "content-length:0\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Expect: 100-Continue\r\ncontent-length: 1\r\n",
    ]);
    let host = proptest::sample::select(vec!["Host: a\r\n", "host:b\r\n", "HOST: b\r\n"]);
    (line, fields(), host, fields(), body, fields()).prop_map(
        |(line, one, host, two, body, three)| {
            let parts =
                [one.concat(), host.to_owned(), two.concat(), body.to_owned(), three.concat()];
            format!("{line} HTTP/1.1\r\n{}\r\n", parts.concat()).into_bytes()
        },
    )
}

/// One field after the other.
fn write_slowly(
    head: &Head<'_>,
    meaning: &Meaning<'_>,
    is_left_out: impl Fn(&Field<'_>) -> bool,
) -> Vec<u8> {
    let target = if meaning.path.is_empty() { meaning.host.unwrap() } else { meaning.path };
    let version =
        if head.version() == head::Version::Http10 { "HTTP/1.0\r\n" } else { "HTTP/1.1\r\n" };
    let mut output = [head.method(), target, version.as_bytes()].join(&b' ');
    let mut host = meaning.host;
    for field in head.lines().filter(|field| !is_left_out(field)) {
        write_field(&mut output, &field, meaning, &mut host);
    }
    if let Some(host) = host {
        fields::write(&mut output, b"host", host);
    }
    output
}

proptest! {
    #[test]
    fn lines_are_written_together_as_they_are_one_by_one(
        input in prop_oneof![plausible(), motley()],
        left_out in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let mut reader = HeadReader::default();
        if let Ok(Some(length)) = reader.read(&input) {
            let head = reader.head(&input[..length]);
            if let Ok(meaning) = understand(&head) {
                // A host that is left out is written at the end.
                let is_left_out = |field: &Field<'_>| {
                    left_out.get(field.line.start % 23).copied().unwrap_or(false)
                };
                let mut output = Vec::new();
                write_lines(&head, &meaning, is_left_out, &mut output);
                prop_assert_eq!(text(&output), text(&write_slowly(&head, &meaning, is_left_out)));
            }
        }
    }

    #[test]
    fn how_the_octets_are_cut_makes_no_difference(
        input in plausible(),
        pieces in proptest::collection::vec(1_usize..40, 1..8),
    ) {
        prop_assert_eq!(read(&input, &[usize::MAX]), read(&input, &pieces));
    }

    #[test]
    fn more_octets_never_change_what_was_said(input in plausible(), more in plausible()) {
        let (before, verdict, heads) = read(&input, &[usize::MAX]);
        let (after, later, heads_later) = read(&[&input[..], &more[..]].concat(), &[usize::MAX]);
        prop_assert!(after.starts_with(&before), "{} then {}", text(&before), text(&after));
        prop_assert!(heads_later >= heads);
        if verdict.is_err() {
            prop_assert_eq!((verdict, heads, before), (later, heads_later, after));
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same(input in plausible()) {
        let (once, verdict, heads) = read(&input, &[usize::MAX]);
        let (twice, again, heads_again) = read(&once, &[usize::MAX]);
        prop_assert_eq!(text(&once), text(&twice));
        prop_assert_eq!(heads, heads_again);
        // What was written of a request that broke later is the beginning of it.
        prop_assert!(again.is_ok(), "{verdict:?} then {again:?}: {}", text(&once));
    }

    #[test]
    fn hyper_s_parser_takes_every_head_that_passes(input in plausible()) {
        let (output, _verdict, heads) = read(&input, &[usize::MAX]);
        if heads > 0 {
            let uri = output.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
            prop_assert!(http::Uri::try_from(uri).is_ok(), "{}", text(uri));
        }
    }
}
