//! Every case of HTTP/1 through real sockets and the real stack, before a backend that keeps each
//! octet it gets: alone on a connection that was used before, with a request behind it in the same
//! write, and with the client's side closed behind it; inbound and outbound.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::http::HttpVersion;
use crate::http::gate::corpus::harness::{Proxied, Way};
use crate::http::gate::corpus::recorder::{Recorder, Seen, read_all};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// On a connection that has served a good request.
    KeptAlive,
    /// With another request behind it.
    Pipelined,
    /// With nothing behind it, for ever.
    HalfClosed,
}

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const LEAK: &[u8] = b"GET /leak HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_octet_of_a_refused_request_reaches_a_backend() {
    let mut runs = Vec::new();
    for case in http1() {
        for way in Way::ALL {
            for manner in [Manner::KeptAlive, Manner::Pipelined, Manner::HalfClosed] {
                runs.push((case.clone(), way, manner));
            }
        }
    }
    let total = runs.len();
    let checks = runs.into_iter().map(|(case, way, manner)| async move {
        let what = format!("{} ({manner:?}, {way:?})", case.name);
        let checked = tokio::time::timeout(DEADLINE, check(&case, way, manner)).await;
        match checked {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(format!("{what}: {fault}")),
            Err(_elapsed) => Some(format!("{what}: not over after {DEADLINE:?}")),
        }
    });
    let faults: Vec<Option<String>> =
        futures_util::stream::iter(checks).buffer_unordered(CONCURRENT).collect().await;
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    println!("{total} runs of {} cases of HTTP/1, {} leaks or faults", total / 12, faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn check(case: &Case, way: Way, manner: Manner) -> Result<(), String> {
    let recorder = Recorder::new().await;
    let proxied = Proxied::new(way, HttpVersion::Http1, recorder.address());
    let mut client = proxied.connect().await;
    let mut expected = Vec::new();
    if manner == Manner::KeptAlive {
        client.write_all(GOOD).await.map_err(|error| error.to_string())?;
        let answer = read_answer(&mut client).await;
        ensure(answer.starts_with(b"HTTP/1.1 200"), "the good request failed", &answer)?;
        expected.push(only(GOOD));
    }
    let answers = send(&mut client, case, manner).await;
    drop(client);
    proxied.end().await;
    let (seen, rest) = read_all(&recorder.end().await);
    judge(case, manner, &answers)?;
    let is_old = case.send.windows(8).any(|window| window == b"HTTP/1.0");
    let passes = matches!(case.expect, Expect::Pass | Expect::Tunnel);
    if passes {
        expected.push(only(&case.canonical));
        if manner == Manner::Pipelined && case.expect == Expect::Pass && !is_old {
            expected.push(only(LEAK));
        }
    }
    // A client that closes its side may be held to be gone.
    let may_be_missing = manner == Manner::HalfClosed && passes && seen.is_empty();
    if seen != expected && !may_be_missing {
        return Err(format!("the backend saw {seen:?}, and not {expected:?}"));
    }
    let is_beginning = matches!(case.expect, Expect::Break(..)) || may_be_missing;
    let leaked = rest.windows(5).any(|window| window == b"/leak");
    ensure((rest.is_empty() || is_beginning) && !leaked, "the backend saw also", &rest)
}

fn only(octets: &[u8]) -> Seen {
    let (mut seen, rest) = read_all(octets);
    assert!(seen.len() == 1 && rest.is_empty(), "{seen:?}");
    seen.remove(0)
}

/// Sends it; what came back, to the end of the connection if it is to end, or as many answers as
/// there are requests.
async fn send(client: &mut TcpStream, case: &Case, manner: Manner) -> Vec<u8> {
    let behind: &[u8] = if manner == Manner::Pipelined { LEAK } else { b"" };
    // The proxy may have closed the connection already.
    let _ = client.write_all(&[&case.send[..], behind].concat()).await;
    if manner == Manner::HalfClosed {
        let _ = client.shutdown().await;
    }
    let mut answers = Vec::new();
    if manner != Manner::Pipelined && matches!(case.expect, Expect::Pass | Expect::Tunnel) {
        answers.extend(read_answer(client).await);
    } else if manner == Manner::Pipelined && case.expect == Expect::Pass {
        answers.extend(read_answer(client).await);
        answers.extend(read_answer(client).await);
    } else {
        let _ = client.read_to_end(&mut answers).await;
    }
    answers
}

fn judge(case: &Case, manner: Manner, answers: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answers);
    let count = text.matches("\r\ndate: ").count();
    match &case.expect {
        Expect::Refuse(status, _rule) | Expect::Break(status, _rule) => {
            ensure(count == 1, "not one answer", answers)?;
            let is_told = text.get(9..12) == Some(status.to_string().as_str());
            let has_reason = text.contains("x-heddle-error: ");
            let is_last = text.contains("connection: close");
            ensure(is_told && has_reason && is_last, "not told as it should be", answers)
        }
        Expect::Tunnel if manner == Manner::Pipelined => {
            ensure(count == 1 && text.contains(" 400 "), "early octets not refused", answers)
        }
        Expect::Pass | Expect::Tunnel if manner == Manner::HalfClosed => Ok(()),
        Expect::Tunnel => ensure(text.contains(" 101 ") || text.contains(" 200 "), "no", answers),
        Expect::Pass => {
            let expected = if manner == Manner::Pipelined { 2 } else { 1 };
            let is_old = case.send.windows(8).any(|window| window == b"HTTP/1.0");
            let good = text.matches(" 200 OK").count();
            ensure(good == expected || is_old && good == 1, "not answered", answers)
        }
    }
}

fn ensure(holds: bool, what: &str, octets: &[u8]) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{what}: {}", octets.escape_ascii())) }
}

/// One answer of the recorder or the proxy, with its body; nothing if the connection ends.
async fn read_answer(client: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    loop {
        let (seen, _) = read_all(&answer);
        if seen.iter().any(|answer| !answer.is_interim()) {
            return answer;
        }
        match client.read_u8().await {
            Ok(octet) => answer.push(octet),
            Err(_ended) => return answer,
        }
    }
}

#[tokio::test]
async fn a_client_that_is_still_sending_gets_to_read_why_it_was_refused() {
    let recorder = Recorder::new().await;
    let proxied = Proxied::new(Way::Outbound, HttpVersion::Http1, recorder.address());
    for bad in [&b"GET /a HTTP/1.1\nHost: a\r\n\r\n"[..], b"GET /a HTTP/1.1\r\n\r\n"] {
        let mut client = proxied.connect().await;
        let much = [bad, &[b'a'; 900_000]].concat();
        client.write_all(&much).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        ensure(answer.starts_with(b"HTTP/1.1 400"), "not told", &answer).unwrap();
    }
}

const DEADLINE: Duration = Duration::from_secs(20);
const CONCURRENT: usize = 16;
