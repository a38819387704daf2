//! What is done to a request on its way, and to its response. Values only: the proxy applies them.

use std::time::Duration;

use crate::names::{Port, ServicePort};

/// One thing that is done. Source: Gateway API v1, HTTPRouteFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFilter {
    /// Changes the headers of the request.
    RequestHeaders(HeaderChange),
    /// Changes the headers of the response, also of one that the proxy itself gives.
    ResponseHeaders(HeaderChange),
    /// Answers with another location; nothing is sent to a backend.
    Redirect(Redirect),
    /// Changes where the request seems to be going.
    Rewrite(Rewrite),
    /// Sends a copy, whose response is thrown away.
    Mirror(Mirror),
    /// Answers browsers that ask which other origins may call.
    Cors(Cors),
}

impl HttpFilter {
    /// What it sends requests to, if it does.
    pub fn target(&self) -> Option<&ServicePort> {
        match self {
            Self::Mirror(mirror) => Some(&mirror.backend),
            Self::RequestHeaders(_)
            | Self::ResponseHeaders(_)
            | Self::Redirect(_)
            | Self::Rewrite(_)
            | Self::Cors(_) => None,
        }
    }
}

/// A change of headers: first what is set, then what is added, then what is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChange {
    /// Replace every value of the name.
    pub set: Vec<NamedValue>,
    /// Come beside the values that are there.
    pub add: Vec<NamedValue>,
    /// Names whose values are all removed.
    pub remove: Vec<String>,
}

/// A header's name and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    /// In any case.
    pub name: String,
    /// Without the spaces around it.
    pub value: String,
}

/// Another location. What is not set stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Without a port.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
    /// `None`: the well-known one of a new scheme, or the one that was called.
    pub port: Option<Port>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Where the request seems to be going. What is not set stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Without a port.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
}

/// A change of a path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The whole path becomes this.
    Full(String),
    /// The prefix that the rule matched becomes this; only in rules that match a prefix.
    Prefix(String),
}

/// A copy of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What copies are sent to.
    pub backend: ServicePort,
    /// Of how many requests.
    pub fraction: Fraction,
}

/// Which origins may call, and how. Source: the Fetch standard, "HTTP CORS protocol".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `*`, or origins such as `https://example.com` and `https://*.example.com`.
    pub allow_origins: Vec<String>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Headers of requests, or `*`.
    pub allow_headers: Vec<String>,
    /// Headers of responses that scripts may read, or `*`.
    pub expose_headers: Vec<String>,
    /// Whether requests may carry cookies and other credentials.
    pub allow_credentials: bool,
    /// How long a browser may remember the answer, in whole seconds.
    pub max_age: Duration,
}

/// Failures made on purpose, to find out how callers cope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Requests wait.
    pub delay: Option<FaultDelay>,
    /// Requests are answered instead of sent, after the delay if both hit.
    pub abort: Option<FaultAbort>,
}

/// A wait before a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// How long.
    pub duration: Duration,
    /// Of how many requests.
    pub fraction: Fraction,
}

/// An answer in place of a backend's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// 400 to 599; a gRPC request is answered with the gRPC status.
    pub status: u16,
    /// For gRPC requests, 1 to 16.
    pub grpc_status: u8,
    /// Of how many requests.
    pub fraction: Fraction,
}

/// A part of the whole, from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// All of it.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// `None` if it is more than the whole, or a part of nothing.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self { numerator, denominator })
    }

    /// How many of [`Self::denominator`].
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// Never zero.
    pub fn denominator(self) -> u32 {
        self.denominator
    }
}
