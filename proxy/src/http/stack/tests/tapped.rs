//! What taps are told of requests that pass.

use std::cell::Cell;

use heddle_model::tap::{Filter, Follow, Limits, Shown, Tap};
use http::HeaderMap;
use tokio::sync::mpsc;

use super::breaking::until;
use super::recorder::{Recorder, backend, rule};
use super::*;
use crate::http::witness::{Witness, Witnesses};
use crate::tap::{Taps, Telling};

async fn proxy(taps: &Arc<Taps>) -> (Proxy, Recorder) {
    let server = Recorder::new("server", &[200]).await;
    let rule = rule(Vec::new(), vec![backend("api-v1", 1, Vec::new())]);
    let proxy = Proxy::routing(vec![rule], vec![("api-v1", server.endpoints())]);
    let mut dialer = Arc::into_inner(proxy.dialer).unwrap();
    dialer.witnesses = Witnesses::new(vec![Arc::clone(taps) as Arc<dyn Witness>]);
    (Proxy { dialer: Arc::new(dialer), ..proxy }, server)
}

fn tap(prefix: &str) -> Tap {
    let filter = Filter { path_prefix: Some(prefix.into()), ..Filter::default() };
    let limits = Limits { per_second: 3, lifetime: Duration::from_secs(600) };
    let shown = Shown { headers: true, values: Vec::new() };
    Tap { filter, limits, shown, follow: None }
}

fn begin(taps: &Taps, tap: Tap, marks: bool, room: usize) -> mpsc::Receiver<Telling> {
    let (queue, found) = mpsc::channel(room);
    taps.begin(1, (tap, marks), queue).unwrap();
    found
}

fn newly_left_out(taps: &Taps) -> usize {
    let all = taps.left_out(tokio::time::Instant::now());
    usize::try_from(all.iter().map(|(_, left_out)| left_out).sum::<u64>()).unwrap()
}

#[tokio::test]
async fn a_tap_is_told_of_what_matches_without_secrets_and_within_its_rate() {
    let taps = Arc::new(Taps::default());
    let mut found = begin(&taps, tap("/a"), false, 100);
    let (proxy, _server) = proxy(&taps).await;
    proxy.ask(Request::get("/b?a")).await;
    let count = 10;
    for _ in 0..count {
        let request = Request::get("/a;id=hidden/b?token=hidden").header("cookie", "hidden");
        assert_eq!(proxy.ask(request).await.status, 200);
    }
    let left_out = Cell::new(0);
    until("all is told or counted", || {
        left_out.set(left_out.get() + newly_left_out(&taps));
        found.len() + left_out.get() == count
    })
    .await;
    let left_out = left_out.get();
    let mut told: Vec<Telling> = std::iter::from_fn(|| found.try_recv().ok()).collect();
    assert!(told.len() >= 3, "{} told, {left_out} left out", told.len());
    let (number, exchange) = told.remove(0);
    assert_eq!((number, exchange.path.as_str(), exchange.status), (1, "/a/b", 200));
    assert_eq!((exchange.service.as_str(), exchange.is_match), ("default/api:80", true));
    assert!(exchange.request_headers.iter().any(|header| header.name == "cookie"));
    assert!(!format!("{exchange:?}").contains("hidden"), "{exchange:?}");
}

#[tokio::test]
async fn what_is_not_taken_is_counted_and_keeps_no_request() {
    let taps = Arc::new(Taps::default());
    let found = begin(&taps, tap("/"), false, 1);
    let (proxy, _server) = proxy(&taps).await;
    for _ in 0..3 {
        assert_eq!(proxy.ask(Request::get("/")).await.status, 200);
    }
    let left_out = Cell::new(0);
    until("two are counted", || {
        left_out.set(left_out.get() + newly_left_out(&taps));
        left_out.get() == 2
    })
    .await;
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_followed_request_carries_its_trace_to_whoever_is_asked() {
    let taps = Arc::new(Taps::default());
    let (proxy, server) = proxy(&taps).await;
    let heard = |server: &Recorder| -> HeaderMap { server.seen().pop().unwrap().headers };
    proxy.ask(Request::get("/")).await;
    assert!(!heard(&server).contains_key("traceparent"), "nobody follows");
    let followed = Tap { follow: Some(Follow::Mark([0xab; 8])), ..tap("/a") };
    let mut found = begin(&taps, followed, true, 100);
    proxy.ask(Request::get("/b")).await;
    assert!(!heard(&server).contains_key("traceparent"), "it does not match");
    let marked = async {
        while !heard(&server).contains_key("traceparent") {
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.ask(Request::get("/a")).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), marked).await.expect("one is followed");
    let header = heard(&server)["traceparent"].to_str().unwrap().to_owned();
    assert!(header.starts_with("00-abababababababab"), "{header}");
    let (_, exchange) = found.recv().await.unwrap();
    let trace = exchange.trace.unwrap();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    assert_eq!(header, format!("00-{}-{}-00", hex(&trace.trace), hex(&trace.span)));
    assert_eq!(exchange.path, "/a");
}
