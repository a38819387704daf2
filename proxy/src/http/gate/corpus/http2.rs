//! Every case of HTTP/2 as frames written by hand, through real sockets and the real stack: after a
//! good request, with a good one behind it in the same write, and with the client's side closed
//! behind it; inbound and outbound.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::http::HttpVersion;
use crate::http::gate::corpus::harness::{Proxied, Way};
use crate::http::gate::corpus::server::{Request, Server};

#[derive(Clone, Debug)]
struct Case {
    name: String,
    fields: Fields,
    body: Option<Vec<u8>>,
    trailers: Fields,
    expect: Expect,
    sees: Option<Request>,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Pass,
    Refuse(u16),
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// On a connection that has served a good request.
    KeptAlive,
    /// With a good request behind it, on another stream.
    Pipelined,
    /// With nothing behind it, for ever.
    HalfClosed,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered(u16),
    Reset,
    /// With everything else.
    Closed,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../../../tests/corpus/gate/http2.cases");
    blocks(text).into_iter().map(|(name, lines)| case(name, &lines)).collect()
}

fn case(name: String, lines: &[(String, String)]) -> Case {
    assert!(value(lines, "rule").is_some(), "{name} has no rule");
    let fields = |key: &str| -> Fields {
        let lines = lines.iter().filter(|(found, _)| found == key);
        let split = lines.map(|(_, line)| line.split_once(' ').expect(line));
        split.map(|(name, value)| (unescape(name), unescape(value))).collect()
    };
    let words: Vec<&str> = value(lines, "expect").expect(&name).split(' ').collect();
    let expect = match words.as_slice() {
        ["pass"] => Expect::Pass,
        ["reset"] => Expect::Reset,
        ["refuse", status] => Expect::Refuse(status.parse().unwrap()),
        other => panic!("{name} expects {other:?}"),
    };
    let body = value(lines, "body").map(unescape);
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let sees = value(lines, "sees").map(|line| Request {
        line: line.to_owned(),
        fields: fields("with").iter().map(|(name, value)| (text(name), text(value))).collect(),
        body: text(body.as_deref().unwrap_or_default()),
    });
    assert_eq!(sees.is_some(), expect == Expect::Pass, "case: {name}");
    Case { name, fields: fields("h"), body, trailers: fields("t"), expect, sees }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refused_request_reaches_a_backend() {
    let mut runs = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 48, "{}", cases.len());
    for case in cases {
        for way in Way::ALL {
            for manner in [Manner::KeptAlive, Manner::Pipelined, Manner::HalfClosed] {
                runs.push((case.clone(), way, manner));
            }
        }
    }
    let total = runs.len();
    let checks = runs.into_iter().map(|(case, way, manner)| async move {
        let what = format!("{} ({manner:?}, {way:?})", case.name);
        match tokio::time::timeout(DEADLINE, check(&case, way, manner)).await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(format!("{what}: {fault}")),
            Err(_elapsed) => Some(format!("{what}: not over after {DEADLINE:?}")),
        }
    });
    let faults: Vec<Option<String>> =
        futures_util::stream::iter(checks).buffer_unordered(CONCURRENT).collect().await;
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    println!("{total} runs of {} cases of HTTP/2, {} leaks or faults", total / 12, faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn check(case: &Case, way: Way, manner: Manner) -> Result<(), String> {
    let server = Server::new().await;
    let proxied = Proxied::new(way, HttpVersion::Http2, server.address());
    let mut client = proxied.connect().await;
    let mut write = PREFACE.to_vec();
    frame(&mut write, SETTINGS, 0, 0, b"");
    let mut streams = Vec::new();
    if manner == Manner::KeptAlive {
        good(&mut write, 1, b"/good");
        client.write_all(&write).await.map_err(|error| error.to_string())?;
        write.clear();
        streams.push(outcome(&mut client, 1).await);
    }
    request(&mut write, 3, case);
    if manner == Manner::Pipelined {
        good(&mut write, 5, b"/after");
    }
    let _ = client.write_all(&write).await;
    if manner == Manner::HalfClosed {
        let _ = client.shutdown().await;
    }
    let found = outcome(&mut client, 3).await;
    // The one behind is over when it is answered, or all is.
    let after = if manner == Manner::Pipelined {
        Some(server.saw("/after", &mut client).await)
    } else {
        None
    };
    drop(client);
    proxied.end().await;
    let seen = server.end().await;
    let is_as_expected = match (case.expect, found) {
        (Expect::Pass, Outcome::Answered(200)) => true,
        (Expect::Refuse(expected), Outcome::Answered(status)) => expected == status,
        (Expect::Reset, Outcome::Reset | Outcome::Closed) => true,
        // Whose side is closed may be held to be gone.
        (_, Outcome::Closed) => manner == Manner::HalfClosed,
        _ => false,
    };
    if !is_as_expected {
        return Err(format!("{found:?}, and not {:?}", case.expect));
    }
    let may_be_missing = manner == Manner::HalfClosed || found == Outcome::Closed;
    let is_expected = |request: &Request| {
        Some(request) == case.sees.as_ref()
            || request.line == "GET http://a/good"
            || request.line == "GET http://a/after"
    };
    if let Some(other) = seen.iter().find(|request| !is_expected(request)) {
        return Err(format!("the backend saw {other:?}, and not {:?}", case.sees));
    }
    let count = seen.iter().filter(|request| Some(*request) == case.sees.as_ref()).count();
    let expected = usize::from(case.expect == Expect::Pass);
    if count != expected && !(may_be_missing && count == 0) {
        return Err(format!("the backend saw it {count} times"));
    }
    if after == Some(false) && found != Outcome::Closed {
        return Err("the good request behind it was not served".to_owned());
    }
    Ok(())
}

fn good(write: &mut Vec<u8>, stream: u32, path: &[u8]) {
    let field = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    let fields = [
        field(b":method", b"GET"),
        field(b":scheme", b"http"),
        field(b":authority", b"a"),
        field(b":path", path),
    ];
    frame(write, HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields));
}

