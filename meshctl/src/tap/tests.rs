//! The fields of `meshctl tap -o json`, and a request for other tests.

use heddle_proto::tap as wire;
use heddle_report::tap::{Exchange, Line, Sum};

/// A request that `pod` got or sent.
pub(crate) fn exchange(side: wire::Side, pod: &str, peer: &str) -> wire::Exchange {
    let identity = |account: &str| format!("spiffe://cluster.local/ns/shop/sa/{account}");
    wire::Exchange {
        workload: Some(wire::Workload {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: pod.rsplit_once('-').map_or(pod, |(name, _)| name).into(),
            pod: pod.into(),
            identity: identity(pod.split('-').next().unwrap_or_default()),
        }),
        side: side.into(),
        began_unix_nanos: 1_700_000_000_123_000_000,
        to_head_nanos: 3_000_000,
        took_nanos: 3_500_000,
        answered_in_nanos: Some(2_600_000),
        method: "GET".into(),
        authority: "api:8080".into(),
        path: "/items/7".into(),
        http_version: "1.1".into(),
        status: 200,
        mtls: true,
        peer: identity(peer),
        response_bytes: 512,
        attempts: 1,
        is_whole: true,
        is_match: true,
        ..wire::Exchange::default()
    }
}

#[test]
fn the_fields_are_stable() {
    let mut told = exchange(wire::Side::Outbound, "web-1", "api");
    told.service = "shop/api:8080".into();
    told.backend = "shop/api-v2:8080".into();
    told.route = "canary".into();
    told.endpoint_pod = "api-1".into();
    told.endpoint_address = "10.0.0.7:8080".into();
    told.grpc_status = Some(14);
    told.error = "no_endpoint".into();
    told.trace = Some(wire::TraceIds { trace: vec![0xab; 16], span: vec![1; 8], parent: vec![] });
    let header = |name: &str, value: Option<&str>| wire::Header {
        name: name.into(),
        value: value.map(ToOwned::to_owned),
    };
    told.request_headers = vec![header("accept", Some("*/*")), header("cookie", None)];
    let line = Line::Exchange(Box::new(Exchange::new(&told, true)));
    insta::assert_json_snapshot!(line);
    let plain = Exchange::new(&exchange(wire::Side::Inbound, "api-1", "web"), false);
    insta::assert_json_snapshot!("a_plain_one", Line::Exchange(Box::new(plain)));
    let sum = Sum { exchanges: 3, failures: 1, left_out: 2, seconds: 1.5, reason: "x".into() };
    insta::assert_json_snapshot!("the_end", Line::End(sum));
}
