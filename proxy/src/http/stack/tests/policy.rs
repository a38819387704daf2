//! What policies say, between real clients and real servers.

use std::collections::HashSet;
use std::net::SocketAddr;

use heddle_model::endpoint::{Endpoint, EndpointSet};
use heddle_model::policy::{
    BackendPolicy, Balance, CircuitLimits, Ejection, HashKey, RateLimit, RateLimitScope,
    SessionKind, SessionPersistence,
};
use http::header::{COOKIE, RETRY_AFTER, SET_COOKIE};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::breaking::until;
use super::*;
use crate::balance::locality::Place;
use crate::http::respond::ERROR_HEADER;
use crate::metrics::BackendLabels;

fn with(endpoints: Vec<Endpoint>, policy: &BackendPolicy) -> (Proxy, Arc<Balancer>) {
    let balancer = balancer("api", Vec::new());
    set(&balancer, endpoints, policy);
    let backends = vec![(Arc::clone(&balancer), 1)];
    (Proxy::new(resolved(backends, Timeouts::default())), balancer)
}

fn set(balancer: &Balancer, endpoints: Vec<Endpoint>, policy: &BackendPolicy) {
    balancer.update(EndpointSet { endpoints, policy: policy.clone() }, &Place::default());
}

/// Servers that answer with their own text.
async fn servers() -> [Backend; 3] {
    [Backend::new("one").await, Backend::new("two").await, Backend::new("three").await]
}

fn endpoints(backends: &[Backend]) -> Vec<Endpoint> {
    backends.iter().map(Backend::endpoint).collect()
}

#[tokio::test]
async fn a_key_keeps_its_endpoint() {
    let balance = Balance::ConsistentHash(HashKey::Header("x-user".to_owned()));
    let policy = BackendPolicy { balance, ..BackendPolicy::default() };
    let (proxy, _balancer) = with(endpoints(&servers().await), &policy);
    let mut client = proxy.client().await;
    let mut found = HashSet::new();
    for user in 0..20 {
        let mut texts = HashSet::new();
        for _again in 0..3 {
            let request = http::Request::get("/").header("x-user", format!("user-{user}"));
            texts.insert(client.send(request).await.unwrap().text);
        }
        assert_eq!(texts.len(), 1, "user-{user}");
        found.extend(texts);
    }
    assert_eq!(found.len(), 3, "not all users have the same");
}

#[tokio::test]
async fn a_session_stays_until_its_endpoint_is_gone() {
    let session = SessionPersistence {
        name: "sticky".to_owned(),
        kind: SessionKind::SessionCookie,
        absolute_timeout: None,
        idle_timeout: None,
    };
    let policy = BackendPolicy { session: Some(session), ..BackendPolicy::default() };
    let servers = servers().await;
    let (proxy, balancer) = with(endpoints(&servers), &policy);
    let mut client = proxy.client().await;
    let first = client.get("/").await.unwrap();
    let told = first.headers[SET_COOKIE].to_str().unwrap().to_owned();
    let cookie = told.split(';').next().unwrap().to_owned();
    assert!(told.ends_with("; Path=/; HttpOnly"), "{told}");
    assert!(!told.contains("127.0.0.1"), "{told}");
    let with_cookie = |cookie: &str| http::Request::get("/").header(COOKIE, cookie);
    for _again in 0..20 {
        let answer = client.send(with_cookie(&cookie)).await.unwrap();
        assert_eq!(answer.text, first.text);
        assert!(!answer.headers.contains_key(SET_COOKIE), "it is known");
    }
    let forged = client.send(with_cookie("sticky=10.0.0.1")).await.unwrap();
    assert_eq!(forged.status, 200);
    assert!(forged.headers.contains_key(SET_COOKIE));

    let names = ["one", "two", "three"].into_iter().zip(endpoints(&servers));
    let left = names.filter(|(name, _endpoint)| *name != first.text).map(|(_name, left)| left);
    set(&balancer, left.collect(), &policy);
    let moved = client.send(with_cookie(&cookie)).await.unwrap();
    assert_ne!(moved.text, first.text);
    let again = moved.headers[SET_COOKIE].to_str().unwrap();
    let again = client.send(with_cookie(again.split(';').next().unwrap())).await.unwrap();
    assert_eq!(again.text, moved.text);
}