fn request(write: &mut Vec<u8>, stream: u32, case: &Case) {
    let end = if case.body.is_none() { END_STREAM } else { 0 };
    frame(write, HEADERS, END_HEADERS | end, stream, &block(&case.fields));
    if let Some(body) = &case.body {
        let end = if case.trailers.is_empty() { END_STREAM } else { 0 };
        frame(write, DATA, end, stream, body);
    }
    if !case.trailers.is_empty() {
        frame(write, HEADERS, END_HEADERS | END_STREAM, stream, &block(&case.trailers));
    }
}

/// RFC 7541, section 6.2.2: literals that are not indexed, and not compressed.
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer than one octet tells");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
    }
    block
}

fn frame(write: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    write.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    write.extend_from_slice(&[kind, flags]);
    write.extend_from_slice(&stream.to_be_bytes());
    write.extend_from_slice(payload);
}

/// Reads frames until it is known what becomes of a stream.
async fn outcome(client: &mut TcpStream, wanted: u32) -> Outcome {
    loop {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            return Outcome::Closed;
        }
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        if client.read_exact(&mut payload).await.is_err() {
            return Outcome::Closed;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], stream) {
            (HEADERS, stream) if stream == wanted => return Outcome::Answered(status(&payload)),
            (RESET, stream) if stream == wanted => return Outcome::Reset,
            (GO_AWAY, _) if payload[4..8] != [0; 4] => return Outcome::Closed,
            _ => {}
        }
    }
}

/// The status that a block begins with: from the table, or compressed and perhaps indexed since.
fn status(block: &[u8]) -> u16 {
    match block {
        // RFC 7541, section 6.3: first it may be said that no table is used.
        [0x20, rest @ ..] => status(rest),
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8e, ..] => 500,
        _ => [417, 501, 502, 503]
            .into_iter()
            .find(|status| {
                let code = compressed(*status);
                block.get(1).is_some_and(|length| usize::from(length & 0x7f) == code.len())
                    && block[2..].starts_with(&code)
            })
            .unwrap_or(0),
    }
}

/// Three digits in the code of RFC 7541, appendix B.
fn compressed(status: u16) -> Vec<u8> {
    let mut bits = String::new();
    for digit in status.to_string().bytes().map(|digit| digit - b'0') {
        match digit {
            0..=2 => bits.push_str(&format!("{digit:05b}")),
            _ => bits.push_str(&format!("{:06b}", 0b01_1001 + digit - 3)),
        }
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let octets = bits.as_bytes().chunks(8).map(|octet| std::str::from_utf8(octet).unwrap());
    octets.map(|octet| u8::from_str_radix(octet, 2).unwrap()).collect()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const DEADLINE: Duration = Duration::from_secs(20);
const CONCURRENT: usize = 16;
