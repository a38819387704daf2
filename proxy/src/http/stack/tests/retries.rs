//! Requests that are sent again, and those that are not.

use bytes::Bytes;
use heddle_model::route::{HttpRule, Retry};

use super::breaking::until;
use super::recorder::{Recorder, backend, rule};
use super::*;
use crate::http::kept::KEPT_LIMIT_BYTES;
use crate::metrics::routes::RetryOutcome;

fn retrying(attempts: u32, backoff_millis: u64, timeouts: Timeouts) -> HttpRule {
    let backoff = Duration::from_millis(backoff_millis);
    let retry = Some(Retry { codes: vec![503], attempts, backoff });
    HttpRule { retry, timeouts, ..rule(Vec::new(), vec![backend("api-v1", 1, Vec::new())]) }
}

fn proxy(rule: HttpRule, server: &Recorder) -> Proxy {
    Proxy::routing(vec![rule], vec![("api-v1", server.endpoints())])
}

fn retries(proxy: &Proxy, outcome: RetryOutcome) -> u64 {
    proxy.dialer.metrics.routes.retries(outcome)
}

#[tokio::test]
async fn a_code_that_is_named_is_tried_again_with_the_same_body() {
    for body in [&b""[..], b"a body that is kept"] {
        let server = Recorder::new("server", &[503, 503, 200]).await;
        let proxy = proxy(retrying(2, 1, Timeouts::default()), &server);
        let answer = proxy.upload(Request::post("/a?b").header("x-a", "1"), body).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "server"));
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        for seen in seen {
            assert_eq!((seen.target.as_str(), &seen.body[..]), ("/a?b", body));
            assert_eq!(
                (&seen.headers["x-a"], &seen.headers["host"]),
                (&"1".parse().unwrap(), &"api".parse().unwrap())
            );
        }
        assert_eq!(
            (retries(&proxy, RetryOutcome::Succeeded), retries(&proxy, RetryOutcome::Failed)),
            (1, 1)
        );
        assert_eq!(proxy.count(|_| true, &[labels("api-v1", 200)]), 1, "one request");
    }
}

#[tokio::test]
async fn the_last_answer_is_passed_on() {
    let server = Recorder::new("server", &[503]).await;
    let proxy = proxy(retrying(2, 1, Timeouts::default()), &server);
    let answer = proxy.ask(Request::get("/")).await;
    assert_eq!((answer.status, answer.text.as_str()), (503, "server"));
    assert_eq!(server.count(), 3);
    assert_eq!(retries(&proxy, RetryOutcome::Failed), 2);
}

#[tokio::test]
async fn what_is_not_named_is_not_tried_again() {
    for (rule, status) in [
        (retrying(2, 1, Timeouts::default()), &[500][..]),
        (retrying(0, 1, Timeouts::default()), &[503]),
        (HttpRule { retry: None, ..retrying(2, 1, Timeouts::default()) }, &[503]),
    ] {
        let server = Recorder::new("server", status).await;
        let answer = proxy(rule, &server).ask(Request::get("/")).await;
        assert_eq!(answer.status, status[0]);
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn another_attempt_goes_to_another_endpoint() {
    for _round in 0..10 {
        let (bad, good) = (Recorder::new("bad", &[503]).await, Recorder::new("good", &[200]).await);
        let endpoints = [bad.endpoints(), good.endpoints()].concat();
        let rule = retrying(1, 0, Timeouts::default());
        let proxy = Proxy::routing(vec![rule], vec![("api-v1", endpoints)]);
        for _request in 0..4 {
            assert_eq!(proxy.ask(Request::get("/")).await.text, "good");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_passed_on_whole_and_not_sent_again() {
    let server = Recorder::new("server", &[503, 200]).await;
    let proxy = proxy(retrying(2, 1, Timeouts::default()), &server);
    let body = Bytes::from(vec![7; KEPT_LIMIT_BYTES + 1]);
    assert_eq!(proxy.upload(Request::post("/"), body.clone()).await.status, 503);
    assert_eq!(server.count(), 1);
    assert!(server.seen()[0].body == body);
    assert_eq!(retries(&proxy, RetryOutcome::BodyNotKept), 1);
}

#[tokio::test]
async fn an_attempt_that_is_too_late_is_tried_again_if_that_is_safe() {
    // Nobody waits for as long as that: once an attempt has arrived, its time is made to pass.
    let limit = Duration::from_secs(30);
    for (method, count) in [("GET", 3), ("PUT", 3), ("POST", 1)] {
        let server = Recorder::slow("server", &[200], Duration::from_secs(3600)).await;
        let rule = retrying(2, 1, Timeouts { request: None, backend_request: Some(limit) });
        let proxy = proxy(rule, &server);
        let asking = proxy.upload(Request::builder().method(method).uri("/"), "body");
        let passing = async {
            for attempt in 1..=count {
                until("the attempt arrives", || server.count() == attempt).await;
                tokio::time::pause();
                tokio::time::advance(limit).await;
                tokio::time::resume();
            }
        };
        let (answer, ()) = tokio::join!(asking, passing);
        assert_eq!(answer.headers["x-heddle-error"], "backend_timeout", "case: {method}");
        assert_eq!(server.count(), count, "case: {method}");
    }
}

#[tokio::test]
async fn the_time_of_the_request_ends_all_attempts() {
    let server = Recorder::new("server", &[503]).await;
    let limit = Some(Duration::from_millis(100));
    let rule = retrying(100, 60, Timeouts { request: limit, backend_request: None });
    let answer = proxy(rule, &server).ask(Request::get("/")).await;
    assert_eq!(answer.headers["x-heddle-error"], "request_timeout");
    assert!((1..=2).contains(&server.count()), "{}", server.count());
}

#[tokio::test]
async fn what_could_not_be_connected_is_sent_again_whatever_its_body() {
    // Nobody listens at first: the address is taken, and closes what it accepts only later.
    let taken = listen(loopback(), |_stream, _number| async {}).await;
    let address = SocketAddr::from(([127, 0, 0, 8], taken.port()));
    let rule = retrying(50, 20, Timeouts::default());
    let proxy = Proxy::routing(vec![rule], vec![("api-v1", vec![plain(address)])]);
    let body = Bytes::from(vec![7; KEPT_LIMIT_BYTES * 2]);
    let asking = proxy.upload(Request::post("/"), body);
    let serving = async {
        while retries(&proxy, RetryOutcome::Failed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        crate::testing::Backend::at(address, "late").await
    };
    let (answer, _backend) = tokio::join!(asking, serving);
    assert_eq!((answer.status, answer.text.as_str()), (200, "late"));
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_if_that_is_safe() {
    let rule = || retrying(2, 1, Timeouts::default());
    for (request, status) in [(Request::get("/"), 200), (Request::post("/"), 502)] {
        let backend = listen(loopback(), |mut stream, number| async move {
            let _ = stream.read(&mut vec![0; 4096]).await;
            if number > 0 {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        })
        .await;
        let proxy = Proxy::routing(vec![rule()], vec![("api-v1", vec![plain(backend)])]);
        assert_eq!(proxy.ask(request).await.status, status);
    }
}
