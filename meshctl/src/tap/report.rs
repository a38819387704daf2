//! A request as machines get it: one JSON object. The fields are stable; docs/tap.md has them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_proto::tap as wire;
use serde::Serialize;

use crate::tap::arguments::grpc_name;

/// A request and its response, as one proxy saw them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// When it began, in seconds since 1970.
    pub time: f64,
    /// Seen from the workload: `inbound` or `outbound`.
    pub direction: &'static str,
    /// Whose proxy saw it.
    pub workload: Workload,
    /// The identity at the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// `mtls` or `plaintext`.
    pub tls: &'static str,
    /// As it is written.
    pub method: String,
    /// Whom it is for.
    pub authority: String,
    /// Without the query.
    pub path: String,
    /// `1.0`, `1.1` or `2`.
    pub http_version: String,
    /// The HTTP status.
    pub status: u32,
    /// Of a call of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<String>,
    /// Why the proxy failed it: a word of docs/errors.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was called, as `namespace/name:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What it was routed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The name of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Who answered, or was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// From the head of the request.
    pub seconds: Seconds,
    /// Of its body.
    pub request_bytes: u64,
    /// Of the response's.
    pub response_bytes: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether all of the response has passed.
    pub whole: bool,
    /// With --headers; `null` is what is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// In hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// What owns a pod, and the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The namespace.
    pub namespace: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The pod.
    pub pod: String,
    /// The pod's SPIFFE ID.
    pub identity: String,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The pod's name; empty: it is none.
    pub pod: String,
    /// Its address and port.
    pub address: String,
}

/// How long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seconds {
    /// To the head of the response.
    pub to_head: f64,
    /// To the end of both bodies.
    pub total: f64,
    /// What of `to_head` the proxy itself took; absent: nobody answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<f64>,
}

/// Names and values; of several of one name the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// The request's.
    pub request: BTreeMap<String, Option<String>>,
    /// The response's.
    pub response: BTreeMap<String, Option<String>>,
}

/// Where it is in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Its id.
    pub trace_id: String,
    /// The proxy's part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// What that is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
}

impl Exchange {
    /// What was told; `with_headers` where they were asked for.
    pub fn new(told: &wire::Exchange, with_headers: bool) -> Self {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let workload = told.workload.clone().unwrap_or_default();
        let wire::Workload { namespace, kind, name, pod, identity } = workload;
        let endpoint = (!told.endpoint_address.is_empty()).then(|| Endpoint {
            pod: told.endpoint_pod.clone(),
            address: told.endpoint_address.clone(),
        });
        Self {
            time: seconds(told.began_unix_nanos),
            direction: direction(told.side()),
            workload: Workload { namespace, kind, name, pod, identity },
            peer: some(&told.peer),
            tls: if told.mtls { "mtls" } else { "plaintext" },
            method: told.method.clone(),
            authority: told.authority.clone(),
            path: told.path.clone(),
            http_version: told.http_version.clone(),
            status: told.status,
            grpc_status: told.grpc_status.map(grpc_name),
            error: some(&told.error),
            service: some(&told.service),
            backend: some(&told.backend),
            route: some(&told.route),
            endpoint,
            seconds: Seconds {
                to_head: seconds(told.to_head_nanos),
                total: seconds(told.took_nanos),
                proxy: proxy_nanos(told).map(seconds),
            },
            request_bytes: told.request_bytes,
            response_bytes: told.response_bytes,
            attempts: told.attempts,
            whole: told.is_whole,
            headers: with_headers.then(|| Headers {
                request: headers(&told.request_headers),
                response: headers(&told.response_headers),
            }),
            trace: told.trace.as_ref().map(|ids| Trace {
                trace_id: hex(&ids.trace),
                span_id: some(&hex(&ids.span)),
                parent_id: some(&hex(&ids.parent)),
            }),
        }
    }
}

/// What a proxy itself took of the time to the response's head.
pub fn proxy_nanos(told: &wire::Exchange) -> Option<u64> {
    told.answered_in_nanos.map(|answered| told.to_head_nanos.saturating_sub(answered))
}

/// Whether it failed, as people see it.
pub fn is_failure(told: &wire::Exchange) -> bool {
    let grpc = told.grpc_status.is_some_and(|status| status != 0);
    told.status >= 500 || !told.error.is_empty() || grpc || !told.is_whole
}

/// `inbound` or `outbound`.
pub fn direction(side: wire::Side) -> &'static str {
    match side {
        wire::Side::Inbound => "inbound",
        wire::Side::Outbound => "outbound",
        wire::Side::Unspecified => "unknown",
    }
}

/// Of nanoseconds.
pub fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// In lower case; empty for nothing.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn headers(all: &[wire::Header]) -> BTreeMap<String, Option<String>> {
    all.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
}

/// A line of `--output json`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// A request that is over.
    Exchange(Box<Exchange>),
    /// Who looks, when that has changed.
    Looking {
        /// Proxies.
        proxies: u32,
        /// Pods that have none.
        without_proxy: u32,
    },
    /// So many were left out since the tap began.
    LeftOut {
        /// How many.
        left_out: u64,
    },
    /// The last line.
    End(Sum),
}

/// What a tap came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Requests shown.
    pub exchanges: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Requests that matched and were left out.
    pub left_out: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Why it ended.
    pub reason: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
        told.trace =
            Some(wire::TraceIds { trace: vec![0xab; 16], span: vec![1; 8], parent: vec![] });
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
}
