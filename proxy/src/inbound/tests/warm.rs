//! Connections of the application that go through two proxies one after the other, over connections that
//! these keep: what each of them sees is what it would see of one of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_tls::stream::TlsStream;

use super::*;
use crate::metrics::RefusedLabels;
use crate::pressure::Pressure;
use crate::testing::{spawn, warm_pool};
use crate::warm::carrier::{Beginning, Carrier};

/// Sends everything back.
async fn echo() -> SocketAddr {
    listen(application_address(), |mut stream, _number| async move {
        let (mut reader, mut writer) = stream.split();
        if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
            let _ = writer.shutdown().await;
        }
    })
    .await
}

/// Says something nobody else says, ends, and hears it.
async fn exchange(mut stream: TcpStream, number: u32) -> io::Result<()> {
    let said = [&[0x80][..], format!("this is number {number}").as_bytes()].concat();
    stream.write_all(&said).await?;
    stream.shutdown().await?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await?;
    assert_eq!(heard, said, "the bytes of another connection");
    Ok(())
}

/// Looks again and again, for half a minute.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "never: {what}");
}

impl Pair {
    /// Until so many connections wait for their next turn.
    async fn keeps(&self, number: usize) {
        let what = format!("{number} are kept");
        until(&what, || self.outbound.warm_connections() == number).await;
    }

    fn refused(&self, reason: &'static str) -> u64 {
        let labels = RefusedLabels { direction: Direction::Inbound, reason };
        self.inbound.dialer.metrics.refused.get_or_create(&labels).get()
    }

    fn lost(&self) -> u64 {
        self.outbound.metrics().warm.lost.get()
    }
}

#[tokio::test]
async fn two_hundred_connections_one_after_the_other_make_one_handshake() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    for number in 0..200 {
        exchange(pair.connect().await, number).await.unwrap();
        pair.keeps(1).await;
    }
    assert_eq!(pair.handshakes("ok"), 1);
    let warm = &pair.outbound.metrics().warm;
    assert_eq!((warm.opened.get(), warm.reused.get(), warm.lost.get()), (1, 199, 0));
    let bytes = pair.inbound.dialer.metrics.bytes(Direction::Inbound);
    assert_eq!(bytes.to_server.all(), bytes.to_client.all());
}

#[tokio::test]
async fn connections_at_once_have_one_each_and_use_them_again() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    for _round in 0..3 {
        let mut open = Vec::new();
        for number in 0..8 {
            let mut stream = pair.connect().await;
            // One that has heard something holds a connection of its own.
            stream.write_all(&[0x80, number]).await.unwrap();
            let mut heard = [0; 2];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, [0x80, number]);
            open.push(stream);
        }
        for mut stream in open {
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
        pair.keeps(8).await;
    }
    assert_eq!(pair.handshakes("ok"), 8);
}

#[tokio::test]
async fn a_server_that_speaks_first_and_half_closed_ends_are_as_ever() {
    let pair = Pair::new(greeter().await, InboundMode::Strict, "server").await;
    for _connection in 0..5 {
        converse(pair.connect().await).await;
        pair.keeps(1).await;
    }
    assert_eq!(pair.handshakes("ok"), 1);
}

#[tokio::test]
async fn bulk_goes_both_ways_over_a_connection_that_was_used() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0] | 0x80).collect();
    let mut stream = pair.connect().await;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
    read.unwrap();
    assert!(received == sent);
    pair.keeps(1).await;
    assert_eq!(pair.handshakes("ok"), 1);
}

