//! What a client is told when the proxy itself has to answer: one exhaustive match from error to
//! status, reason and text. The reason is also the metric label and the header `x-heddle-error`; two
//! more headers say which proxy answers and which pod failed. What each reason means to who reads it
//! is in docs/errors.md.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode, Version};

use crate::connect::ConnectError;
use crate::http::body::Body;
use crate::http::gate::refusal::Refusal;
use crate::http::gate::response::Fault;
use crate::http::grpc::{Code, is_grpc};
use crate::metrics::Direction;

/// What a connection failed of: an error of the library that speaks HTTP, or of the connection itself.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request was not answered by its backend.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No rule of the service's routes matches.
    #[error("no route of {service} matches the request")]
    NoRoute {
        /// What was called.
        service: String,
    },
    /// The rule names no backend, or all weights are zero.
    #[error("the route of {service} has no backend")]
    NoBackend {
        /// What was called.
        service: String,
    },
    /// No endpoint of the backend is ready.
    #[error("{backend} has no ready endpoint")]
    NoEndpoint {
        /// The backend that was picked.
        backend: String,
    },
    /// What the connection was made to is refused by now.
    #[error("the destination is refused: {reason}")]
    Refused {
        /// As the control plane put it.
        reason: String,
    },
    /// What the connection was made to is not the mesh's any more.
    #[error("the destination is no longer in the mesh; connect again")]
    DestinationChanged,
    /// No connection to an endpoint could be made.
    #[error("cannot connect to an endpoint of {backend}")]
    Connect {
        /// The backend that was picked.
        backend: String,
        /// What happened on the last try.
        #[source]
        source: Box<ConnectError>,
    },
    /// The backend's connection failed after the request, or part of it, was sent.
    #[error("the connection to {backend} failed before it answered")]
    BackendLost {
        /// The backend that was picked.
        backend: String,
        /// What happened.
        #[source]
        source: Cause,
    },
    /// The client broke off while it was sending its request.
    #[error("the request broke off")]
    ClientLost {
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// The rule's limit for the whole request.
    #[error("no answer within the route's limit of {limit:?}")]
    RequestTimeout {
        /// As the route has it.
        limit: Duration,
    },
    /// The rule's limit for one attempt.
    #[error("no answer of the backend within the route's limit of {limit:?}")]
    BackendTimeout {
        /// As the route has it.
        limit: Duration,
    },
    /// As many requests as are allowed wait for this endpoint.
    #[error("too many requests wait for {backend}")]
    Overloaded {
        /// The backend that was picked.
        backend: String,
    },
    /// The request has waited for as long as it may for others to end.
    #[error("nothing under way to {backend} has ended in time")]
    QueueTimeout {
        /// The backend that was picked.
        backend: String,
    },
    /// The workload takes no more requests for now, of this caller or of all.
    #[error("too many requests; come again in {retry_after:?}")]
    RateLimited {
        /// When there is room for one.
        retry_after: Duration,
    },
    /// The caller's node may ask for other things only.
    #[error("the workload takes requests of the mesh only, and probes of its node")]
    Plaintext,
    /// The rule answers so on purpose.
    #[error("the route answers with a fault, on purpose")]
    FaultAbort {
        /// The answer.
        status: StatusCode,
        /// The answer to gRPC.
        grpc_status: u8,
    },
    /// The request does not pass the gate.
    #[error("the request is not valid: {refusal}")]
    BadRequest {
        /// The rule that it broke.
        refusal: Refusal,
    },
    /// The backend's answer could be read in two ways.
    #[error("the answer of {backend} has {fault}")]
    BadResponse {
        /// The backend that was picked.
        backend: String,
        /// What is wrong.
        fault: Fault,
    },
    /// The request asks for what the proxy cannot do.
    #[error("the proxy does not support {what}")]
    NotSupported {
        /// What it asks for.
        what: &'static str,
    },
    /// A broken invariant of our own.
    #[error("the proxy failed: {reason}")]
    Internal {
        /// Which one.
        reason: &'static str,
    },
}

