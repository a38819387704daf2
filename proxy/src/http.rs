//! HTTP: serving a connection, routing its requests, and sending them on over pooled connections.

pub mod account;
mod attempt;
pub mod body;
pub mod breaker;
pub mod call_record;
pub mod client;
mod date;
pub mod expect;
pub mod fault;
pub mod filter;
pub mod frames;
pub mod gate;
pub mod group;
pub mod grpc;
pub mod headers;
pub mod hpack;
pub mod kept;
pub mod lane;
pub mod meter;
pub mod mirror;
pub mod mux;
pub mod outcome;
pub mod peer_settings;
pub mod pool;
pub mod progress;
pub mod resend;
pub mod respond;
pub mod retry;
pub mod route;
pub mod send;
pub mod server;
pub mod stack;
pub mod trace;
pub mod upgrade;
pub mod witness;

use http::{Request, Response};
use tower::util::BoxCloneSyncService;

use crate::http::body::Body;
use crate::http::respond::ProxyError;

/// What a server connection calls for each request. The error type is for failures that no response
/// can tell of; the stack answers all others itself.
pub type HttpService = BoxCloneSyncService<Request<Body>, Response<Body>, ProxyError>;

/// Which HTTP a connection speaks. Both hops speak the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}
