//! What is known of one request when it is over, for whoever wants to know of single requests: see
//! witness.rs. What is measured of all requests is in account.rs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use heddle_model::endpoint::ExpectedPeer;
use heddle_model::identity::SpiffeId;
use http::{HeaderMap, Method, Request, Version};

use crate::balance::endpoint::BalancedEndpoint;
use crate::http::body::Body;
use crate::http::grpc::GrpcStatus;
use crate::metrics::{Direction, Protection};

/// A request that is over: its response's last byte has passed, or will not.
#[derive(Debug)]
pub struct CallRecord<'a> {
    /// What it began with.
    pub head: &'a CallHead,
    /// What became of it.
    pub end: &'a CallEnd,
    /// From its head to that of the response.
    pub took_to_head: Duration,
    /// From its head to the end of both bodies.
    pub took: Duration,
    /// From when it was sent to whoever answered it to the head of the answer: what the proxy itself
    /// took is the rest of `took_to_head`. `None`: nobody answered.
    pub answered_in: Option<Duration>,
    /// How often it was sent to an endpoint, or tried to be.
    pub attempts: u32,
    /// Of its body.
    pub request_bytes: u64,
    /// Of the response's.
    pub response_bytes: u64,
    /// Whether all of the response has passed.
    pub is_whole: bool,
    /// The response's headers, if they were wanted.
    pub response_headers: Option<&'a HeaderMap>,
}

/// What a request begins with, as it came: nothing of it has passed the gate.
#[derive(Debug)]
pub struct CallHead {
    /// When.
    pub began_at: SystemTime,
    /// Seen from the workload.
    pub direction: Direction,
    /// As it is written.
    pub method: Method,
    /// What was spoken.
    pub version: Version,
    /// Whom it is for: the target's authority, else the header `host`, without a name and password
    /// before it. At most [`TEXT_LIMIT`] bytes; empty: it does not say, or in no text.
    pub authority: Box<str>,
    /// Without the query, at most [`TEXT_LIMIT`] bytes.
    pub path: Box<str>,
    /// At most [`TEXT_LIMIT`] bytes; empty: it does not say, or in no text.
    pub user_agent: Box<str>,
    /// What was called, as `namespace/name:port`; empty for inbound.
    pub service: Arc<str>,
    /// Inbound: who called, by its certificate; empty: nobody known.
    pub caller: Arc<str>,
    /// Its headers, if they were wanted.
    pub headers: Option<HeaderMap>,
    /// Where it is in a trace, if it is in one.
    pub trace: Option<TraceIds>,
    /// What others keep beside the trace, of a request whose span is recorded; empty: nothing.
    pub trace_state: Box<str>,
}

/// A good `tracestate`, bounded. A witness leaves it as an extension of the request whose span it records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(pub Box<str>);

/// Where a request is in a trace. A witness leaves it as an extension of the request. Source: W3C Trace
/// Context, section 3.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceIds {
    /// Of the trace; not all zero.
    pub trace: [u8; 16],
    /// Of this proxy's part in it; not all zero.
    pub span: [u8; 8],
    /// Of what this is a part of; `None`: the trace begins here.
    pub parent: Option<[u8; 8]>,
    /// Whether its spans are recorded.
    pub is_sampled: bool,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct CallEnd {
    /// The HTTP status.
    pub status: u16,
    /// If it was a call of gRPC.
    pub grpc_status: GrpcStatus,
    /// On the hop between proxies.
    pub tls: Protection,
    /// Why it failed in this proxy; empty if it did not.
    pub error: &'static str,
    /// What it was routed to, as `namespace/name:port`; empty: nothing.
    pub backend: Arc<str>,
    /// The name of the route's object; empty: none.
    pub route: Arc<str>,
    /// Who answered, or was asked last.
    pub endpoint: Option<Arc<BalancedEndpoint>>,
}

impl CallEnd {
    /// Whom the endpoint had to prove to be, if it has a proxy.
    pub fn server(&self) -> Option<&SpiffeId> {
        match &self.endpoint.as_ref()?.endpoint.peer {
            ExpectedPeer::Plaintext => None,
            ExpectedPeer::Mesh { identity, .. } => Some(identity),
        }
    }
}

impl CallHead {
    /// Of a request that has just come.
    pub fn new(
        request: &mut Request<Body>,
        began_at: SystemTime,
        direction: Direction,
        (service, caller): (&Arc<str>, &Arc<str>),
        with_headers: bool,
    ) -> Self {
        let trace = request.extensions_mut().remove();
        let trace_state = request.extensions_mut().remove::<TraceState>();
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let uri = request.uri();
        let authority = uri.authority().map(http::uri::Authority::as_str);
        Self {
            began_at,
            direction,
            method: request.method().clone(),
            version: request.version(),
            authority: bounded(without_user(
                authority.or_else(|| text(http::header::HOST)).unwrap_or_default(),
            )),
            path: bounded(uri.path()),
            user_agent: bounded(text(http::header::USER_AGENT).unwrap_or_default()),
            service: Arc::clone(service),
            caller: Arc::clone(caller),
            headers: with_headers.then(|| request.headers().clone()),
            trace,
            trace_state: trace_state.map(|TraceState(state)| state).unwrap_or_default(),
        }
    }
}

/// A name and password are nobody's business who reads of the request.
fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_secret, rest)| rest)
}

fn bounded(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(TEXT_LIMIT)).unwrap_or_default().into()
}

/// What is noted of a request on its way, by whoever sends it. Clones share it; it travels as an
/// extension of the request, and of its copies.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    attempts: AtomicU32,
    /// Zero: nobody has answered.
    answered_in_nanos: AtomicU64,
}

impl Notes {
    /// It is about to be sent, once more.
    pub fn count_attempt(&self) {
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered, so long after it was sent.
    pub fn answered_in(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.0.answered_in_nanos.store(nanos, Ordering::Relaxed);
    }

    /// How often it was sent, and how long the last answer took.
    pub fn read(&self) -> (u32, Option<Duration>) {
        let nanos = self.0.answered_in_nanos.load(Ordering::Relaxed);
        let answered_in = (nanos > 0).then(|| Duration::from_nanos(nanos));
        (self.0.attempts.load(Ordering::Relaxed), answered_in)
    }
}

/// How much is kept of what a client wrote, in bytes: as much as is of use to whoever reads it.
pub const TEXT_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_password_are_not_kept() {
        for (target, host, expected) in [
            ("http://user:pass@api:80/a", None, "api:80"),
            ("http://pass@api/", None, "api"),
            ("/a", Some("user:pass@api:80"), "api:80"),
            ("/a", Some("api"), "api"),
            ("/a", None, ""),
        ] {
            let mut request = Request::get(target);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let mut request = request.body(Body::empty()).unwrap();
            let names: Arc<str> = "".into();
            let began_at = SystemTime::UNIX_EPOCH;
            let head =
                CallHead::new(&mut request, began_at, Direction::Inbound, (&names, &names), false);
            assert_eq!(&*head.authority, expected, "case: {target} {host:?}");
        }
    }
}
