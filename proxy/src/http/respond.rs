//! What a client is told when the proxy itself has to answer: one exhaustive match from error to
//! status, reason and text. The reason is also the metric label and the header `x-heddle-error`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

use crate::connect::ConnectError;
use crate::http::body::Body;
use crate::http::gate::refusal::Refusal;
use crate::http::gate::response::Fault;

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
        source: hyper::Error,
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
    grpc: GrpcStatus,
}

#[derive(Clone, Copy)]
enum GrpcStatus {
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    Unimplemented,
    Internal,
    Unavailable,
    /// As a route has it.
    Given(u8),
}

impl GrpcStatus {
    fn code(self) -> HeaderValue {
        let code = match self {
            Self::Given(code) => return HeaderValue::from(u16::from(code)),
            Self::Cancelled => "1",
            Self::DeadlineExceeded => "4",
            Self::ResourceExhausted => "8",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
        };
        HeaderValue::from_static(code)
    }
}

impl ProxyError {
    fn telling(&self) -> Telling {
        let (status, reason, grpc) = match self {
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route", GrpcStatus::Unimplemented),
            Self::NoBackend { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "no_backend", GrpcStatus::Unavailable)
            }
            Self::NoEndpoint { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", GrpcStatus::Unavailable)
            }
            Self::Refused { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "refused", GrpcStatus::Unavailable)
            }
            Self::DestinationChanged => {
                (StatusCode::SERVICE_UNAVAILABLE, "destination_changed", GrpcStatus::Unavailable)
            }
            Self::Connect { source, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, source.reason(), GrpcStatus::Unavailable)
            }
            Self::BackendLost { .. } => {
                (StatusCode::BAD_GATEWAY, "backend_lost", GrpcStatus::Unavailable)
            }
            Self::ClientLost { .. } => (client_closed(), "client_lost", GrpcStatus::Cancelled),
            Self::RequestTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "request_timeout", GrpcStatus::DeadlineExceeded)
            }
            Self::BackendTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "backend_timeout", GrpcStatus::DeadlineExceeded)
            }
            Self::Overloaded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", GrpcStatus::ResourceExhausted)
            }
            Self::FaultAbort { status, grpc_status } => {
                (*status, "fault_abort", GrpcStatus::Given(*grpc_status))
            }
            Self::BadRequest { refusal } => {
                (refusal.status(), refusal.reason(), GrpcStatus::Internal)
            }
            Self::BadResponse { .. } => {
                (StatusCode::BAD_GATEWAY, "bad_response", GrpcStatus::Unavailable)
            }
            Self::NotSupported { .. } => {
                (StatusCode::NOT_IMPLEMENTED, "not_supported", GrpcStatus::Unimplemented)
            }
            Self::Internal { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", GrpcStatus::Internal)
            }
        };
        Telling { status, reason, grpc }
    }

    /// One word, from a closed set.
    pub fn reason(&self) -> &'static str {
        self.telling().reason
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
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        Self {
            version: request.version(),
            is_grpc: content_type.is_some_and(|value| value.starts_with(b"application/grpc")),
        }
    }
}

/// The response that tells of an error. Only the text of the error itself is told, not its sources:
/// those hold addresses, which are for the log.
pub fn respond(error: &ProxyError, asked: Asked) -> Response<Body> {
    let Telling { status, reason, grpc } = error.telling();
    let mut response = if asked.is_grpc {
        trailers_only(grpc, &error.to_string())
    } else {
        let mut response = Response::new(Body::text(Bytes::from(format!("{error}\n"))));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    response.headers_mut().insert(ERROR_HEADER, HeaderValue::from_static(reason));
    if error.ends_connection() && asked.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Source: gRPC over HTTP/2, "Responses": a status without a body is in the headers.
fn trailers_only(status: GrpcStatus, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", status.code());
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

/// On every answer that is the proxy's own.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-heddle-error");

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn asked(version: Version, content_type: Option<&'static str>) -> Asked {
        let mut request = http::Request::new(());
        *request.version_mut() = version;
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Asked::new(&request)
    }

    fn every_error() -> Vec<(ProxyError, u16, &'static str, &'static str)> {
        let service = || "default/api:80".to_owned();
        let limit = Duration::from_secs(1);
        let backend = service;
        let address = ([10, 0, 0, 1], 80).into();
        let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
        vec![
            (ProxyError::NoRoute { service: service() }, 404, "no_route", "12"),
            (ProxyError::NoBackend { service: service() }, 500, "no_backend", "14"),
            (ProxyError::NoEndpoint { backend: backend() }, 503, "no_endpoint", "14"),
            (ProxyError::Refused { reason: "no port 81".to_owned() }, 503, "refused", "14"),
            (ProxyError::DestinationChanged, 503, "destination_changed", "14"),
            (
                ProxyError::Connect {
                    backend: backend(),
                    source: Box::new(ConnectError::Tcp { address, source: io() }),
                },
                503,
                "connect",
                "14",
            ),
            (
                ProxyError::Connect {
                    backend: backend(),
                    source: Box::new(ConnectError::Timeout { address, limit }),
                },
                503,
                "connect_timeout",
                "14",
            ),
            (ProxyError::RequestTimeout { limit }, 504, "request_timeout", "4"),
            (ProxyError::BackendTimeout { limit }, 504, "backend_timeout", "4"),
            (ProxyError::Overloaded { backend: backend() }, 503, "overloaded", "8"),
            (
                ProxyError::FaultAbort { status: StatusCode::IM_A_TEAPOT, grpc_status: 10 },
                418,
                "fault_abort",
                "10",
            ),
            (ProxyError::BadRequest { refusal: Refusal::HostMissing }, 400, "bad_request", "13"),
            (ProxyError::BadRequest { refusal: Refusal::HeadTimeout }, 408, "head_timeout", "13"),
            (
                ProxyError::BadResponse { backend: backend(), fault: Fault::LengthAndCoding },
                502,
                "bad_response",
                "14",
            ),
            (ProxyError::NotSupported { what: "a test" }, 501, "not_supported", "12"),
            (ProxyError::Internal { reason: "a test" }, 500, "internal", "13"),
        ]
    }

    #[test]
    fn every_error_has_its_status_and_reason() {
        for (error, status, reason, grpc) in every_error() {
            let response = respond(&error, asked(Version::HTTP_11, None));
            assert_eq!(response.status().as_u16(), status, "case: {error:?}");
            assert_eq!(response.headers()[ERROR_HEADER], reason, "case: {error:?}");
            let response = respond(&error, asked(Version::HTTP_2, Some("application/grpc+proto")));
            assert_eq!(response.status(), StatusCode::OK, "case: {error:?}");
            assert_eq!(response.headers()["grpc-status"], grpc, "case: {error:?}");
        }
    }

    #[test]
    fn a_connection_that_leads_nowhere_is_closed() {
        let error = ProxyError::Refused { reason: "gone".to_owned() };
        let response = respond(&error, asked(Version::HTTP_11, None));
        assert_eq!(response.headers()[CONNECTION], "close");
        let response = respond(&error, asked(Version::HTTP_2, None));
        assert!(!response.headers().contains_key(CONNECTION));
    }

    #[test]
    fn a_grpc_message_is_percent_encoded() {
        assert_eq!(percent_encode("50% of\n\u{e9}"), "50%25 of%0A%C3%A9");
    }
}