/// How an error is told.
struct Telling {
    status: StatusCode,
    reason: &'static str,
    /// For gRPC, whose clients read no HTTP status. Source: gRPC's "Status codes and their use".
    grpc: Code,
}

impl ProxyError {
    fn telling(&self) -> Telling {
        let (status, reason, grpc) = match self {
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route", Code::Unimplemented),
            Self::NoBackend { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "no_backend", Code::Unavailable)
            }
            Self::NoEndpoint { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", Code::Unavailable)
            }
            Self::Refused { .. } => (StatusCode::SERVICE_UNAVAILABLE, "refused", Code::Unavailable),
            Self::DestinationChanged => {
                (StatusCode::SERVICE_UNAVAILABLE, "destination_changed", Code::Unavailable)
            }
            Self::Connect { source, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, source.reason(), Code::Unavailable)
            }
            Self::BackendLost { .. } => {
                (StatusCode::BAD_GATEWAY, "backend_lost", Code::Unavailable)
            }
            Self::ClientLost { .. } => (client_closed(), "client_lost", Code::Cancelled),
            Self::RequestTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "request_timeout", Code::DeadlineExceeded)
            }
            Self::BackendTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "backend_timeout", Code::DeadlineExceeded)
            }
            Self::Overloaded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", Code::ResourceExhausted)
            }
            Self::QueueTimeout { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "queue_timeout", Code::ResourceExhausted)
            }
            Self::RateLimited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", Code::ResourceExhausted)
            }
            Self::Plaintext => (StatusCode::FORBIDDEN, "plaintext", Code::PermissionDenied),
            Self::FaultAbort { status, grpc_status } => {
                (*status, "fault_abort", Code::of_number(*grpc_status))
            }
            Self::BadRequest { refusal } => (refusal.status(), refusal.reason(), Code::Internal),
            Self::BadResponse { .. } => {
                (StatusCode::BAD_GATEWAY, "bad_response", Code::Unavailable)
            }
            Self::NotSupported { .. } => {
                (StatusCode::NOT_IMPLEMENTED, "not_supported", Code::Unimplemented)
            }
            Self::Internal { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", Code::Internal)
            }
        };
        Telling { status, reason, grpc }
    }

    /// One word, from a closed set; docs/errors.md has them all.
    pub fn reason(&self) -> &'static str {
        self.telling().reason
    }

    /// Whether the request, or a part of it, has come to its backend.
    pub fn is_after_sending(&self) -> bool {
        matches!(self, Self::BackendLost { .. } | Self::BadResponse { .. })
    }

    /// Whether the client should connect again: its connection leads nowhere any more.
    fn ends_connection(&self) -> bool {
        match self {
            // What follows a request that does not pass could be part of it.
            Self::Refused { .. } | Self::DestinationChanged | Self::BadRequest { .. } => true,
            Self::NoRoute { .. }
            | Self::NoBackend { .. }
            | Self::NoEndpoint { .. }
            | Self::Connect { .. }
            | Self::BackendLost { .. }
            | Self::ClientLost { .. }
            | Self::RequestTimeout { .. }
            | Self::BackendTimeout { .. }
            | Self::Overloaded { .. }
            | Self::FaultAbort { .. }
            | Self::QueueTimeout { .. }
            | Self::RateLimited { .. }
            | Self::Plaintext
            | Self::BadResponse { .. }
            | Self::NotSupported { .. }
            | Self::Internal { .. } => false,
        }
    }
}

/// What is needed of a request to answer it in its own terms.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    version: Version,
    is_grpc: bool,
}

impl Asked {
    /// Reads it from a request's head.
    pub fn new<B>(request: &http::Request<B>) -> Self {
        Self { version: request.version(), is_grpc: is_grpc(request.headers()) }
    }

    /// Of a request of HTTP/1.1 that is no call of gRPC.
    pub fn of_http1() -> Self {
        Self { version: Version::HTTP_11, is_grpc: false }
    }

