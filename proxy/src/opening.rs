//! Reads a connection's first bytes until they say what it is, or until silence says enough. What
//! the bytes mean is decided by detect.rs and, for mesh TLS, by heddle-tls. Where silence says that the
//! server may have to speak first, waits for whoever does.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::detect::{Greeting, greeting};

/// How reading the first bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening<V> {
    /// The bytes decided.
    Decided(V),
    /// Not one byte came for as long as was allowed: the server may have to speak first.
    Silent,
    /// Some bytes came, and by the deadline they still decided nothing.
    Undecided,
    /// The client closed its direction; what it sent is in the buffer.
    Ended,
}

/// How long to wait for the first bytes.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long the client may say nothing at all; `None`: as long as it likes.
    pub silence: Option<Duration>,
    /// How long it may take from the first byte to the one that decides.
    pub deadline: Duration,
}

/// Reads into `buffer`, which keeps everything that was read, until `decide` returns `Some`.
///
/// `decide` must return `Some` at some length, which bounds the buffer.
/// Cancel safe: bytes that were read are in `buffer`.
pub async fn read<S, V>(
    stream: &mut S,
    buffer: &mut BytesMut,
    patience: Patience,
    decide: impl Fn(&[u8]) -> Option<V>,
) -> io::Result<Opening<V>>
where
    S: AsyncRead + Unpin,
{
    if buffer.is_empty() {
        let first = stream.read_buf(buffer);
        let length = match patience.silence {
            None => first.await?,
            Some(silence) => match tokio::time::timeout(silence, first).await {
                Ok(length) => length?,
                Err(_elapsed) => return Ok(Opening::Silent),
            },
        };
        if length == 0 {
            return Ok(Opening::Ended);
        }
    }
    let deadline = Instant::now() + patience.deadline;
    loop {
        if let Some(verdict) = decide(buffer) {
            return Ok(Opening::Decided(verdict));
        }
        match timeout_at(deadline, stream.read_buf(buffer)).await {
            Ok(Ok(0)) => return Ok(Opening::Ended),
            Ok(Ok(_length)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_elapsed) => return Ok(Opening::Undecided),
        }
    }
}

/// Who of two ends said something first, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// What it said is in its buffer; nothing, if it ended.
    Client,
    /// As above.
    Server,
    /// The server, and what HTTP/2 has servers say, whose clients speak first all the same.
    ServerOfHttp2,
}

/// Why nobody was first.
#[derive(Debug)]
pub enum Unheard {
    /// For as long as that.
    Idle(Duration),
    /// The client's direction broke.
    Client(io::Error),
    /// The server's did.
    Server(io::Error),
}

/// Both ends are open and neither has spoken. The silence is theirs to end, as it would be without a
/// proxy, for as long as `idle`. A server whose first bytes do not tell yet what they are has
/// `deadline` to go on.
///
/// Cancel safe: bytes that were read are in the buffers.
pub async fn first_to_speak<C, S>(
    (client, client_bytes): (&mut C, &mut BytesMut),
    (server, server_bytes): (&mut S, &mut BytesMut),
    idle: Duration,
    deadline: Duration,
) -> Result<First, Unheard>
where
    C: AsyncRead + Unpin,
    S: AsyncRead + Unpin,
{
    let mut until = Instant::now() + idle;
    loop {
        let is_first_piece = server_bytes.is_empty();
        tokio::select! {
            // What a client has said is looked at, whatever the server said meanwhile.
            biased;
            read = client.read_buf(client_bytes) => {
                return read.map(|_length| First::Client).map_err(Unheard::Client);
            }
            read = server.read_buf(server_bytes) => {
                let length = read.map_err(Unheard::Server)?;
                match greeting(server_bytes) {
                    Greeting::Http2 => return Ok(First::ServerOfHttp2),
                    Greeting::NeedMore if length > 0 && is_first_piece => {
                        until = Instant::now() + deadline;
                    }
                    Greeting::NeedMore if length > 0 => {}
                    Greeting::NeedMore | Greeting::Other => return Ok(First::Server),
                }
            }
            () = sleep_until(until) => {
                return if is_first_piece { Err(Unheard::Idle(idle)) } else { Ok(First::Server) };
            }
        }
    }
}

