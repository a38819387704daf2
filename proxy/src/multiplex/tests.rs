//! Two ends of a connection over a pipe, and what channels of it are to their owners.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::http::breaker::Reset as _;
use crate::multiplex::driver::drive;
use crate::multiplex::entry::WINDOW_BYTES;
use crate::multiplex::frame::{DATA_BYTES, Frame};
use crate::multiplex::state::{ANSWER_LIMIT_BYTES, ENDING_LIMIT};

const DEADLINE: Duration = Duration::from_secs(30);

/// Both ends, and what the server's is told of.
struct Pair {
    client: Arc<Session>,
    server: Arc<Session>,
    begun: UnboundedReceiver<Channel>,
    client_task: JoinHandle<std::io::Result<()>>,
    server_task: JoinHandle<std::io::Result<()>>,
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
fn pair() -> Pair {
    let (near, far) = duplex(4096);
    let (client, server) = (Session::new(Role::Client), Session::new(Role::Server));
    let (tell, begun) = unbounded_channel();
    let (of_client, of_server) = (Arc::clone(&client), Arc::clone(&server));
    let client_task = tokio::spawn(async move { drive(near, &of_client, None, drop).await });
    let server_task = tokio::spawn(async move {
        drive(far, &of_server, None, |channel| drop(tell.send(channel))).await
    });
    Pair { client, server, begun, client_task, server_task }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it takes too long")
}

/// A session whose other end is played by the test.
#[expect(clippy::disallowed_methods, reason = "a test's own task")]
fn alone(role: Role) -> (Arc<Session>, DuplexStream, JoinHandle<std::io::Result<()>>) {
    let (near, far) = duplex(1 << 20);
    let session = Session::new(role);
    let own = Arc::clone(&session);
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        drive(near, &own, None, |channel| kept.push(channel)).await
    });
    (session, far, task)
}

fn octets(frames: &[(Frame, &[u8])]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (frame, payload) in frames {
        frame.write(&mut octets);
        octets.extend_from_slice(payload);
    }
    octets
}

#[tokio::test]
async fn channels_carry_both_ways_beside_each_other_whatever_their_length() {
    let mut pair = pair();
    let lengths = [1, 100, 16_377, 16_378, 40_000, 3_000_000];
    let mut asked = Vec::new();
    for (index, length) in lengths.into_iter().enumerate() {
        let channel = pair.client.open().unwrap();
        let octet = u8::try_from(index).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        asked.push(tokio::spawn(async move {
            let (mut reading, mut writing) = tokio::io::split(channel);
            let sent = vec![octet; length];
            let write = async {
                writing.write_all(&sent).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            let mut read = Vec::new();
            let ((), length) = tokio::join!(write, reading.read_to_end(&mut read));
            length.unwrap();
            assert_eq!(read.len(), sent.len());
            assert!(read.iter().all(|read| *read == octet), "channel {octet}");
        }));
    }
    for _channel in lengths {
        let channel = soon(pair.begun.recv()).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        tokio::spawn(async move {
            let (mut reading, mut writing) = tokio::io::split(channel);
            tokio::io::copy(&mut reading, &mut writing).await.unwrap();
            writing.shutdown().await.unwrap();
        });
    }
    for asked in asked {
        soon(asked).await.unwrap();
    }
    pair.client.retire();
    soon(pair.client_task).await.unwrap().unwrap();
    soon(pair.server_task).await.unwrap().unwrap();
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[tokio::test]
async fn an_answer_that_came_before_the_connection_was_lost_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _address) = listener.accept().await.unwrap();
    let session = Session::new(Role::Client);
    let own = Arc::clone(&session);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let task = tokio::spawn(async move { drive(near, &own, None, drop).await });
    let mut channel = session.open().unwrap();
    let mut opened = [0; 7];
    far.read_exact(&mut opened).await.unwrap();
    let answer = vec![b'a'; 2 * DATA_BYTES];
    let (first, second) = answer.split_at(DATA_BYTES);
    let frames = octets(&[
        (Frame::Data(1, first.len()), first),
        (Frame::Data(1, second.len()), second),
        (Frame::End(1), b""),
    ]);
    // The driver is told of all this, the reset included, only after it has something to write.
    assert_eq!(far.try_write(&frames).unwrap(), frames.len());
    far.set_zero_linger().unwrap();
    drop(far);
    let mut ask = std::pin::pin!(channel.write_all(b"ask"));
    assert!(futures_util::poll!(&mut ask).is_ready());
    let mut heard = Vec::new();
    soon(channel.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == answer);
    assert!(soon(task).await.unwrap().is_err());
}

