//! Copies of requests, whose originals must not notice them.

use bytes::Bytes;
use heddle_model::filter::{Fraction, HeaderChange, HttpFilter, Mirror, NamedValue};
use heddle_model::route::HttpRule;

use super::breaking::{silent_server, until};
use super::recorder::{Recorder, backend, rule};
use super::*;
use crate::http::kept::KEPT_LIMIT_BYTES;
use crate::http::mirror::{MIRROR_LIMIT, MirrorPlaces};
use crate::metrics::routes::MirrorOutcome;
use crate::testing::service;

fn mirror(name: &str, numerator: u32, denominator: u32) -> HttpFilter {
    let fraction = Fraction::new(numerator, denominator).unwrap();
    HttpFilter::Mirror(Mirror { backend: service(name), fraction })
}

fn mirrored(proxy: &Proxy, outcome: MirrorOutcome) -> u64 {
    proxy.dialer.metrics.routes.mirrored(outcome)
}

fn to_one(filters: Vec<HttpFilter>) -> HttpRule {
    rule(filters, vec![backend("api-v1", 1, Vec::new())])
}

#[tokio::test]
async fn every_mirror_gets_its_copy_as_it_was_sent_and_the_client_hears_the_original() {
    let [original, first, second] = [
        Recorder::new("original", &[200]).await,
        Recorder::new("first", &[500]).await,
        Recorder::new("second", &[200]).await,
    ];
    let change = HeaderChange {
        set: vec![NamedValue { name: "x-set".to_owned(), value: "1".to_owned() }],
        ..HeaderChange::default()
    };
    let of_backend = vec![mirror("second", 1, 1), HttpFilter::RequestHeaders(change)];
    let rule = rule(vec![mirror("first", 1, 1)], vec![backend("api-v1", 1, of_backend)]);
    let endpoints = vec![
        ("api-v1", original.endpoints()),
        ("first", first.endpoints()),
        ("second", second.endpoints()),
    ];
    let proxy = Proxy::routing(vec![rule], endpoints);
    for body in [&b""[..], b"body"] {
        let answer = proxy.upload(Request::post("/a?b"), body).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "original"));
    }
    until("all copies arrive", || mirrored(&proxy, MirrorOutcome::Answered) == 4).await;
    for server in [&original, &first, &second] {
        let mut bodies = Vec::new();
        for seen in server.seen() {
            assert_eq!(seen.target, "/a?b");
            assert_eq!(
                (&seen.headers["host"], &seen.headers["x-set"]),
                (&"api".parse().unwrap(), &"1".parse().unwrap())
            );
            bodies.push(seen.body);
        }
        bodies.sort();
        assert_eq!(bodies, [&b""[..], b"body"]);
    }
}

#[tokio::test]
async fn a_fraction_of_requests_is_copied() {
    let (original, copies) =
        (Recorder::new("original", &[200]).await, Recorder::new("copies", &[200]).await);
    let endpoints = || vec![("api-v1", original.endpoints()), ("copies", copies.endpoints())];
    let none = Proxy::routing(vec![to_one(vec![mirror("copies", 0, 100)])], endpoints());
    let half = Proxy::routing(vec![to_one(vec![mirror("copies", 1, 2)])], endpoints());
    let (mut client_of_none, mut client_of_half) = (none.client().await, half.client().await);
    for _request in 0..100 {
        client_of_none.get("/").await.unwrap();
        client_of_half.get("/").await.unwrap();
    }
    assert_eq!(mirrored(&none, MirrorOutcome::Answered), 0);
    // All but one in ten thousand million runs.
    until("half of them arrive", || mirrored(&half, MirrorOutcome::Answered) >= 20).await;
    assert!(copies.count() <= 80, "{}", copies.count());
}