#[tokio::test]
async fn a_connection_that_broke_leaves_nothing_for_the_next() {
    let breaks = listen(application_address(), |mut stream, number| async move {
        let mut heard = [0; 64];
        let length = stream.read(&mut heard).await.unwrap_or(0);
        let _ = stream.write_all(&heard[..length]).await;
        if number == 1 {
            // Half of what it wanted to say.
            reset_on_close(&stream);
        }
    })
    .await;
    let pair = Pair::new(breaks, InboundMode::Strict, "server").await;
    for (number, breaks) in [(0, false), (1, true), (2, false), (3, false)] {
        let mut stream = pair.connect().await;
        stream.write_all(&[0x80, number]).await.unwrap();
        let mut heard = Vec::new();
        let read = stream.read_to_end(&mut heard).await;
        assert_eq!(read.is_err(), breaks, "connection {number}: {read:?}");
        assert!(breaks || heard == [0x80, number], "connection {number}: {heard:?}");
        drop(stream);
        pair.keeps(usize::from(!breaks)).await;
    }
    assert_eq!(pair.handshakes("ok"), 2, "the one that broke took its connection with it");
}

#[tokio::test]
async fn a_client_that_breaks_off_is_a_reset_at_the_server() {
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let listens = listen(application_address(), move |mut stream, _number| {
        let tell = tell.clone();
        async move {
            let mut heard = Vec::new();
            let read = stream.read_to_end(&mut heard).await;
            tell.send((heard, read.is_err())).await.unwrap();
        }
    })
    .await;
    let pair = Pair::new(listens, InboundMode::Strict, "server").await;
    for breaks in [false, true, false] {
        let mut stream = pair.connect().await;
        stream.write_all(&[0x80, 1]).await.unwrap();
        if breaks {
            // Not before it has arrived: a reset overtakes what was sent.
            let bytes = pair.inbound.dialer.metrics.bytes(Direction::Inbound);
            until("it has arrived", || bytes.to_server.all() >= 4).await;
            reset_on_close(&stream);
        } else {
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
        drop(stream);
        let (heard, is_broken) = told.recv().await.unwrap();
        assert_eq!(is_broken, breaks);
        assert!(breaks || heard == [0x80, 1]);
    }
    assert_eq!(pair.handshakes("ok"), 2);
}

#[tokio::test]
async fn an_application_that_is_not_there_is_a_reset_and_not_a_second_try() {
    let echo = echo().await;
    let pair = Pair::new(echo, InboundMode::Strict, "server").await;
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    // A port that is bound and not listened on refuses.
    let nobody = std::net::TcpListener::bind(application_address()).unwrap().local_addr().unwrap();
    let refused = Pair::new(nobody, InboundMode::Strict, "server").await;
    for _connection in 0..3 {
        assert!(exchange(refused.connect().await, 2).await.is_err());
    }
    assert_eq!(refused.refused("connect"), 3);
    assert_eq!(refused.lost(), 0);
    exchange(pair.connect().await, 3).await.unwrap();
    assert_eq!(pair.handshakes("ok"), 1);
}

#[tokio::test]
async fn what_is_forbidden_by_now_is_refused_on_a_warm_connection_too() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    let port = pair.application.port();
    let declared = |protocol| workload("server", InboundMode::Strict, port, protocol);
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    // Bytes for what is declared to speak HTTP are not carried.
    pair.own_writer.set_workload(declared(Protocol::Http1));
    let mut warm = pair.connect().await;
    warm.write_all(&[0x80]).await.unwrap();
    until("it is refused", || pair.refused("other_protocol") > 0).await;
    assert_eq!(pair.lost(), 1, "it was asked anew, on a connection of its own");
    assert_eq!(pair.refused("other_protocol"), 1, "one connection of the application, one refusal");
    pair.own_writer.set_workload(declared(Protocol::Opaque));
    exchange(pair.connect().await, 2).await.unwrap();
}

#[tokio::test]
async fn nothing_warm_outlives_the_credentials_that_it_was_made_under() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    for (case, renewed) in
        [("nobody", None), ("the server", Some(false)), ("the client", Some(true))]
    {
        exchange(pair.connect().await, 1).await.unwrap();
        pair.keeps(1).await;
        let before = pair.handshakes("ok");
        match renewed {
            None => {}
            Some(true) => pair.mesh.renew("client", LIFETIME, &pair.client_writer),
            Some(false) => pair.mesh.renew("server", LIFETIME, &pair.server_writer),
        }
        exchange(pair.connect().await, 2).await.unwrap();
        pair.keeps(1).await;
        let expected = before + u64::from(renewed.is_some());
        assert_eq!(pair.handshakes("ok"), expected, "renewed: {case}");
    }
}

