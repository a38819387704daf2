//! What is measured of requests, and that no client can make series of its own.

use std::time::Duration;

use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::metrics::calls::CallSeries;
use crate::metrics::method::Method;

impl Proxy {
    fn calls(&self) -> Vec<Arc<CallSeries>> {
        self.dialer.metrics.calls.all()
    }

    /// All series, once there are so many sizes of responses in them.
    async fn measured(&self, responses: u64) -> Vec<Arc<CallSeries>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let all = self.calls();
            let count: u64 = all.iter().map(|series| series.response_sizes.count()).sum();
            if count >= responses {
                return all;
            }
            assert!(Instant::now() < deadline, "{count} of {responses}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn outbound(&self) -> HttpService {
        outbound(OutboundCall {
            dialer: Arc::clone(&self.dialer),
            destination: self.destination.subscribe(),
            original: ([10, 0, 0, 1], 80).into(),
            version: HttpVersion::Http1,
            service: "default/api:80".into(),
            mirrors: MirrorPlaces::default(),
        })
        .general
    }
}

#[tokio::test]
async fn a_request_is_measured_once_with_both_its_sizes() {
    let backend = Backend::new("one").await;
    let proxy = Proxy::to(vec![backend.endpoint()]);
    let mut client = proxy.client().await;
    for _request in 0..3 {
        assert_eq!(client.get("/").await.unwrap().text, "one");
    }
    let all = proxy.measured(3).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let series = &all[0];
    assert_eq!(series.labels.method, Method::Get);
    assert_eq!(series.labels.status, 200);
    assert_eq!(&*series.labels.group.service, "default/api:80");
    assert_eq!(&*series.labels.group.backend, "default/api:80");
    assert_eq!(series.durations.count(), 3);
    assert_eq!((series.request_sizes.count(), series.request_sizes.sum()), (3, 0.0));
    assert_eq!((series.response_sizes.count(), series.response_sizes.sum()), (3, 9.0));
    let active = proxy.dialer.metrics.active.all();
    assert_eq!(active.iter().map(|(_, gauge)| gauge.get()).sum::<i64>(), 0);
}

#[tokio::test]
async fn a_request_that_failed_is_measured_with_its_reason() {
    let proxy = Proxy::to(Vec::new());
    let call = proxy.outbound();
    let request = Request::get("/").header("host", "api").body(Body::empty()).unwrap();
    let response = call.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    drop(response);
    let all = proxy.measured(1).await;
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].labels.status, all[0].labels.error), (status, "no_endpoint"));
}

/// Neither hosts, nor paths, nor methods that nobody knows are told apart.
#[tokio::test]
async fn a_hundred_thousand_hosts_leave_the_number_of_series_unchanged() {
    let proxy = Proxy::to(Vec::new());
    proxy.destination.send_replace(Resolved::Refused { reason: "no such port".to_owned() });
    let call = proxy.outbound();
    let ask = |number: u32| {
        let request = Request::builder()
            .method(format!("M{}", number % 100).as_str())
            .uri(format!("/path/{number}"))
            .header("host", format!("host-{number}.example"))
            .header("user-agent", format!("agent/{number}"))
            .body(Body::empty())
            .unwrap();
        call.clone().oneshot(request)
    };
    let first = ask(0).await.unwrap();
    assert!(first.into_body().collect().await.is_ok());
    let shown = || {
        let names = proxy.calls().iter().map(|series| format!("{:?}", series.labels)).collect();
        let names: std::collections::BTreeSet<String> = names;
        names
    };
    let before = shown();
    assert_eq!(before.len(), 1, "{before:?}");
    for number in 1..100_000 {
        drop(ask(number).await.unwrap());
    }
    assert_eq!(shown(), before);
    let all = proxy.measured(100_000).await;
    assert_eq!(all[0].durations.count(), 100_000);
    assert_eq!(all[0].labels.method, Method::Other);
}
