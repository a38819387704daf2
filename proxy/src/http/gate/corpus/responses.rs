//! What a backend may answer: an answer that could be read in two ways, or is cut short, is an error
//! at the client and never a body that looks whole.

use std::net::SocketAddr;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::reset_on_close;
use crate::http::HttpVersion;
use crate::http::gate::corpus::harness::{Proxied, Way};
use crate::testing::{Client, listen, loopback};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The backend closes its connection after that.
    Closes,
    /// It resets it.
    Resets,
    /// It waits.
    Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The body arrives, whole.
    Whole(&'static str),
    /// The proxy answers in its place.
    Told(&'static str),
    /// The client's connection breaks.
    Breaks,
}

use End::{Closes, Resets, Waits};
use Expect::{Breaks, Told, Whole};

const CASES: [(&str, &[u8], End, Expect); 30] = [
    ("a length", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Waits, Whole("ok")),
    (
        "chunks",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
        Whole("ok"),
    ),
    (
        "a length that is named",
        b"HTTP/1.1 200 OK\r\nconnection: content-length\r\ncontent-length: 2\r\n\r\nok",
        Waits,
        Whole("ok"),
    ),
    (
        "padded chunks",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0002  \r\nok\r\n0\r\n\r\n",
        Waits,
        Whole("ok"),
    ),
    ("no status", b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok", Waits, Told("backend_lost")),
    ("up to the end", b"HTTP/1.1 200 OK\r\n\r\nok", Closes, Whole("ok")),
    ("an old server", b"HTTP/1.0 200 OK\r\n\r\nok", Closes, Whole("ok")),
    ("a lone LF", b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", Waits, Whole("ok")),
    ("no content", b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok", Waits, Whole("")),
    (
        "a length and chunks",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
        Told("bad_response"),
    ),
    (
        "chunks and a length",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
        Told("bad_response"),
    ),
    (
        "two lengths",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 1\r\n\r\nok",
        Waits,
        Told("backend_lost"),
    ),
    (
        "one length twice",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        Waits,
        Told("bad_response"),
    ),
    ("a list", b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", Waits, Told("bad_response")),
    ("a sign", b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", Waits, Told("backend_lost")),
    (
        "another coding",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
        Told("bad_response"),
    ),
    (
        "a coding that is none",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
        Closes,
        Told("bad_response"),
    ),
    (
        "a coding of an old server",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Closes,
        Told("backend_lost"),
    ),
    (
        "an upgrade that nobody asked for",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        Waits,
        Told("bad_response"),
    ),
    ("no head", b"", Closes, Told("backend_lost")),
    ("half a head", b"HTTP/1.1 200 OK\r\ncontent-le", Closes, Told("backend_lost")),
    ("no HTTP", b"220 hello\r\n\r\n", Waits, Told("backend_lost")),
    (
        "a NUL",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
        Waits,
        Told("backend_lost"),
    ),
    (
        "a folded line",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        Waits,
        Told("backend_lost"),
    ),
    ("cut short", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Closes, Breaks),
    ("reset", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Resets, Breaks),
    (
        "without the last chunk",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        Closes,
        Breaks,
    ),
    ("reset without a length", b"HTTP/1.1 200 OK\r\n\r\nok", Resets, Breaks),
    (
        "a chunk without a size",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nx\r\nok\r\n0\r\n\r\n",
        Waits,
        Breaks,
    ),
    (
        "a chunk longer than its size",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
        Waits,
        Breaks,
    ),
];

async fn backend(answer: &'static [u8], end: End) -> SocketAddr {
    listen(loopback(), move |mut stream, _number| async move {
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(answer).await;
        match end {
            End::Closes => {}
            End::Resets => {
                // What was written is destroyed, unless it is read before.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                reset_on_close(&stream);
            }
            End::Waits => while stream.read(&mut head).await.unwrap_or(0) > 0 {},
        }
    })
    .await
}

#[tokio::test]
async fn what_a_backend_cuts_short_is_never_taken_for_whole() {
    for (case, answer, end, expect) in CASES {
        for way in Way::ALL {
            let proxied = Proxied::new(way, HttpVersion::Http1, backend(answer, end).await);
            let mut client = Client::new(proxied.connect().await).await;
            let got = client.send(Request::get("/")).await;
            let got = got.map(|answer| {
                let reason = answer.headers.get("x-heddle-error");
                let reason = reason.map(|reason| reason.to_str().unwrap().to_owned());
                (answer.status, reason, answer.text)
            });
            match (expect, got) {
                (Whole(expected), Ok((200 | 204, None, text))) => {
                    assert_eq!(text, expected, "case: {case} ({way:?})");
                }
                (Told(expected), Ok((502, Some(reason), _text))) => {
                    assert_eq!(reason, expected, "case: {case} ({way:?})");
                }
                (Breaks, Err(_broken)) => {}
                // The head of the answer was destroyed too, before it was read.
                (Breaks, Ok((502, Some(reason), _text))) if end == Resets => {
                    assert_eq!(reason, "backend_lost", "case: {case} ({way:?})");
                }
                (expect, got) => panic!("case: {case} ({way:?}): {got:?}, and not {expect:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_no_answer_to_the_next_request() {
    const SPLIT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let backend = backend(SPLIT, End::Waits).await;
    for way in Way::ALL {
        let proxied = Proxied::new(way, HttpVersion::Http1, backend);
        let mut client = Client::new(proxied.connect().await).await;
        for _request in 0..3 {
            let answer = client.get("/").await.unwrap();
            assert!(answer.status != 200 || answer.text == "ok", "{}", answer.text);
        }
    }
}
