//! Turns over a pipe, with a peer that keeps to the rules and with one that does not.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::*;

type Near = BufReader<DuplexStream>;

fn pipe(capacity_bytes: usize) -> (Near, Near) {
    let (near, far) = duplex(capacity_bytes);
    (BufReader::new(near), BufReader::new(far))
}

/// Says something and ends, and hears what the other side says.
async fn talk(carrier: &mut Carrier<Near>, said: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let (mut reader, mut writer) = tokio::io::split(carrier);
    let read = async { reader.read_to_end(&mut heard).await.unwrap() };
    let write = async {
        writer.write_all(said).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    tokio::join!(read, write);
    heard
}

/// A turn on a connection: the client says `question`, the server `answer`; both ends come back.
async fn turn(client: Near, server: Near, question: &[u8], answer: &[u8]) -> (Near, Near) {
    let asking = async {
        let mut carrier = Carrier::opening(client);
        let heard = talk(&mut carrier, question).await;
        assert!(heard == answer, "the client heard something else");
        carrier.finish().unwrap()
    };
    let answering = async {
        let mut carrier = Carrier::awaiting(server);
        assert_eq!(carrier.begun().await.unwrap(), Beginning::Begun);
        carrier.accept().await.unwrap();
        let heard = talk(&mut carrier, answer).await;
        assert!(heard == question, "the server heard something else");
        carrier.finish().unwrap()
    };
    tokio::join!(asking, answering)
}

#[tokio::test]
async fn one_turn_follows_another() {
    for capacity_bytes in [1, 7, 64, 100_000] {
        let (mut client, mut server) = pipe(capacity_bytes);
        let big = vec![b'x'; 3 * PAYLOAD_LIMIT_BYTES + 5];
        let turns: [(&[u8], &[u8]); 4] =
            [(b"question", b"answer"), (b"", b"unasked"), (b"said", b""), (b"", b"")];
        for (question, answer) in turns.into_iter().chain([(&big[..], &b"much"[..])]) {
            if question.len() > 1000 && capacity_bytes < 64 {
                continue;
            }
            (client, server) = turn(client, server, question, answer).await;
            assert!(Carrier::is_still(&mut client) && Carrier::is_still(&mut server));
        }
    }
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (client, server) = pipe(1000);
    let mut client = Carrier::opening(client);
    let mut server = Carrier::awaiting(server);
    let mut greeting = [0; 5];
    let serve = async {
        server.begun().await.unwrap();
        server.accept().await.unwrap();
        server.write_all(b"hello").await.unwrap();
        server.flush().await.unwrap();
    };
    let (read, ()) = tokio::join!(client.read_exact(&mut greeting), serve);
    read.unwrap();
    assert_eq!(&greeting, b"hello");
}

#[tokio::test]
async fn a_turn_that_has_not_ended_on_both_sides_gives_nothing_back() {
    for (case, client_ends, server_ends) in
        [("neither", false, false), ("the client", true, false), ("the server", false, true)]
    {
        let (client, server) = pipe(1000);
        let (mut client, mut server) = (Carrier::opening(client), Carrier::awaiting(server));
        client.write_all(b"x").await.unwrap();
        server.begun().await.unwrap();
        server.accept().await.unwrap();
        if client_ends {
            client.shutdown().await.unwrap();
            assert!(client.write_all(b"more").await.is_err(), "after its end");
        }
        if server_ends {
            server.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "case: {case}");
        }
        assert!(client.finish().is_none(), "case: {case}");
        assert!(server.finish().is_none(), "case: {case}");
    }
}

#[tokio::test]
async fn what_a_peer_may_not_say_ends_the_connection() {
    let [open, accept, end] = [Frame::Open, Frame::Accept, Frame::End].map(Frame::encode);
    for (case, said) in [
        ("nothing before it leaves", vec![]),
        ("half a header", accept[..2].to_vec()),
        ("bytes of the turn before", b"\x03\0\x04late".to_vec()),
        ("an end before the beginning", end.to_vec()),
        ("the client's word", open.to_vec()),
        ("twice taken on", [accept, accept].concat()),
        ("no frame", b"HTTP/1.1 400 Bad Request".to_vec()),
        ("half of what it promised", [&accept[..], b"\x03\0\x04ha"].concat()),
        ("no end", accept.to_vec()),
    ] {
        let (client, mut peer) = pipe(1000);
        let mut carrier = Carrier::opening(client);
        peer.write_all(&said).await.unwrap();
        peer.shutdown().await.unwrap();
        let mut heard = Vec::new();
        assert!(carrier.read_to_end(&mut heard).await.is_err(), "case: {case}");
        assert!(heard.is_empty() || heard == b"ha", "case: {case}: {heard:?}");
        let _ = carrier.shutdown().await;
        assert!(carrier.finish().is_none(), "case: {case}");
    }
}

#[tokio::test]
async fn a_connection_on_which_something_comes_between_turns_is_not_still() {
    let (mut client, mut server) = pipe(1000);
    assert!(Carrier::is_still(&mut client));
    server.write_all(b"?").await.unwrap();
    assert!(!Carrier::is_still(&mut client));
    let (mut client, server) = pipe(1000);
    drop(server);
    assert!(!Carrier::is_still(&mut client), "closed");
}

#[tokio::test]
async fn a_peer_that_closes_between_turns_has_said_nothing_wrong() {
    let (client, server) = pipe(1000);
    drop(client);
    assert_eq!(Carrier::awaiting(server).begun().await.unwrap(), Beginning::Closed);
    let (mut client, server) = pipe(1000);
    client.write_all(&Frame::Open.encode()[..1]).await.unwrap();
    drop(client);
    assert!(Carrier::awaiting(server).begun().await.is_err(), "in the middle of a word");
}

#[tokio::test]
async fn a_frame_that_was_promised_is_not_cut_short_by_an_end() {
    let (client, _server) = pipe(16);
    let mut carrier = Carrier::opening(client);
    let written = carrier.write(&[b'x'; 100]).await.unwrap();
    assert!(written < 100);
    assert!(carrier.shutdown().await.is_err());
    assert!(carrier.finish().is_none());
}

proptest! {
    #[test]
    fn every_byte_arrives_once_and_in_its_own_turn(
        turns in prop::collection::vec((
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<u8>(), 0..300),
        ), 1..6),
        capacity_bytes in 1..200_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = pipe(capacity_bytes);
            for (question, answer) in &turns {
                (client, server) = turn(client, server, question, answer).await;
            }
        });
    }
}