#[tokio::test]
async fn a_mirror_that_is_dead_or_silent_does_not_touch_the_original() {
    let original = Recorder::new("original", &[200]).await;
    let dead = vec![plain(([127, 0, 0, 9], 9).into())];
    let silent = vec![plain(silent_server().await)];
    let filters = vec![mirror("dead", 1, 1), mirror("silent", 1, 1), mirror("empty", 1, 1)];
    let endpoints = vec![
        ("api-v1", original.endpoints()),
        ("dead", dead),
        ("silent", silent),
        ("empty", Vec::new()),
    ];
    let proxy = Proxy::routing(vec![to_one(filters)], endpoints);
    let mut client = proxy.client().await;
    let asking = async {
        for _request in 0..20 {
            assert_eq!(client.get("/").await.unwrap().text, "original");
        }
    };
    // Less than a silent mirror may take.
    tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap();
    until("the others have failed", || mirrored(&proxy, MirrorOutcome::Failed) == 40).await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_copied_and_passed_on_whole() {
    let (original, copies) =
        (Recorder::new("original", &[200]).await, Recorder::new("copies", &[200]).await);
    let endpoints = vec![("api-v1", original.endpoints()), ("copies", copies.endpoints())];
    let proxy = Proxy::routing(vec![to_one(vec![mirror("copies", 1, 1)])], endpoints);
    let body = Bytes::from(vec![7; KEPT_LIMIT_BYTES + 1]);
    assert_eq!(proxy.upload(Request::post("/"), body.clone()).await.status, 200);
    assert!(original.seen()[0].body == body);
    until("it is counted", || mirrored(&proxy, MirrorOutcome::BodyTooLong) == 1).await;
    assert_eq!(copies.count(), 0);
}

#[tokio::test]
async fn copies_beyond_the_places_are_dropped_and_counted() {
    let original = Recorder::new("original", &[200]).await;
    let silent = vec![plain(silent_server().await)];
    let endpoints = vec![("api-v1", original.endpoints()), ("silent", silent)];
    let proxy = Proxy::routing(vec![to_one(vec![mirror("silent", 1, 1)])], endpoints);
    let mut client = proxy.client().await;
    for _request in 0..MIRROR_LIMIT + 3 {
        assert_eq!(client.get("/").await.unwrap().text, "original");
    }
    assert_eq!(mirrored(&proxy, MirrorOutcome::TooMany), 3);
}

#[tokio::test]
async fn originals_that_are_slow_take_no_place_of_those_that_are_whole() {
    let [original, copies] =
        [Recorder::new("original", &[200]).await, Recorder::new("copies", &[200]).await];
    let endpoints = vec![("api-v1", original.endpoints()), ("copies", copies.endpoints())];
    let proxy = Proxy::routing(vec![to_one(vec![mirror("copies", 1, 1)])], endpoints);
    let places = MirrorPlaces::new(2, 1);
    let connect = || proxy.mirroring(HttpVersion::Http1, places.clone());
    let mut slow = Vec::new();
    for _upload in 0..3 {
        let mut stream = connect().await;
        let head = b"POST / HTTP/1.1\r\nhost: api\r\ncontent-length: 4\r\n\r\n";
        stream.write_all(head).await.unwrap();
        slow.push(stream);
    }
    until("one too many waits", || mirrored(&proxy, MirrorOutcome::TooMany) == 1).await;
    let mut client = Client::new(connect().await).await;
    for whole in 1..=3 {
        assert_eq!(client.get("/").await.unwrap().text, "original");
        until("it is copied", || mirrored(&proxy, MirrorOutcome::Answered) == whole).await;
    }
    // Those that waited are copied once they are whole, unless they have waited for too long.
    for stream in &mut slow {
        stream.write_all(b"body").await.unwrap();
    }
    let ended = || {
        let ends = [MirrorOutcome::Answered, MirrorOutcome::TimedOut, MirrorOutcome::TooMany];
        ends.map(|outcome| mirrored(&proxy, outcome)).iter().sum::<u64>()
    };
    until("all have ended", || ended() == 6).await;
    until("no original was held up", || original.count() == 6).await;
}