#[tokio::test]
async fn who_is_trusted_no_longer_has_no_turn_on_what_was_kept() {
    for side in ["server", "client"] {
        let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
        let served = || pair.inbound.dialer.metrics.bytes(Direction::Inbound).to_server.all();
        exchange(pair.connect().await, 1).await.unwrap();
        pair.keeps(1).await;
        let before = served();
        let writer = if side == "server" { &pair.server_writer } else { &pair.client_writer };
        writer.set_bundle(Mesh::new().bundle()).unwrap();
        assert!(exchange(pair.connect().await, 2).await.is_err(), "the {side} trusts others");
        assert_eq!(served(), before, "the {side} trusts others");
        writer.set_bundle(pair.mesh.bundle()).unwrap();
        exchange(pair.connect().await, 3).await.unwrap();
        assert_eq!(pair.handshakes("ok"), 2, "the {side} trusts as before");
    }
}

#[tokio::test]
async fn an_expired_certificate_opens_no_turn() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    pair.mesh.renew("client", Duration::from_secs(2), &pair.client_writer);
    exchange(pair.connect().await, 1).await.unwrap();
    let credentials = pair.client_writer.subscribe();
    while credentials.leaf_not_after().unwrap() > clock::now() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(exchange(pair.connect().await, 2).await.is_err());
}

#[tokio::test]
async fn a_proxy_that_knows_no_turns_is_understood() {
    for (case, client_knows, server_knows, handshakes) in [
        ("both", true, true, 1),
        ("an old client", false, true, 4),
        ("an old server", true, false, 4),
        ("neither", false, false, 4),
    ] {
        let known = |dialer: &mut Dialer, knows: bool| {
            if !knows {
                dialer.settings.warm_connections = 0;
                dialer.warm = warm_pool(0);
            }
        };
        let way = (InboundMode::Strict, "server");
        let pair = Pair::set(LIFETIME, echo().await, way, |client, server| {
            known(client, client_knows);
            known(server, server_knows);
        })
        .await;
        for number in 0..4 {
            exchange(pair.connect().await, number).await.unwrap();
            pair.keeps(usize::from(client_knows && server_knows)).await;
        }
        assert_eq!(pair.handshakes("ok"), handshakes, "case: {case}");
    }
}

#[tokio::test]
async fn a_peer_closes_what_is_idle_for_long_and_nobody_notices() {
    let way = (InboundMode::Strict, "server");
    let pair = Pair::set(LIFETIME, echo().await, way, |_client, server| {
        server.settings.inbound_idle = Duration::from_millis(100);
    })
    .await;
    for number in 0..3 {
        exchange(pair.connect().await, number).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(pair.handshakes("ok") > 1);
}

#[tokio::test]
async fn a_proxy_that_drains_begins_no_turn_on_what_is_idle() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    pair.inbound.dialer.tasks.begin_drain();
    exchange(pair.connect().await, 2).await.unwrap();
    assert_eq!(pair.handshakes("ok"), 2, "on a connection of its own");
}

#[tokio::test]
async fn a_proxy_that_drains_lets_a_turn_finish_and_begins_no_other() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    let mut stream = pair.connect().await;
    let half_said = b"\x80before, ";
    stream.write_all(half_said).await.unwrap();
    stream.read_exact(&mut [0; 9]).await.unwrap();
    pair.inbound.dialer.tasks.begin_drain();
    stream.write_all(b"and after").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"and after");
    assert_eq!(pair.handshakes("ok"), 1);
    exchange(pair.connect().await, 3).await.unwrap();
    assert_eq!(pair.handshakes("ok"), 2, "on a connection of its own");
}