    /// Of a request of HTTP/2.
    pub fn of_http2(is_grpc: bool) -> Self {
        Self { version: Version::HTTP_2, is_grpc }
    }

    /// Whether it was a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// The gRPC status that the answer to an error has, if it has one.
    pub fn code(&self, error: &ProxyError) -> Option<Code> {
        self.is_grpc.then(|| error.telling().grpc)
    }
}

/// Who tells of an error, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Teller<'a> {
    /// Which of the two proxies of a request answers it.
    pub source: Direction,
    /// Who hears it.
    pub audience: Audience,
    /// The pod that the request was sent to last, if it came to one.
    pub pod: Option<&'a str>,
}

impl Teller<'_> {
    /// Where it is not known who asks.
    pub fn to_anybody(source: Direction) -> Self {
        Self { source, audience: Audience::Outsider, pod: None }
    }
}

/// Who hears of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The own application, or a peer that is authenticated: learns what failed, by name.
    Mesh,
    /// A plain caller, who may be anybody: learns the reason, and no name of a pod or service.
    Outsider,
}

/// The response that tells of an error. Only the text of the error itself is told, not its sources:
/// those hold addresses, which are for the log.
pub fn respond(error: &ProxyError, asked: Asked, teller: Teller<'_>) -> Response<Body> {
    let Telling { status, reason, grpc } = error.telling();
    let text = match (teller.audience, teller.pod) {
        (Audience::Outsider, _) => format!("the request failed: {reason}"),
        (Audience::Mesh, None) => error.to_string(),
        (Audience::Mesh, Some(pod)) => format!("{error} (pod {pod})"),
    };
    let mut response = if asked.is_grpc {
        trailers_only(grpc, &text)
    } else {
        let mut response = Response::new(Body::text(Bytes::from(text + "\n")));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    let headers = response.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(reason));
    headers.insert(SOURCE_HEADER, HeaderValue::from_static(teller.source.as_str()));
    if let ProxyError::RateLimited { retry_after } = error {
        // RFC 9110, section 10.2.3: whole seconds.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let (Audience::Mesh, Some(pod)) = (teller.audience, teller.pod) {
        name_peer(headers, pod);
    }
    if error.ends_connection() && asked.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says whose proxy it was that told of an error, if the response is one that does.
pub fn name_peer_of_error(headers: &mut HeaderMap, pod: &str) {
    if headers.contains_key(ERROR_HEADER) {
        name_peer(headers, pod);
    }
}

fn name_peer(headers: &mut HeaderMap, pod: &str) {
    // The name of a pod is a DNS name. What is none is not told.
    if let (false, Ok(pod)) = (pod.is_empty(), HeaderValue::from_str(pod)) {
        headers.insert(PEER_HEADER, pod);
    }
}

/// Removes what tells of an error from the response of somebody who is no proxy of the mesh: an
/// application that passes on another hop's error does not speak for its own proxy.
pub fn strip_error(headers: &mut HeaderMap) {
    for name in [ERROR_HEADER, SOURCE_HEADER, PEER_HEADER] {
        headers.remove(name);
    }
}

/// Source: gRPC over HTTP/2, "Responses": a status without a body is in the headers.
fn trailers_only(status: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status.as_str()));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Source: gRPC over HTTP/2, "Percent-Encoded".
fn percent_encode(message: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The status, in metrics, of requests whose client went away: nginx's "client closed request".
pub fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// On every answer that is a proxy's own: the reason.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-heddle-error");
/// Which proxy answers: the caller's (`outbound`) or that of the workload that was called
/// (`inbound`).
pub const SOURCE_HEADER: HeaderName = HeaderName::from_static("x-heddle-error-source");
/// The pod that failed, or whose proxy answers, if it came to one; for callers in the mesh only.
pub const PEER_HEADER: HeaderName = HeaderName::from_static("x-heddle-error-peer");

#[cfg(test)]
mod tests;