#[tokio::test]
async fn what_is_not_read_holds_up_nobody_else() {
    let mut pair = pair();
    let mut stuck = pair.client.open().unwrap();
    let _unread = soon(pair.begun.recv()).await.unwrap();
    let much = vec![7; 1 << 20];
    let written = timeout(Duration::from_millis(50), stuck.write_all(&much)).await;
    assert!(written.is_err(), "it takes no more than there is room for");
    let mut free = pair.client.open().unwrap();
    let mut other = soon(pair.begun.recv()).await.unwrap();
    for _time in 0..100 {
        free.write_all(b"ask").await.unwrap();
        let mut said = [0; 3];
        soon(other.read_exact(&mut said)).await.unwrap();
        other.write_all(&said).await.unwrap();
        soon(free.read_exact(&mut said)).await.unwrap();
        assert_eq!(&said, b"ask");
    }
}

#[tokio::test]
async fn what_breaks_off_on_one_side_does_on_the_other_and_nowhere_else() {
    let mut pair = pair();
    let mut reset = pair.client.open().unwrap();
    let mut dropped = pair.client.open().unwrap();
    let mut kept = pair.client.open().unwrap();
    for channel in [&mut reset, &mut dropped, &mut kept] {
        channel.write_all(b"half").await.unwrap();
    }
    let mut others = Vec::new();
    for _channel in 0..3 {
        others.push(soon(pair.begun.recv()).await.unwrap());
    }
    reset.reset();
    drop(dropped);
    for broken in [0, 1] {
        // That it broke off is no end.
        let mut read = Vec::new();
        let error = soon(others[broken].read_to_end(&mut read)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(others[broken].write(b"more").await.unwrap_err().kind(), error.kind());
    }
    assert!(reset.write(b"more").await.is_err());
    kept.shutdown().await.unwrap();
    let mut read = Vec::new();
    soon(others[2].read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"half");
    others[2].write_all(b"whole").await.unwrap();
    others[2].shutdown().await.unwrap();
    read.clear();
    soon(kept.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"whole");
    drop((others, reset, kept));
    assert_eq!(pair.client.load(), Some(0));
}

#[tokio::test]
async fn whoever_waits_learns_that_the_connection_was_lost_and_one_of_them_tells() {
    let mut pair = pair();
    let mut channels = Vec::new();
    for _channel in 0..3 {
        channels.push(pair.client.open().unwrap());
        let _other = soon(pair.begun.recv()).await.unwrap();
    }
    pair.server_task.abort();
    for channel in &mut channels {
        let error = soon(channel.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(!channel.is_silent());
    }
    assert!(pair.client.open().is_none());
    let told = channels.iter().filter(|channel| channel.session().is_news()).count();
    assert_eq!(told, 1);
    assert!(soon(pair.client_task).await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_that_closes_serves_what_was_opened_before_and_then_ends_in_order() {
    let mut pair = pair();
    let mut before = pair.client.open().unwrap();
    let mut other = soon(pair.begun.recv()).await.unwrap();
    pair.server.retire();
    let closing = async {
        while pair.client.is_open() {
            tokio::task::yield_now().await;
        }
    };
    soon(closing).await;
    assert!(pair.client.open().is_none());
    before.write_all(b"ask").await.unwrap();
    before.shutdown().await.unwrap();
    let mut read = Vec::new();
    soon(other.read_to_end(&mut read)).await.unwrap();
    other.write_all(b"answer").await.unwrap();
    other.shutdown().await.unwrap();
    drop(other);
    read.clear();
    soon(before.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"answer");
    drop(before);
    soon(pair.server_task).await.unwrap().unwrap();
    soon(pair.client_task).await.unwrap().unwrap();
}

#[tokio::test]
async fn only_so_many_channels_are_open_and_a_place_is_free_again_after_one() {
    let mut pair = pair();
    let mut channels: Vec<_> =
        (0..CHANNEL_LIMIT).map(|_index| pair.client.open().unwrap()).collect();
    assert!(pair.client.open().is_none() && pair.client.load().is_none());
    for _time in 0..3 {
        drop(channels.pop());
        channels.push(pair.client.open().unwrap());
    }
    // The other side has taken all of that.
    let mut last = channels.pop().unwrap();
    last.write_all(b"ask").await.unwrap();
    let mut others = Vec::new();
    for _channel in 0..CHANNEL_LIMIT + 3 {
        others.push(soon(pair.begun.recv()).await.unwrap());
    }
    let mut said = [0; 3];
    soon(others.last_mut().unwrap().read_exact(&mut said)).await.unwrap();
    assert_eq!(&said, b"ask");
}

#[tokio::test]
async fn whoever_breaks_the_rules_loses_the_connection() {
    let many: Vec<(Frame, &[u8])> = (1..=u32::try_from(CHANNEL_LIMIT).unwrap() + 1)
        .map(|id| (Frame::Open(id), b"".as_slice()))
        .collect();
    let full = [0; 16_000];
    for (case, role, frames) in [
        ("a channel again", Role::Server, octets(&[(Frame::Open(2), b""), (Frame::Open(2), b"")])),
        ("an older one", Role::Server, octets(&[(Frame::Open(2), b""), (Frame::Open(1), b"")])),
        ("one for a client", Role::Client, octets(&[(Frame::Open(1), b"")])),
        (
            "one after it was agreed that there is none",
            Role::Server,
            octets(&[(Frame::Closing, b""), (Frame::Open(1), b"")]),
        ),
        (
            "more than there is room for",
            Role::Server,
            octets(&[
                (Frame::Open(1), b""),
                (Frame::Data(1, full.len()), &full),
                (Frame::Data(1, full.len()), &full),
                (Frame::Data(1, full.len()), &full),
            ]),
        ),
        (
            "more after the end",
            Role::Server,
            octets(&[(Frame::Open(1), b""), (Frame::End(1), b""), (Frame::Data(1, 1), b"a")]),
        ),
        ("too many", Role::Server, octets(&many)),
        ("no frame", Role::Client, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ] {
        let (session, mut far, task) = alone(role);
        far.write_all(&frames).await.unwrap();
        let error = soon(task).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "case: {case}: {error}");
        assert!(!session.is_open(), "case: {case}");
    }
}

#[tokio::test]
async fn what_means_nothing_any_more_is_no_harm() {
    let (session, mut far, _task) = alone(Role::Server);
    let frames = octets(&[
        (Frame::Open(1), b""),
        (Frame::Reset(1), b""),
        (Frame::Data(1, 4), b"late"),
        (Frame::End(1), b""),
        (Frame::Room(1, 5), b""),
        (Frame::Reset(1), b""),
        (Frame::Data(9, 4), b"none"),
        (Frame::Open(10), b""),
    ]);
    far.write_all(&frames).await.unwrap();
    let opened = async {
        while session.load() != Some(1) {
            tokio::task::yield_now().await;
        }
    };
    soon(opened).await;
}

#[tokio::test]
async fn one_that_always_waits_for_more_room_gets_more() {
    let (session, mut far, _task) = alone(Role::Client);
    let mut channel = session.open().unwrap();
    let mut granted = 32 * 1024_usize;
    let (mut sent, mut windows) = (0, Vec::new());
    let mut head = [0; 7];
    soon(far.read_exact(&mut head)).await.unwrap();
    for _time in 0..12 {
        // All that there is room for, and then none before it was told of more.
        let mut frames = Vec::new();
        while sent < granted {
            let length = (granted - sent).min(16_000);
            Frame::Data(1, length).write(&mut frames);
            frames.resize(frames.len() + length, 0);
            sent += length;
        }
        let length = frames.len();
        far.write_all(&frames).await.unwrap();
        let mut read = vec![0; length];
        let mut taken = 0;
        while taken + 7 * length.div_ceil(16_007) < length {
            taken += soon(channel.read(&mut read)).await.unwrap();
        }
        let before = granted;
        loop {
            let mut frame = [0; 11];
            match timeout(Duration::from_millis(20), far.read_exact(&mut frame)).await {
                Ok(read) => {
                    read.unwrap();
                    let Ok(Some(Frame::Room(1, by))) = Frame::read(&mut frame.as_slice()) else {
                        panic!("{frame:?}")
                    };
                    granted += usize::try_from(by).unwrap();
                }
                Err(_elapsed) => break,
            }
        }
        windows.push(granted - before);
    }
    assert!(windows.first() < windows.last(), "{windows:?}");
    assert!(windows.last().is_some_and(|last| *last <= 2 * 1024 * 1024), "{windows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_vanished_is_found_and_one_that_is_there_is_not() {
    let vigilance = Some((Duration::from_secs(20), Duration::from_secs(10)));
    let (near, mut far) = duplex(1 << 20);
    let session = Session::new(Role::Client);
    let own = Arc::clone(&session);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let task = tokio::spawn(async move { drive(near, &own, vigilance, drop).await });
    // Nobody misses it who has no channel.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let _channel = session.open().unwrap();
    let mut head = [0; 7];
    for expected in [Frame::Open(1), Frame::Ping, Frame::Ping] {
        soon_in_hours(far.read_exact(&mut head)).await.unwrap();
        assert_eq!(Frame::read(&mut head.as_slice()), Ok(Some(expected)));
        if expected == Frame::Ping {
            far.write_all(&octets(&[(Frame::Pong, b"")])).await.unwrap();
        }
    }
    let error = soon_in_hours(task).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(!session.is_open());
}

/// Time does not pass by itself.
async fn soon_in_hours<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(3600), what).await.expect("it takes too long")
}

#[tokio::test]
async fn whoever_asks_and_does_not_listen_is_not_heard_for_ever() {
    let (near, far) = duplex(4096);
    let session = Session::new(Role::Server);
    let own = Arc::clone(&session);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let task = tokio::spawn(async move { drive(near, &own, None, drop).await });
    let pings = octets(&[(Frame::Ping, b"".as_slice()); 1024]);
    let (_reading, mut writing) = tokio::io::split(far);
    let flood = async {
        for _time in 0..10_000 {
            writing.write_all(&pings).await.unwrap();
        }
    };
    let _stuck = timeout(Duration::from_secs(2), flood).await;
    let ready = session.state.lock().ready();
    assert!((1..2 * ANSWER_LIMIT_BYTES).contains(&ready), "{ready}");
    assert!(session.is_open());
    task.abort();
}

#[tokio::test]
async fn a_reader_that_never_comes_to_the_end_keeps_no_more_than_is_under_way() {
    let mut pair = pair();
    let mut channel = pair.client.open().unwrap();
    let mut other = soon(pair.begun.recv()).await.unwrap();
    let length = 20 << 20;
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let writing = tokio::spawn(async move {
        other.write_all(&vec![1; length]).await.unwrap();
        other.shutdown().await.unwrap();
    });
    let (mut piece, mut read, mut most) = ([0; 3000], 0, 0);
    loop {
        match soon(channel.read(&mut piece)).await.unwrap() {
            0 => break,
            some => read += some,
        }
        // Others have their turn, and fill it up.
        tokio::task::yield_now().await;
        most = most.max(pair.client.state.lock().kept());
    }
    soon(writing).await.unwrap();
    assert_eq!(read, length);
    assert!(most < 4 << 20, "{most}");
}

#[tokio::test]
async fn what_has_ended_is_whole_though_the_connection_is_lost_then() {
    let mut pair = pair();
    let mut channel = pair.client.open().unwrap();
    let mut other = soon(pair.begun.recv()).await.unwrap();
    other.write_all(b"whole").await.unwrap();
    other.shutdown().await.unwrap();
    while channel.is_silent() {
        tokio::task::yield_now().await;
    }
    pair.server_task.abort();
    soon(pair.client_task).await.unwrap().unwrap_err();
    let mut read = Vec::new();
    soon(channel.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"whole");
}

#[tokio::test]
async fn what_is_reset_and_not_ended_yet_is_ended_before_more_is_read() {
    let (session, far, task) = alone(Role::Server);
    let flood: Vec<(Frame, &[u8])> = (1..=100_000)
        .flat_map(|id| [(Frame::Open(id), b"".as_slice()), (Frame::Reset(id), b"")])
        .collect();
    let flood = octets(&flood);
    let (_reading, mut writing) = tokio::io::split(far);
    // The test keeps all channels, as a server might whose application is slow.
    let _stuck = timeout(Duration::from_secs(2), writing.write_all(&flood)).await;
    let open = session.state.lock().channels.len();
    assert!((CHANNEL_LIMIT..4 * ENDING_LIMIT).contains(&open), "{open}");
    assert!(session.is_open());
    task.abort();
}

/// Old and new proxies are mixed: what both sides rely on may not change under the same name.
#[test]
fn what_both_sides_rely_on_is_as_it_was() {
    assert_eq!(heddle_tls::alpn::InnerProtocol::SharedHttp1.name(), "heddle/h1-shared");
    assert_eq!((CHANNEL_LIMIT, WINDOW_BYTES, DATA_BYTES), (250, 32_768, 16_377));
}

#[tokio::test]
async fn what_is_kept_for_a_peer_that_takes_nothing_is_bounded_also_over_many_that_give_up() {
    let (near, _far) = duplex(64);
    let session = Session::new(Role::Client);
    let own = Arc::clone(&session);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let task = tokio::spawn(async move { drive(near, &own, None, drop).await });
    let request = [0; 8000];
    let mut refused = 0;
    for _time in 0..3000 {
        let mut channel = session.open().unwrap();
        let written = timeout(Duration::from_millis(1), channel.write_all(&request)).await;
        refused += usize::from(written.is_err());
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "it takes no more at last");
    assert!(session.state.lock().ready() < ANSWER_LIMIT_BYTES);
    task.abort();
}
