//! A backend that keeps every octet it gets, and a reader of requests that shares nothing with the
//! proxy: it knows of good ones only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::testing::{listen, loopback};

/// Answers every request that it sees, and agrees to every tunnel.
pub(super) struct Recorder {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: usize,
    /// What came, by connection, in the order of their beginning.
    connections: Vec<Vec<u8>>,
}

/// A message as its reader understands it, without what is for one hop only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    line: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Seen {
    /// An answer that another will follow.
    pub(super) fn is_interim(&self) -> bool {
        self.line.starts_with("HTTP/1.1 100 ")
    }
}

impl Recorder {
    pub(super) async fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let recording = Arc::clone(&state);
        let address = listen(loopback(), move |stream, _number| {
            let state = Arc::clone(&recording);
            let number = {
                let mut state = state.lock();
                state.open += 1;
                state.connections.push(Vec::new());
                state.connections.len() - 1
            };
            async move {
                record(stream, number, &state).await;
                state.lock().open -= 1;
            }
        })
        .await;
        Self { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that came, once nothing can come any more.
    pub(super) async fn end(&self) -> Vec<u8> {
        while self.state.lock().open > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.state.lock().connections.concat()
    }
}

async fn record(mut stream: TcpStream, number: usize, state: &Mutex<State>) {
    let mut answered = 0;
    let mut buffer = vec![0; 4096];
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let all = {
            let mut state = state.lock();
            state.connections[number].extend_from_slice(&buffer[..length]);
            state.connections[number].clone()
        };
        let (seen, _rest) = read_all(&all);
        for request in &seen[answered..] {
            let answer: &[u8] = if request.line.starts_with("CONNECT") {
                b"HTTP/1.1 200 OK\r\n\r\n"
            } else if request.fields.iter().any(|(name, _value)| name == "upgrade") {
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        answered = seen.len();
    }
}

/// The messages that are there to their ends, and what is left.
pub(super) fn read_all(octets: &[u8]) -> (Vec<Seen>, Vec<u8>) {
    let mut rest = octets;
    let mut all = Vec::new();
    while let Some((seen, after)) = read_one(rest) {
        all.push(seen);
        rest = after;
    }
    (all, rest.to_vec())
}

fn read_one(octets: &[u8]) -> Option<(Seen, &[u8])> {
    let (head, rest) = split(octets, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.replace(" HTTP/1.0", "").replace(" HTTP/1.1", "");
    let mut fields: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let find =
        |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let is_chunked = find("transfer-encoding").is_some();
    let length = find("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let named = find("connection").cloned().unwrap_or_default().to_lowercase();
    let is_tunnel = find("upgrade").is_some() && named.contains("upgrade");
    let (body, rest) = if is_chunked { chunks(rest)? } else { rest.split_at_checked(length)? };
    let body: Vec<u8> = if is_chunked { dechunk(body) } else { body.to_vec() };
    fields.retain(|(name, _value)| {
        let is_hop =
            ONE_HOP.contains(&name.as_str()) || named.split(", ").any(|option| option == name);
        !is_hop || is_tunnel && name == "upgrade"
    });
    fields.sort();
    let body = body.escape_ascii().to_string();
    Some((Seen { line, fields, body }, rest))
}

fn split<'a>(octets: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = octets.windows(end.len()).position(|window| window == end)?;
    Some((&octets[..at], &octets[at + end.len()..]))
}

fn chunks(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = octets;
    loop {
        let (size, after) = split(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            let length = octets.len() - rest.len();
            let after = trailers(after)?;
            return Some((&octets[..length], after));
        }
        rest = after.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn trailers(octets: &[u8]) -> Option<&[u8]> {
    let (line, rest) = split(octets, b"\r\n")?;
    if line.is_empty() { Some(rest) } else { trailers(rest) }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some((size, after)) = split(rest, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        body.extend_from_slice(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

const ONE_HOP: [&str; 8] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
