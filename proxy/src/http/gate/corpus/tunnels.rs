//! Requests for tunnels whose clients wait for the answer: it is one, or the connection goes on as it
//! was. Those that do not wait are in http1.rs, and in the tests of io.rs.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::http::HttpVersion;
use crate::http::gate::corpus::harness::{Proxied, Way};
use crate::testing::{listen, loopback};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n";
const AGREED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
const DECLINED: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno";

/// Answers each time it is let to, and keeps what comes.
struct Backend {
    address: SocketAddr,
    asked: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    seen: Arc<parking_lot::Mutex<Vec<u8>>>,
}

impl Backend {
    async fn new(answer: &'static [u8]) -> Self {
        let (asked, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let shared = (Arc::clone(&asked), Arc::clone(&answers), Arc::clone(&seen));
        let address = listen(loopback(), move |mut stream, _number| {
            let (asked, answers, seen) = shared.clone();
            async move {
                let mut buffer = vec![0; 4096];
                loop {
                    let length = stream.read(&mut buffer).await.unwrap_or(0);
                    if length == 0 {
                        return;
                    }
                    seen.lock().extend_from_slice(&buffer[..length]);
                    asked.add_permits(1);
                    answers.acquire().await.unwrap().forget();
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { address, asked, answers, seen }
    }

    async fn until_asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }

    fn saw(&self, what: &[u8]) -> bool {
        self.seen.lock().windows(what.len()).any(|window| window == what)
    }
}

async fn read(client: &mut TcpStream, end: &[u8]) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        match client.read_u8().await {
            Ok(octet) => text.push(octet),
            Err(_ended) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_client_that_waited_goes_on_after_a_refusal() {
    for way in Way::ALL {
        let backend = Backend::new(DECLINED).await;
        let mut client = Proxied::new(way, HttpVersion::Http1, backend.address).connect().await;
        for request in [ASK, GOOD, ASK, GOOD] {
            client.write_all(request).await.unwrap();
            backend.until_asked().await;
            backend.answers.add_permits(1);
            assert!(read(&mut client, b"\r\n\r\nno").await.starts_with("HTTP/1.1 426"));
        }
        assert!(backend.saw(b"/good"));
    }
}

#[tokio::test]
async fn what_is_sent_after_the_answer_is_the_tunnels() {
    for way in Way::ALL {
        let backend = Backend::new(AGREED).await;
        let mut client = Proxied::new(way, HttpVersion::Http1, backend.address).connect().await;
        client.write_all(ASK).await.unwrap();
        backend.until_asked().await;
        backend.answers.add_permits(1);
        read(&mut client, b"\r\n\r\n").await;
        // Not even HTTP is read in a tunnel.
        client.write_all(b"GET / HTTP/1.1\nx\0").await.unwrap();
        backend.until_asked().await;
        assert!(backend.saw(b"GET / HTTP/1.1\nx\0"));
    }
}
