//! Requests of a tap as machines get them: a JSON object each. The fields are stable; docs/tap.md has them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_model::tap::typed::grpc_name;
use heddle_proto::tap as wire;
use schemars::JsonSchema;
use serde::Serialize;

/// A request and its response, as one proxy saw them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Endpoint {
    /// The pod's name; empty: it is none.
    pub pod: String,
    /// Its address and port.
    pub address: String,
}

/// How long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Headers {
    /// The request's.
    pub request: BTreeMap<String, Option<String>>,
    /// The response's.
    pub response: BTreeMap<String, Option<String>>,
}

/// Where it is in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
        /// Control planes that do not answer: what their proxies see is missing.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        silent_replicas: Vec<String>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
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

/// What of a tap was told so far, and so what is news.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    with_headers: bool,
    standing: wire::Standing,
    sum: Sum,
}

impl Telling {
    /// Nothing was told yet; `with_headers` where they were asked for.
    pub fn new(with_headers: bool) -> Self {
        Self { with_headers, ..Self::default() }
    }

    /// A request.
    pub fn exchange(&mut self, told: &wire::Exchange) -> Line {
        self.sum.exchanges += 1;
        self.sum.failures += u64::from(is_failure(told));
        Line::Exchange(Box::new(Exchange::new(told, self.with_headers)))
    }

    /// What is new of how the tap is.
    pub fn standing(&mut self, standing: wire::Standing) -> Vec<Line> {
        let last = std::mem::replace(&mut self.standing, standing);
        let known =
            |of: &wire::Standing| (of.proxies, of.without_proxy, of.silent_replicas.clone());
        let mut news = Vec::new();
        if known(&self.standing) != known(&last) {
            let (proxies, without_proxy, silent_replicas) = known(&self.standing);
            news.push(Line::Looking { proxies, without_proxy, silent_replicas });
        }
        // A replica that is not heard for a moment has still left out what it did.
        if self.standing.left_out > self.sum.left_out {
            self.sum.left_out = self.standing.left_out;
            news.push(Line::LeftOut { left_out: self.sum.left_out });
        }
        news
    }

    /// The last line, after so long.
    pub fn end(&mut self, reason: &str, after: Duration) -> Line {
        self.sum.reason = reason.to_owned();
        self.sum.seconds = after.as_secs_f64();
        Line::End(self.sum.clone())
    }

    /// What it comes to so far.
    pub fn sum(&self) -> &Sum {
        &self.sum
    }

    /// How it is.
    pub fn last(&self) -> &wire::Standing {
        &self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_told_again() {
        let standing = |proxies, left_out, silent: &[&str]| wire::Standing {
            proxies,
            left_out,
            silent_replicas: silent.iter().map(|name| (*name).to_owned()).collect(),
            ..wire::Standing::default()
        };
        let mut telling = Telling::new(false);
        for (case, standing, expected) in [
            ("nobody looks, as before", standing(0, 0, &[]), (false, None)),
            ("somebody looks", standing(2, 0, &[]), (true, None)),
            ("still", standing(2, 0, &[]), (false, None)),
            ("some are left out", standing(2, 7, &[]), (false, Some(7))),
            ("a replica is silent, and its count with it", standing(1, 3, &["a"]), (true, None)),
            ("it is back", standing(2, 9, &[]), (true, Some(9))),
        ] {
            let news = telling.standing(standing);
            let looking = news.iter().any(|line| matches!(line, Line::Looking { .. }));
            let left_out = news.iter().find_map(|line| match line {
                Line::LeftOut { left_out } => Some(*left_out),
                Line::Looking { .. } | Line::Exchange(_) | Line::End(_) => None,
            });
            assert_eq!((looking, left_out), expected, "case: {case}");
        }
        let failed = wire::Exchange { status: 503, is_whole: true, ..wire::Exchange::default() };
        telling.exchange(&failed);
        telling.exchange(&wire::Exchange { status: 200, ..failed.clone() });
        let Line::End(sum) = telling.end("x", Duration::from_secs(2)) else { panic!("no end") };
        assert_eq!((sum.exchanges, sum.failures, sum.left_out), (2, 1, 9));
    }
}
