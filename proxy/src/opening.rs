//! Reads a connection's first bytes until they say what it is, or until silence says enough. What
//! the bytes mean is decided by detect.rs and, for mesh TLS, by heddle-tls.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

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

    #[tokio::test]
    async fn a_client_that_closes_has_ended() {
        let (mut near, far) = tokio::io::duplex(64);
        drop(far);
        let opening = read(&mut near, &mut BytesMut::new(), PATIENCE, decided).await.unwrap();
        assert_eq!(opening, Opening::Ended);
    }
}
