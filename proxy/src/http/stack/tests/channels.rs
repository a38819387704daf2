//! Many connections of HTTP/1 to another proxy at once: those that share one, and those to a proxy that knows no sharing.

use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::credentials::Credentials;

use super::breaking::until;
use super::*;
use crate::multiplex::driver::drive;
use crate::multiplex::{CHANNEL_LIMIT, Role, Session};
use crate::testing::{Mesh, dialer_with, pod_uid};

/// A proxy of the mesh that takes these protocols, and how many connections it has got. Each request waits for `go`, if it
/// says so, and is answered.
async fn peer(
    credentials: Credentials,
    protocols: &'static [InnerProtocol],
    go: watch::Receiver<bool>,
) -> (Endpoint, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = listen(loopback(), move |stream, _number| {
        let (credentials, go) = (credentials.clone(), go.clone());
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let (own, limit) = (pod_uid("server"), Duration::from_secs(10));
            let accepted = heddle_tls::accept::accept(stream, &credentials, &own, protocols, limit)
                .await
                .unwrap();
            if accepted.protocol != InnerProtocol::SharedHttp1 {
                return answer(accepted.stream, go).await;
            }
            let session = Session::new(Role::Server);
            let begin = |channel| {
                #[expect(clippy::disallowed_methods, reason = "a test's own task")]
                tokio::spawn(answer(channel, go.clone()));
            };
            let _ended = drive(accepted.stream, &session, None, begin).await;
        }
    })
    .await;
    let peer = ExpectedPeer::Mesh { identity: identity("server"), pod_uid: pod_uid("server") };
    (Endpoint { peer, ..plain(address) }, count)
}

/// Answers one request after another, each of which is there as a whole.
async fn answer(
    mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    mut go: watch::Receiver<bool>,
) {
    let mut request = vec![0; 4096];
    while io.read(&mut request).await.unwrap_or(0) > 0 {
        if go.wait_for(|go| *go).await.is_err() {
            return;
        }
        io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
    }
}

/// Asks once over each of so many connections at once, and lets all be answered when so many are under way.
async fn ask_at_once(
    proxy: &Proxy,
    count: usize,
    go: &watch::Sender<bool>,
    load: impl Fn() -> usize,
) {
    let mut streams = Vec::new();
    for _stream in 0..count {
        let mut stream = proxy.connection(HttpVersion::Http1).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    until("all are under way", || load() == count).await;
    go.send_replace(true);
    for mut stream in streams {
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
    }
}

fn world(endpoint: Endpoint, credentials: Credentials) -> (Proxy, Arc<BalancedEndpoint>) {
    let balancer = balancer("api", vec![endpoint]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let destination = watch::Sender::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    (Proxy { dialer: dialer_with("client", credentials), destination }, endpoint)
}

#[tokio::test]
async fn many_share_a_connection_and_more_than_it_takes_share_another() {
    let mesh = Mesh::new();
    let (_client, client) = mesh.credentials("client", Duration::from_secs(3600));
    let (_server, server) = mesh.credentials("server", Duration::from_secs(3600));
    let go = watch::Sender::new(false);
    let (endpoint, opened) = peer(server, &InnerProtocol::ALL, go.subscribe()).await;
    let (proxy, endpoint) = world(endpoint, client);
    ask_at_once(&proxy, CHANNEL_LIMIT + 1, &go, || endpoint.load()).await;
    // Past the lane nothing is shared.
    let expected = if is_general() { CHANNEL_LIMIT + 1 } else { 2 };
    assert_eq!(opened.load(Ordering::SeqCst), expected);
    until("they rest", || endpoint.load() == 0).await;
    // What is there is used again.
    ask_at_once(&proxy, 1, &go, || 1).await;
    assert_eq!(opened.load(Ordering::SeqCst), expected);
}

#[tokio::test]
async fn a_proxy_that_knows_no_sharing_gets_a_connection_for_each_at_once() {
    let mesh = Mesh::new();
    let (_client, client) = mesh.credentials("client", Duration::from_secs(3600));
    let (_server, server) = mesh.credentials("server", Duration::from_secs(3600));
    let go = watch::Sender::new(false);
    let (endpoint, opened) = peer(server, &[InnerProtocol::Http1], go.subscribe()).await;
    let (proxy, endpoint) = world(endpoint, client);
    ask_at_once(&proxy, 20, &go, || endpoint.load()).await;
    assert_eq!(opened.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_one_failure_and_only_what_may_be_is_asked_again() {
    if is_general() {
        // Past the lane nothing is shared, so that nothing is lost together.
        return;
    }
    let mesh = Mesh::new();
    let (_client, client) = mesh.credentials("client", Duration::from_secs(3600));
    let (_server, server) = mesh.credentials("server", Duration::from_secs(3600));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The first connection answers two, and is gone when four more have been asked for.
    let address = listen(loopback(), move |stream, number| {
        let (credentials, count) = (server.clone(), Arc::clone(&count));
        async move {
            let (own, limit) = (pod_uid("server"), Duration::from_secs(10));
            let protocols = &InnerProtocol::ALL;
            let accepted = heddle_tls::accept::accept(stream, &credentials, &own, protocols, limit)
                .await
                .unwrap();
            let session = Session::new(Role::Server);
            let lost = tokio_util::sync::CancellationToken::new();
            let begin = |mut channel: crate::multiplex::channel::Channel| {
                let (count, lost) = (Arc::clone(&count), lost.clone());
                #[expect(clippy::disallowed_methods, reason = "a test's own task")]
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    while channel.read(&mut request).await.unwrap_or(0) > 0 {
                        let before = count.fetch_add(1, Ordering::SeqCst);
                        if number == 0 && before >= 4 {
                            if before == 7 {
                                lost.cancel();
                            }
                            std::future::pending::<()>().await;
                        }
                        let said = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";
                        channel.write_all(said).await.unwrap();
                    }
                });
            };
            tokio::select! {
                _ended = drive(accepted.stream, &session, None, begin) => {}
                () = lost.cancelled() => {}
            }
        }
    })
    .await;
    let peer = ExpectedPeer::Mesh { identity: identity("server"), pod_uid: pod_uid("server") };
    let (proxy, endpoint) = world(Endpoint { peer, ..plain(address) }, client);
    let mut streams = Vec::new();
    for method in ["GET", "GET", "POST", "POST"] {
        let mut stream = proxy.connection(HttpVersion::Http1).await;
        // All of the first connection's channels are used ones by then.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        streams.push((method, stream));
    }
    for (_method, stream) in &mut streams {
        read_answer(stream, b"HTTP/1.1 200").await;
    }
    for (method, stream) in &mut streams {
        let head = format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    for (method, stream) in &mut streams {
        let expected: &[u8] = if *method == "GET" { b"HTTP/1.1 200" } else { b"HTTP/1.1 502" };
        read_answer(stream, expected).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10, "only the two of GET were asked again");
    assert_eq!(breaking::errors(&proxy, "backend_lost"), 2);
    assert_eq!(endpoint.standing(Instant::now()), crate::balance::endpoint::Standing::Good);
}

/// Reads an answer that begins so, as a whole.
async fn read_answer(stream: &mut TcpStream, beginning: &[u8]) {
    let mut answer = Vec::new();
    let whole = async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse().unwrap() {
                    return;
                }
            }
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{text}");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), whole).await.unwrap();
    assert!(answer.starts_with(beginning), "{}", answer.escape_ascii());
}
