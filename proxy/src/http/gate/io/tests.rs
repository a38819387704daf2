//! The phases of a connection, by a clock that the tests move, and what its end leaves behind. What
//! serves the requests answers at once, or waits for their bodies.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;

use super::*;
use crate::http::body::Body;
use crate::http::frames::Budgets;
use crate::http::gate::exchanges::Permit;
use crate::http::gate::refusal::Refusal;
use crate::http::respond::{Asked, ProxyError, Teller, respond};
use crate::http::server::{Serving, serve};
use crate::http::{HttpService, HttpVersion};
use crate::metrics::Direction;
use crate::testing::{dialer, spawn};

fn teller() -> Teller<'static> {
    Teller::to_anybody(Direction::Inbound)
}

const IDLE: Duration = Duration::from_secs(600);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Answers with the length of the body, or with why there is none.
fn counting() -> HttpService {
    BoxCloneSyncService::new(tower::service_fn(|mut request: Request<Body>| async move {
        let asked = Asked::new(&request);
        if let Some(refusal) = request.extensions_mut().remove::<Refusal>() {
            return Ok(respond(&ProxyError::BadRequest { refusal }, asked, teller()));
        }
        Ok::<_, ProxyError>(match request.into_body().collect().await {
            Ok(body) => Response::new(Body::text(Bytes::from(body.to_bytes().len().to_string()))),
            Err(error) => {
                let refusal = Refusal::of(&error).expect("the gate broke it");
                respond(&ProxyError::BadRequest { refusal }, asked, teller())
            }
        })
    }))
}

fn connect(service: HttpService) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    spawn(async move {
        let dialer = Arc::clone(&dialer("client"));
        let window_bytes = crate::listen::HTTP2_CONNECTION_WINDOW_BYTES;
        let serving = Serving {
            direction: Direction::Outbound,
            version: HttpVersion::Http1,
            idle: IDLE,
            window_bytes,
            budgets: Budgets::TRUSTED,
            drain: None,
            until: None,
        };
        let _ = serve(far, service, serving, &dialer).await;
    });
    near
}

async fn read_head(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_ended) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// The head of an answer that has a body of one octet.
async fn read_answer(client: &mut DuplexStream) -> String {
    let head = read_head(client).await;
    client.read_u8().await.unwrap();
    head
}

