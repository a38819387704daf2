//! How a call of gRPC ended: its status is in the trailers, or in the headers where there is no body.
//! The status is learnt as it passes; nothing is kept back for it.

use std::fmt;

use http::header::{CONTENT_TYPE, HeaderMap};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// A status of gRPC. Source: gRPC's "Status codes and their use".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// It succeeded.
    Ok,
    /// The caller gave up.
    Cancelled,
    /// None of the others; what a status means that nobody knows.
    Unknown,
    /// The call makes no sense.
    InvalidArgument,
    /// It was too late.
    DeadlineExceeded,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// Something has run out.
    ResourceExhausted,
    /// The call makes no sense now.
    FailedPrecondition,
    /// It lost against another.
    Aborted,
    /// The call is past the end.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// Something is broken.
    Internal,
    /// Nobody is there now.
    Unavailable,
    /// Something is lost for good.
    DataLoss,
    /// It is not known who calls.
    Unauthenticated,
}

impl Code {
    /// The number, as it is written in `grpc-status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "0",
            Self::Cancelled => "1",
            Self::Unknown => "2",
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::NotFound => "5",
            Self::AlreadyExists => "6",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::FailedPrecondition => "9",
            Self::Aborted => "10",
            Self::OutOfRange => "11",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
            Self::DataLoss => "15",
            Self::Unauthenticated => "16",
        }
    }

    /// The name, as gRPC's documents and OpenTelemetry's semantic conventions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Whether the server, or what is between, is to blame, so that the call counts as failed: in `/metrics`, in what
    /// is exported, in `meshctl stat` (`control-plane/src/telemetry/outcome.rs`) and in the rules of
    /// `install/observability` alike.
    /// Source: OpenTelemetry's semantic conventions for gRPC, of the status of server spans. Linkerd differs in two:
    /// a method that is missing (12) is no failure there, and a denied call (7) is one.
    pub fn blames_server(self) -> bool {
        match self {
            Self::Unknown
            | Self::DeadlineExceeded
            | Self::Unimplemented
            | Self::Internal
            | Self::Unavailable
            | Self::DataLoss => true,
            Self::Ok
            | Self::Cancelled
            | Self::InvalidArgument
            | Self::NotFound
            | Self::AlreadyExists
            | Self::PermissionDenied
            | Self::ResourceExhausted
            | Self::FailedPrecondition
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unauthenticated => false,
        }
    }

    /// What clients make of a number: those that nobody knows are [`Code::Unknown`].
    pub fn parse(text: &[u8]) -> Self {
        ALL.into_iter().find(|code| code.as_str().as_bytes() == text).unwrap_or(Self::Unknown)
    }

    /// The same, of a number.
    pub fn of_number(number: u8) -> Self {
        ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// What clients make of an answer that says nothing of gRPC. Source: gRPC's "HTTP to gRPC Status
    /// Code Mapping".
    fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// The label `grpc_status`: how a request ended, if it was a call of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrpcStatus {
    /// It was none: the label is empty.
    NotGrpc,
    /// It ended with this status, or with what clients make of an answer without one.
    Ended(Code),
    /// It broke off before there was a status.
    Broken,
}

impl GrpcStatus {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotGrpc => "",
            Self::Ended(code) => code.as_str(),
            Self::Broken => "broken",
        }
    }
}

impl From<Option<Code>> for GrpcStatus {
    fn from(code: Option<Code>) -> Self {
        code.map_or(Self::NotGrpc, Self::Ended)
    }
}

impl EncodeLabelValue for GrpcStatus {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// Whether a message is one of gRPC. Source: gRPC over HTTP/2, "Content-Type"; gRPC-Web, whose
/// trailers are in the body, is none.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_type_of_grpc(value.as_bytes()))
}

/// The same by what its `content-type` says.
pub fn is_type_of_grpc(value: &[u8]) -> bool {
    value
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status in headers or trailers, if it is there.
pub fn status_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS_HEADER).map(|value| Code::parse(value.as_bytes()))
}

/// What is known of a call when the head of its response is there: its status if that is all that
/// will be said of it, or `None` if it is in the trailers.
pub fn status_at_head(http_status: u16, headers: &HeaderMap) -> Option<Code> {
    status_in(headers).or_else(|| (!is_grpc(headers)).then(|| Code::of_http(http_status)))
}