#[tokio::test]
async fn an_address_that_is_anothers_by_now_is_not_reached_over_what_was_kept() {
    let pair = Pair::new(echo().await, InboundMode::Strict, "server").await;
    let served = || pair.inbound.dialer.metrics.bytes(Direction::Inbound).to_server.all();
    exchange(pair.connect().await, 1).await.unwrap();
    pair.keeps(1).await;
    let before = served();
    for (case, name, pod) in [
        ("another pod of the same identity", "server", "successor"),
        ("another identity in what calls itself the same pod", "stranger", "server"),
        ("both", "stranger", "successor"),
    ] {
        let peer = ExpectedPeer::Mesh { identity: identity(name), pod_uid: pod_uid(pod) };
        let endpoint = Endpoint { peer, ..crate::testing::plain(pair.gate) };
        let backends = vec![(balancer("api", vec![endpoint]), 1)];
        pair.destination.send_replace(resolved(backends, Timeouts::default()));
        assert!(exchange(pair.connect().await, 2).await.is_err(), "case: {case}");
        assert_eq!(served(), before, "case: {case}");
    }
    let warm = &pair.outbound.metrics().warm;
    assert_eq!((warm.reused.get(), warm.lost.get()), (0, 0), "nobody asked it");
}

#[tokio::test]
async fn memory_that_is_short_closes_what_is_idle_on_either_side() {
    for (case, client, server) in [("the caller's", true, false), ("the called one's", false, true)]
    {
        let way = (InboundMode::Strict, "server");
        let pair = Pair::set(LIFETIME, echo().await, way, |near, far| {
            for (dialer, _is_short) in [(near, client), (far, server)].into_iter().filter(|it| it.1)
            {
                dialer.pressure = Pressure::exhausted();
            }
        })
        .await;
        let mut long = pair.connect().await;
        long.write_all(b"\x80long").await.unwrap();
        long.read_exact(&mut [0; 5]).await.unwrap();
        let (near, far) = tcp_pair().await;
        let (outbound, destination) = (Arc::clone(&pair.outbound), pair.destination.subscribe());
        let (tell, told) = tokio::sync::oneshot::channel();
        spawn(async move {
            outbound.carry_to(far, ([10, 0, 0, 1], 80).into(), destination).await;
            let _ = tell.send(());
        });
        exchange(near, 1).await.unwrap();
        told.await.unwrap();
        // It was kept by then, and is closed after a while: who was let in has the time to be of use.
        pair.keeps(0).await;
        exchange(pair.connect().await, 2).await.unwrap();
        assert_eq!(pair.handshakes("ok"), 3, "case: {case}");
        // What is under way is left alone.
        exchange(long, 3).await.unwrap();
    }
}

#[tokio::test]
async fn what_nobody_reads_waits_where_it_is_sent() {
    let release = Arc::new(tokio::sync::Notify::new());
    let waits = Arc::clone(&release);
    let slow = listen(application_address(), move |mut stream, number| {
        let waits = Arc::clone(&waits);
        async move {
            let (mut reader, mut writer) = stream.split();
            if number == 1 {
                waits.notified().await;
            }
            let counted = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap();
            writer.write_all(&counted.to_be_bytes()).await.unwrap();
            writer.shutdown().await.unwrap();
        }
    })
    .await;
    let pair = Pair::new(slow, InboundMode::Strict, "server").await;
    let ask = async |mut stream: TcpStream, sent: u64| {
        stream.shutdown().await.unwrap();
        let mut counted = [0; 8];
        stream.read_exact(&mut counted).await.unwrap();
        assert_eq!(u64::from_be_bytes(counted), sent);
        assert_eq!(stream.read(&mut counted).await.unwrap(), 0);
    };
    let mut first = pair.connect().await;
    first.write_all(&[0x80; 100]).await.unwrap();
    ask(first, 100).await;
    pair.keeps(1).await;

    let (mut stream, piece, mut sent) = (pair.connect().await, vec![0x80; 64 * 1024], 0_u64);
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), stream.write(&piece)).await
    {
        sent += u64::try_from(written.unwrap()).unwrap();
        assert!(sent < UNREAD_LIMIT_BYTES, "somebody holds {sent} bytes");
    }
    release.notify_one();
    ask(stream, sent).await;
    pair.keeps(1).await;
    assert_eq!(pair.handshakes("ok"), 1);
}