async fn ends_after(client: &mut DuplexStream, start: Instant) -> (Duration, String) {
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    (start.elapsed(), rest)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_survives_until_its_time_is_over_and_is_told_nothing_then() {
    let mut client = connect(counting());
    for pause in [0, 31, 599] {
        tokio::time::sleep(seconds(pause)).await;
        client.write_all(GET).await.unwrap();
        assert!(read_answer(&mut client).await.starts_with("HTTP/1.1 200"), "after {pause} s");
    }
    let (after, rest) = ends_after(&mut client, Instant::now()).await;
    assert_eq!((after, rest.as_str()), (IDLE, ""));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_closed() {
    let mut client = connect(counting());
    let (after, rest) = ends_after(&mut client, Instant::now()).await;
    assert_eq!((after, rest.as_str()), (IDLE, ""));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_answered_408_ten_seconds_after_its_first_octet() {
    let mut client = connect(counting());
    client.write_all(GET).await.unwrap();
    read_answer(&mut client).await;
    tokio::time::sleep(seconds(100)).await;
    let (mut reader, mut writer) = tokio::io::split(client);
    let start = Instant::now();
    spawn(async move {
        for octet in GET {
            if writer.write_all(&[*octet]).await.is_err() {
                return;
            }
            tokio::time::sleep(seconds(1)).await;
        }
    });
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("x-heddle-error: head_timeout"), "{answer}");
    // What still drips in is thrown away for a while.
    assert!(start.elapsed() < seconds(10) + LINGER_TIME + seconds(1), "{:?}", start.elapsed());
    assert!(start.elapsed() >= seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_is_not_idle() {
    let slow = BoxCloneSyncService::new(tower::service_fn(|_request: Request<Body>| async {
        tokio::time::sleep(3 * IDLE).await;
        Ok::<_, ProxyError>(Response::new(Body::text(Bytes::from_static(b"1"))))
    }));
    let mut client = connect(slow);
    client.write_all(GET).await.unwrap();
    assert!(read_answer(&mut client).await.starts_with("HTTP/1.1 200"));
    let (after, _rest) = ends_after(&mut client, Instant::now()).await;
    assert_eq!(after, IDLE, "the time begins with the answer");
}

/// How long after its head a body that comes in such pieces is given up, and how that is told.
async fn give_up(head: &str, piece: &'static [u8], pause: Duration) -> (Duration, String) {
    let mut client = connect(counting());
    client.write_all(head.as_bytes()).await.unwrap();
    let start = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(client);
    spawn(async move {
        while writer.write_all(piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    });
    let mut answer = vec![0; 1024];
    let length = reader.read(&mut answer).await.unwrap();
    (start.elapsed(), String::from_utf8(answer[..length].to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_or_drips_is_answered_408() {
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    for (case, head, piece, pause, after, reason) in [
        ("chunks that stop", chunked, &b"1\r\na\r\n"[..], 1000, 300, "body_timeout"),
        ("a length that stops", sized, b"a", 1000, 20, "body_too_slow"),
        ("a length that drips", sized, b"a", 3, 20, "body_too_slow"),
        ("a length that is slow", sized, &[b'a'; 250], 1, 38, "body_too_slow"),
    ] {
        let (found, answer) = give_up(head, piece, seconds(pause)).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "case: {case}: {answer}");
        assert!(answer.contains(&format!("x-heddle-error: {reason}")), "case: {case}: {answer}");
        let expected = seconds(after);
        assert!(found >= expected && found <= expected + seconds(2), "case: {case}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_may_come_slowly_and_a_length_as_fast_as_it_has_to() {
    let mut client = connect(counting());
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    for _chunk in 0..9 {
        tokio::time::sleep(seconds(250)).await;
        client.write_all(b"1\r\na\r\n").await.unwrap();
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut client).await.starts_with("HTTP/1.1 200"));
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n").await.unwrap();
    for _second in 0..100 {
        client.write_all(&[b'a'; 600]).await.unwrap();
        tokio::time::sleep(seconds(1)).await;
    }
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_ends_with_its_connection() {
    let large = BoxCloneSyncService::new(tower::service_fn(|_request: Request<Body>| async {
        Ok::<_, ProxyError>(Response::new(Body::text(Bytes::from(vec![b'a'; 1024 * 1024]))))
    }));
    let mut client = connect(large);
    client.write_all(GET).await.unwrap();
    let start = Instant::now();
    // The client's side notices nothing, as long as it reads nothing.
    while client.write_all(b"\r").await.is_ok() {
        tokio::time::sleep(seconds(1)).await;
        assert!(start.elapsed() < seconds(310), "it is still open");
    }
    assert!(start.elapsed() >= seconds(300), "{:?}", start.elapsed());
}

/// Takes all that is written, as TLS does up to a limit, and hands nothing on.
struct Holding;

impl AsyncRead for Holding {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Holding {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_no_further_than_a_buffer_is_not_taken() {
    let limits = Limits { idle: IDLE, head: seconds(10), body: seconds(300), answer: seconds(300) };
    for is_end in [false, true] {
        let mut gated = Gated::new(Holding, Exchanges::default(), limits);
        gated.write_all(b"answer").await.unwrap();
        let start = Instant::now();
        let ended = async {
            match is_end {
                false => gated.flush().await,
                true => gated.shutdown().await,
            }
        };
        let ended = tokio::time::timeout(seconds(400), ended).await.expect("nobody watches");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "end: {is_end}");
        let after = start.elapsed();
        assert!(after >= seconds(300) && after < seconds(301), "end: {is_end}: {after:?}");
    }
}

#[tokio::test]
async fn bodies_of_any_length_arrive_whole_and_in_order() {
    for length in [0, 1, 8191, 8192, 100_000, 3_000_000] {
        let mut client = connect(counting());
        let body = vec![b'a'; length];
        let mut sent =
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        sent.extend_from_slice(&body);
        sent.extend_from_slice(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(70_001) {
            sent.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\n\r\n");
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let write = async { writer.write_all(&sent).await.unwrap() };
        let read = async {
            for _answer in 0..2 {
                let mut answer = Vec::new();
                let expected = format!("\r\n\r\n{length}");
                while !answer.ends_with(expected.as_bytes()) {
                    answer.push(reader.read_u8().await.unwrap());
                    assert!(answer.len() < 1000, "{}", answer.escape_ascii());
                }
            }
        };
        tokio::join!(write, read);
    }
}

/// Answers a request for a tunnel when it is let to; how many requests there were.
fn deciding(agrees: bool, answers: Arc<Semaphore>, count: Arc<Semaphore>) -> HttpService {
    BoxCloneSyncService::new(tower::service_fn(move |mut request: Request<Body>| {
        let (answers, count) = (Arc::clone(&answers), Arc::clone(&count));
        async move {
            count.add_permits(1);
            answers.acquire().await.unwrap().forget();
            let asked = Asked::new(&request);
            let permit = request.extensions_mut().remove::<Permit>().unwrap();
            let (true, Err(refusal)) = (agrees, if agrees { permit.agree() } else { Ok(()) })
            else {
                let answer = Response::builder().status(426).body(Body::empty());
                return Ok::<_, ProxyError>(answer.unwrap());
            };
            Ok(respond(&ProxyError::BadRequest { refusal }, asked, teller()))
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_answer_is_out_goes_nowhere_whatever_it_is() {
    for (agrees, told) in [(true, "HTTP/1.1 400"), (false, "HTTP/1.1 426")] {
        let (answers, count) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let mut client = connect(deciding(agrees, Arc::clone(&answers), Arc::clone(&count)));
        let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        client.write_all(ask).await.unwrap();
        // The clock moves only when everybody else waits.
        tokio::time::sleep(seconds(1)).await;
        client.write_all(GET).await.unwrap();
        tokio::time::sleep(seconds(1)).await;
        answers.add_permits(2);
        let head = read_head(&mut client).await;
        assert!(head.starts_with(told), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        let (_after, _rest) = ends_after(&mut client, Instant::now()).await;
        assert_eq!(count.available_permits(), 1, "the second is no request");
    }
}