/// The same by what the fields of a head say.
pub fn status_of(
    http_status: u16,
    content_type: Option<&[u8]>,
    grpc_status: Option<&[u8]>,
) -> Option<Code> {
    let is_grpc = content_type.is_some_and(is_type_of_grpc);
    grpc_status.map(Code::parse).or_else(|| (!is_grpc).then(|| Code::of_http(http_status)))
}

/// Learns how a call ended from what passes, and tells once. Dropped before the end: the caller gave
/// up.
pub struct Ending {
    learnt: Option<Code>,
    tell: Option<Box<dyn FnOnce(GrpcStatus) + Send + Sync>>,
}

impl Ending {
    /// Calls `tell` when the call has ended.
    pub fn new(tell: impl FnOnce(GrpcStatus) + Send + Sync + 'static) -> Self {
        Self { learnt: None, tell: Some(Box::new(tell)) }
    }

    /// Trailers pass.
    pub fn learn(&mut self, trailers: &HeaderMap) {
        self.learnt = status_in(trailers).or(self.learnt);
    }

    /// The body has come to its end.
    pub fn end(mut self) {
        // What clients make of an end without trailers.
        self.tell_once(GrpcStatus::Ended(self.learnt.unwrap_or(Code::Unknown)));
    }

    /// The body broke off.
    pub fn break_off(mut self) {
        self.tell_once(GrpcStatus::Broken);
    }

    fn tell_once(&mut self, status: GrpcStatus) {
        if let Some(tell) = self.tell.take() {
            tell(status);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // With the trailers there, nothing is missing.
        self.tell_once(GrpcStatus::Ended(self.learnt.unwrap_or(Code::Cancelled)));
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("learnt", &self.learnt).finish_non_exhaustive()
    }
}

const ALL: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];
const STATUS_HEADER: &str = "grpc-status";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use parking_lot::Mutex;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |&(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn servers_are_to_blame_for_what_opentelemetry_says() {
        let blamed = ALL.into_iter().filter(|code| code.blames_server());
        let blamed: Vec<&str> = blamed.map(Code::as_str).collect();
        // The same are in the rules of install/observability and in docs/observability.md.
        assert_eq!(blamed, ["2", "4", "12", "13", "14", "15"]);
    }

    #[test]
    fn a_call_is_known_by_its_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let headers = headers(&[("content-type", content_type)]);
            assert_eq!(is_grpc(&headers), expected, "case: {content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn every_number_is_a_code_and_others_are_unknown() {
        for (number, code) in ALL.into_iter().enumerate() {
            assert_eq!(code.as_str(), number.to_string());
            assert_eq!(Code::parse(number.to_string().as_bytes()), code);
            assert_eq!(Code::of_number(u8::try_from(number).unwrap()), code);
        }
        for text in ["17", "-1", "", "00", "4294967296"] {
            assert_eq!(Code::parse(text.as_bytes()), Code::Unknown, "case: {text:?}");
        }
    }

    #[test]
    fn the_head_of_a_response_says_all_or_nothing() {
        let grpc = ("content-type", "application/grpc");
        for (case, status, pairs, expected) in [
            ("trailers follow", 200, &[grpc][..], None),
            ("trailers only", 200, &[grpc, ("grpc-status", "5")], Some(Code::NotFound)),
            ("trailers only, well", 200, &[grpc, ("grpc-status", "0")], Some(Code::Ok)),
            ("not gRPC", 503, &[("content-type", "text/html")], Some(Code::Unavailable)),
            ("not gRPC, 404", 404, &[], Some(Code::Unimplemented)),
            ("not gRPC, 200", 200, &[], Some(Code::Unknown)),
        ] {
            assert_eq!(status_at_head(status, &headers(pairs)), expected, "case: {case}");
        }
    }

    #[test]
    fn an_ending_is_told_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let ending = |steps: &dyn Fn(Ending)| {
            let list = Arc::clone(&told);
            steps(Ending::new(move |status| list.lock().push(status.as_str())));
            std::mem::take(&mut *told.lock())
        };
        let trailers = |code| headers(&[("grpc-status", code)]);
        for (case, steps, expected) in [
            (
                "trailers and the end",
                &(|mut ending: Ending| {
                    ending.learn(&trailers("7"));
                    ending.end();
                }) as &dyn Fn(Ending),
                "7",
            ),
            ("trailers, and nobody asks further", &|mut ending| ending.learn(&trailers("0")), "0"),
            ("an end without trailers", &|ending| ending.end(), "2"),
            ("broken off", &|ending| ending.break_off(), "broken"),
            ("given up", &drop, "1"),
        ] {
            assert_eq!(ending(steps), [expected], "case: {case}");
        }
    }
}