/// The buffers of six sockets, and what two proxies hold: far less.
const UNREAD_LIMIT_BYTES: u64 = 128 * 1024 * 1024;

/// What a peer does with the second turn of its first connection.
#[derive(Clone, Copy, Debug)]
enum Second {
    /// Closes.
    Closes,
    /// Says nothing.
    IsSilent,
    /// Sends bytes that nobody asked for, before it has taken the turn on.
    SaysMore,
}

/// Takes one turn of each connection, and does as it is told with the second of the first.
async fn serve(mut stream: TlsStream<TcpStream>, second: Option<Second>, turns: Arc<AtomicUsize>) {
    for number in 0.. {
        let mut carrier = Carrier::awaiting(stream);
        if carrier.begun().await.ok() != Some(Beginning::Begun) {
            return;
        }
        turns.fetch_add(1, Ordering::SeqCst);
        match second.filter(|_second| number == 1) {
            None => {}
            Some(Second::Closes) => return,
            Some(Second::IsSilent) => return std::future::pending().await,
            Some(Second::SaysMore) => {
                let mut stream = carrier.finish_anyway();
                stream.write_all(b"\x03\0\x05stale\x02\0\0").await.unwrap();
                stream.flush().await.unwrap();
                return std::future::pending().await;
            }
        }
        carrier.accept().await.unwrap();
        let mut heard = Vec::new();
        carrier.read_to_end(&mut heard).await.unwrap();
        carrier.write_all(&heard).await.unwrap();
        carrier.shutdown().await.unwrap();
        stream = carrier.finish().unwrap();
    }
}

#[tokio::test]
async fn a_turn_that_was_not_taken_on_goes_to_another_connection() {
    for second in [Second::Closes, Second::IsSilent, Second::SaysMore] {
        let mesh = Mesh::new();
        let (_client_writer, client) = mesh.credentials("client", LIFETIME);
        let (_server_writer, server) = mesh.credentials("server", LIFETIME);
        let turns = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&turns);
        let address = listen(application_address(), move |stream, number| {
            let (server, turns) = (server.clone(), Arc::clone(&counting));
            async move {
                let (own, protocols) = (pod_uid("server"), &InnerProtocol::ALL);
                let limit = Duration::from_secs(10);
                let accepted =
                    heddle_tls::accept::accept(stream, &server, &own, protocols, limit).await;
                serve(accepted.unwrap().stream, (number == 0).then_some(second), turns).await;
            }
        })
        .await;
        let peer = ExpectedPeer::Mesh { identity: identity("server"), pod_uid: pod_uid("server") };
        let endpoint = Endpoint { peer, ..crate::testing::plain(address) };
        let (store, _writer, _asks) = store::channel();
        let outbound = Outbound::new(dialer_with("client", client), store);
        let backends = vec![(balancer("api", vec![endpoint]), 1)];
        let destination = watch::Sender::new(resolved(backends, Timeouts::default()));
        for number in 0..3 {
            let (near, far) = tcp_pair().await;
            let (outbound, destination) = (Arc::clone(&outbound), destination.subscribe());
            spawn(async move {
                outbound.carry_to(far, ([10, 0, 0, 1], 80).into(), destination).await;
            });
            exchange(near, number).await.unwrap();
        }
        let warm = &outbound.metrics().warm;
        let counted = (warm.opened.get(), warm.lost.get(), warm.reused.get());
        assert_eq!(counted, (2, 1, 1), "case: {second:?}");
        assert_eq!(turns.load(Ordering::SeqCst), 4, "case: {second:?}");
    }
}