/// Answers requests until it is killed: then its connections are reset, and new ones refused.
async fn mortal(kill: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = kill.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (mut stream, _client) = accepted.unwrap();
            let kill = kill.clone();
            spawn(async move {
                let mut head = vec![0; 4096];
                loop {
                    let read = tokio::select! {
                        () = kill.cancelled() => return crate::connect::reset_on_close(&stream),
                        read = stream.read(&mut head) => read,
                    };
                    if read.unwrap_or(0) == 0 {
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn one_of_five_that_is_killed_costs_idle_clients_nothing_and_is_ejected() {
    let kill = CancellationToken::new();
    let mut endpoints = vec![plain(mortal(kill.clone()).await)];
    for _other in 0..4 {
        endpoints.push(plain(mortal(CancellationToken::new()).await));
    }
    let (proxy, balancer) = with(endpoints, &BackendPolicy::default());
    let mut client = proxy.client().await;
    for _warm in 0..30 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    kill.cancel();
    let labels = BackendLabels { backend: Arc::clone(balancer.label()) };
    let metrics = &proxy.dialer.metrics;
    let ejected = || metrics.ejected.family().get(&labels).map(|count| count.get()) == Some(1);
    let requests = async {
        while !ejected() {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), requests).await.expect("it is ejected");
}

/// A gRPC answer whose status is in its trailers.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\
    trailer: grpc-status\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 14\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn responses_that_blame_the_server_eject_it_if_the_policy_says_so() {
    for (case, answer, consecutive_responses, expected) in [
        ("a status", FAILED, Some(3), Some(1)),
        ("a status of gRPC", UNAVAILABLE, Some(3), Some(1)),
        ("responses do not count", FAILED, None, None),
    ] {
        let ejection = Ejection { consecutive_responses, ..Ejection::default() };
        let policy = BackendPolicy { ejection, ..BackendPolicy::default() };
        let endpoints = vec![plain(raw_server(answer).await), plain(raw_server(answer).await)];
        let (proxy, balancer) = with(endpoints, &policy);
        let mut client = proxy.client().await;
        for _request in 0..20 {
            client.get("/").await.unwrap();
        }
        let labels = BackendLabels { backend: Arc::clone(balancer.label()) };
        let ejected = proxy.dialer.metrics.ejected.family().get(&labels).map(|count| count.get());
        assert_eq!(ejected, expected, "case: {case}");
    }
}

#[tokio::test]
async fn an_idle_connection_to_one_endpoint_makes_room_for_one_to_another() {
    let limits = CircuitLimits { connections: 1, ..CircuitLimits::default() };
    let policy = BackendPolicy { balance: Balance::RoundRobin, limits, ..BackendPolicy::default() };
    let (proxy, _balancer) = with(endpoints(&servers().await), &policy);
    let mut client = proxy.client().await;
    let mut found = HashSet::new();
    for _turn in 0..6 {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        found.insert(answer.text);
    }
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn more_clients_than_connections_take_turns() {
    let limits = CircuitLimits { connections: 2, ..CircuitLimits::default() };
    let policy = BackendPolicy { limits, ..BackendPolicy::default() };
    let (proxy, _balancer) = with(endpoints(&servers().await), &policy);
    let clients = (0..8).map(|_client| async {
        let mut client = proxy.client().await;
        for _request in 0..5 {
            let answer = client.get("/").await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test]
async fn those_who_wait_for_one_endpoint_share_its_connections() {
    let limits = CircuitLimits { connections: 2, ..CircuitLimits::default() };
    let policy = BackendPolicy { limits, ..BackendPolicy::default() };
    let backend = Backend::new("one").await;
    let (proxy, _balancer) = with(vec![backend.endpoint()], &policy);
    let clients = (0..10).map(|_client| async {
        let mut client = proxy.client().await;
        for _request in 0..20 {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
    });
    futures_util::future::join_all(clients).await;
    // Only one that comes back between two looks is closed.
    assert!(backend.connections() <= 20, "{} for 200 requests", backend.connections());
}

#[tokio::test]
async fn a_full_queue_and_a_wait_in_vain_are_told_apart() {
    let limits = CircuitLimits {
        requests: 1,
        pending: 1,
        pending_timeout: Duration::from_millis(200),
        ..CircuitLimits::default()
    };
    let policy = BackendPolicy { limits, ..BackendPolicy::default() };
    let silent = super::breaking::silent_server().await;
    let (proxy, balancer) = with(vec![plain(silent)], &policy);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let (mut held, mut waits, mut refused) =
        (proxy.client().await, proxy.client().await, proxy.client().await);
    let held = held.get("/");
    let others = async {
        until("it is under way", || endpoint.load() == 1).await;
        let waits = waits.get("/");
        let refused = async {
            until("one waits", || endpoint.backend().queue.len() == 1).await;
            refused.get("/").await.unwrap()
        };
        let (waited, refused) = tokio::join!(waits, refused);
        (waited.unwrap(), refused)
    };
    let (waited, refused) = tokio::select! {
        _answered = held => panic!("the server is silent"),
        others = others => others,
    };
    assert_eq!(
        (waited.status, &waited.headers[ERROR_HEADER]),
        (503, &"queue_timeout".parse().unwrap())
    );
    assert_eq!(
        (refused.status, &refused.headers[ERROR_HEADER]),
        (503, &"overloaded".parse().unwrap())
    );
}

#[tokio::test]
async fn a_workload_takes_as_many_requests_as_its_limit_by_now() {
    let backend = Backend::new("application").await;
    let proxy = Proxy::to(Vec::new());
    let limits: Arc<crate::balance::rate_limit::RateLimits> = Arc::default();
    let call = InboundCall {
        dialer: Arc::clone(&proxy.dialer),
        application: balancer("application", vec![backend.endpoint()]),
        original: backend.address,
        version: HttpVersion::Http1,
        caller: Caller::Plaintext,
        limits: Arc::clone(&limits),
        places: places(),
        probes: None,
    };
    let stream = proxy.serve(inbound(call), HttpVersion::Http1, None).await;
    let mut client = Client::new(stream).await;
    assert_eq!(client.get("/").await.unwrap().status, 200, "there is no limit");
    limits.set(&[RateLimit {
        port: None,
        requests: 1,
        interval: Duration::from_secs(3600),
        burst: 2,
        scope: RateLimitScope::Caller,
    }]);
    for expected in [200, 200, 429, 429] {
        assert_eq!(client.get("/").await.unwrap().status, expected);
    }
    let refused = client.get("/").await.unwrap();
    assert_eq!(refused.headers[ERROR_HEADER], "rate_limited");
    let wait: u64 = refused.headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    let grpc = http::Request::post("/").header("content-type", "application/grpc");
    let refused = client.send(grpc).await.unwrap();
    assert_eq!((refused.status, &refused.headers["grpc-status"]), (200, &"8".parse().unwrap()));
    limits.set(&[]);
    assert_eq!(client.get("/").await.unwrap().status, 200, "the same connection goes on");
}

/// Answers each request with half of a body, and with the rest when it is let to.
async fn halting(goes_on: Arc<tokio::sync::Semaphore>) -> SocketAddr {
    listen(loopback(), move |mut stream, _number| {
        let goes_on = Arc::clone(&goes_on);
        async move {
            let mut head = vec![0; 4096];
            while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                let half = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";
                stream.write_all(half).await.unwrap();
                goes_on.acquire().await.unwrap().forget();
                stream.write_all(b"cd").await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_caller_has_no_more_than_its_places_until_an_answer_has_ended() {
    let goes_on = Arc::new(tokio::sync::Semaphore::new(0));
    let address = halting(Arc::clone(&goes_on)).await;
    let proxy = Proxy::to(Vec::new());
    let application = balancer("application", vec![plain(address)]);
    let callers = crate::balance::callers::Callers::default();
    let connect = |caller: Caller| {
        let call = InboundCall {
            dialer: Arc::clone(&proxy.dialer),
            application: Arc::clone(&application),
            original: address,
            version: HttpVersion::Http1,
            limits: Arc::default(),
            places: callers.places_of(address, caller.identity(), 2),
            probes: None,
            caller,
        };
        proxy.serve(inbound(call), HttpVersion::Http1, None)
    };
    let known = Caller::Mutual { caller: identity("web"), own: identity("api") };
    let mut first = connect(Caller::Plaintext).await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"ab") {
        head.push(first.read_u8().await.unwrap());
    }
    let mut second = Client::new(connect(Caller::Plaintext).await).await;
    let refused = tokio::time::timeout(Duration::from_secs(10), second.get("/")).await;
    let refused = refused.expect("it got a place").unwrap();
    let reason = &refused.headers[ERROR_HEADER];
    assert_eq!((refused.status, reason), (503, &"overloaded".parse().unwrap()));
    goes_on.add_permits(1000);
    let mut known = Client::new(connect(known).await).await;
    assert_eq!(known.get("/").await.unwrap().status, 200, "who is known has its own");
    // The proxy may know a moment later than the client that the answer has ended.
    let served = async {
        while second.get("/").await.unwrap().status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("the place comes back");
}

#[tokio::test]
async fn a_client_that_was_idle_for_half_a_minute_is_served_over_what_is_open() {
    let backend = Backend::new("one").await;
    let (proxy, _balancer) = with(vec![backend.endpoint()], &BackendPolicy::default());
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert_eq!(backend.connections(), 1);
}
