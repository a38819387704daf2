//! Taps as requests meet them.

use std::time::Duration;

use heddle_model::tap::{Filter, Follow, Limits, Shown};

use super::*;
use crate::metrics::Direction;
use crate::tap::live::HEAD_START;

fn tap(filter: Filter) -> Tap {
    let limits = Limits { per_second: 10, lifetime: Duration::from_secs(60) };
    Tap { filter, limits, shown: Shown::default(), follow: None }
}

fn wants(taps: &Taps, path: &str) -> Interest {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    let asked = Asking { direction: Direction::Inbound, service: "", caller: "" };
    taps.wants(&mut request, &asked)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_wanted_before_a_tap_begins_and_after_it_ends() {
    let taps = Taps::default();
    let (queue, _found) = mpsc::channel(1);
    assert_eq!(wants(&taps, "/a"), Interest::Nothing);
    let filter = Filter { path_prefix: Some("/a".into()), ..Filter::default() };
    taps.begin(1, (tap(filter.clone()), false), queue.clone()).unwrap();
    assert_eq!(wants(&taps, "/a"), Interest::Call);
    assert_eq!(wants(&taps, "/b"), Interest::Nothing);
    let headers = Shown { headers: true, values: Vec::new() };
    taps.begin(2, (Tap { shown: headers, ..tap(filter) }, false), queue.clone()).unwrap();
    assert_eq!(wants(&taps, "/a"), Interest::Headers);
    taps.end(2);
    assert_eq!(wants(&taps, "/a"), Interest::Call);
    // The control plane is gone, and does not say that its time is over.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(wants(&taps, "/a"), Interest::Nothing);
    assert!(taps.is_tapped.load(Ordering::Relaxed));
    assert!(taps.left_out(Instant::now()).is_empty());
    assert!(!taps.is_tapped.load(Ordering::Relaxed), "it is taken away");
}

#[tokio::test(start_paused = true)]
async fn so_many_taps_are_looked_for_and_no_more() {
    let taps = Taps::default();
    let (queue, _found) = mpsc::channel(1);
    let begin = |number| taps.begin(number, (tap(Filter::default()), false), queue.clone());
    for number in 0..u64::try_from(TAPS_LIMIT).unwrap() {
        begin(number).unwrap();
    }
    assert_eq!(begin(99), Err(TooMany));
    begin(0).unwrap();
    taps.end(3);
    begin(99).unwrap();
    taps.clear();
    assert_eq!(wants(&taps, "/"), Interest::Nothing);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_are_put_into_a_trace() {
    let taps = Taps::default();
    let (queue, _found) = mpsc::channel(1);
    let followed = Tap { follow: Some(Follow::Mark([7; 8])), ..tap(Filter::default()) };
    taps.begin(1, (followed.clone(), true), queue.clone()).unwrap();
    assert_eq!(wants(&taps, "/"), Interest::Nothing, "others do not follow yet");
    tokio::time::advance(HEAD_START).await;
    let marked = (0..50).filter(|_| wants(&taps, "/") == Interest::Headers).count();
    assert_eq!(marked, 5);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(wants(&taps, "/"), Interest::Headers);
    // One that only follows begins none.
    taps.begin(1, (followed, false), queue).unwrap();
    assert_eq!(wants(&taps, "/"), Interest::Nothing);
}