/// Waits for the client alone to say something, or to end.
///
/// Cancel safe: bytes that were read are in `buffer`.
pub async fn first_bytes<C>(
    client: &mut C,
    buffer: &mut BytesMut,
    idle: Duration,
) -> Result<(), Unheard>
where
    C: AsyncRead + Unpin,
{
    match tokio::time::timeout(idle, client.read_buf(buffer)).await {
        Ok(read) => read.map(|_length| ()).map_err(Unheard::Client),
        Err(_elapsed) => Err(Unheard::Idle(idle)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::detect::{Verdict, detect};

    const PATIENCE: Patience =
        Patience { silence: Some(Duration::from_millis(50)), deadline: Duration::from_secs(10) };

    fn decided(bytes: &[u8]) -> Option<Verdict> {
        match detect(bytes) {
            Verdict::NeedMore => None,
            verdict @ (Verdict::Http1 | Verdict::Http2 | Verdict::Tls | Verdict::Opaque) => {
                Some(verdict)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_after_its_limit() {
        let (mut near, _far) = tokio::io::duplex(64);
        let start = Instant::now();
        let opening = read(&mut near, &mut BytesMut::new(), PATIENCE, decided).await.unwrap();
        assert_eq!(opening, Opening::Silent);
        assert_eq!(start.elapsed(), Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_in_the_middle_is_undecided_at_the_deadline() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"GE").await.unwrap();
        let mut buffer = BytesMut::new();
        let opening = read(&mut near, &mut buffer, PATIENCE, decided).await.unwrap();
        assert_eq!(opening, Opening::Undecided);
        assert_eq!(&buffer[..], b"GE");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_line_in_pieces_is_put_together() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut buffer = BytesMut::new();
        let write = async {
            for piece in [&b"GET /"[..], b" HTTP", b"/1.1\r\n"] {
                far.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (opening, ()) = tokio::join!(read(&mut near, &mut buffer, PATIENCE, decided), write);
        assert_eq!(opening.unwrap(), Opening::Decided(Verdict::Http1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_speaks_first_is_heard() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x7f";
        let no_pieces: &[&[u8]] = &[];
        for (case, client_says, server_says, expected) in [
            ("the client", &b"GET"[..], no_pieces, Some(First::Client)),
            ("both", b"GET", &[&b"220 hello"[..]][..], Some(First::Client)),
            ("the server", b"", &[b"220 hello"], Some(First::Server)),
            ("settings", b"", &[settings], Some(First::ServerOfHttp2)),
            (
                "settings in pieces",
                b"",
                &[&settings[..1], &settings[1..5], &settings[5..]],
                Some(First::ServerOfHttp2),
            ),
            ("what begins as settings", b"", &[b"\0\0", b"\0\0"], Some(First::Server)),
            ("what stops like settings", b"", &[b"\0\0"], Some(First::Server)),
            ("nobody", b"", &[], None),
        ] {
            let (mut client, mut client_far) = tokio::io::duplex(64);
            let (mut server, mut server_far) = tokio::io::duplex(64);
            let (mut client_bytes, mut server_bytes) = (BytesMut::new(), BytesMut::new());
            client_far.write_all(client_says).await.unwrap();
            let speak = async {
                for piece in server_says {
                    server_far.write_all(piece).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let listen = first_to_speak(
                (&mut client, &mut client_bytes),
                (&mut server, &mut server_bytes),
                Duration::from_secs(60),
                Duration::from_secs(10),
            );
            let (first, ()) = tokio::join!(listen, speak);
            match (first, expected) {
                (Err(Unheard::Idle(limit)), None) => assert_eq!(limit, Duration::from_secs(60)),
                (first, expected) => assert_eq!(first.ok(), expected, "case: {case}"),
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_has_ended() {
        let (mut near, far) = tokio::io::duplex(64);
        drop(far);
        let opening = read(&mut near, &mut BytesMut::new(), PATIENCE, decided).await.unwrap();
        assert_eq!(opening, Opening::Ended);
    }
}
