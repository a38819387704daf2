//! What load to make, and what came of it: what the harness and the load generator inside of the world tell each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::system::Service;

/// A load to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The name of the server.
    pub host: String,
    /// What to do.
    pub shape: Shape,
    /// How much of it.
    pub extent: Extent,
    /// Text to put into every request.
    pub marker: String,
    /// The processes whose use of CPU and memory is to be told.
    pub watched: Vec<u32>,
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// HTTP/1.1 requests, on each connection one after the other.
    Http1 {
        /// Connections at the same time.
        connections: u32,
    },
    /// HTTP/1.1 requests that are due at fixed times. A latency counts from when the request was due, so that a slow
    /// answer is felt by the requests behind it.
    Http1AtRate {
        /// Connections at the same time.
        connections: u32,
        /// Requests that are due per second.
        per_second: u32,
    },
    /// A new connection for each HTTP/1.1 request.
    Http1Connect {
        /// Connections at the same time.
        at_once: u32,
    },
    /// HTTP/2 requests.
    Http2 {
        /// Connections at the same time.
        connections: u32,
        /// Requests at the same time on each.
        streams: u32,
    },
    /// Unary calls as gRPC makes them: `POST`, a length-prefixed message both ways, trailers.
    Grpc {
        /// Connections at the same time.
        connections: u32,
        /// Calls at the same time on each.
        streams: u32,
    },
    /// A new TCP connection for a few bytes there and back.
    TcpConnect {
        /// Connections at the same time.
        at_once: u32,
    },
    /// A few bytes there and back on one connection.
    TcpPingPong,
    /// As many bytes as one connection takes.
    TcpBulk,
    /// HTTP/1.1 connections with one request each, which then stay open.
    Idle {
        /// Connections at the same time.
        connections: u32,
    },
}

impl Shape {
    /// Where it goes.
    pub fn service(self) -> Service {
        match self {
            Self::Http1 { .. }
            | Self::Http1AtRate { .. }
            | Self::Http1Connect { .. }
            | Self::Idle { .. } => Service::Http1,
            Self::Http2 { .. } | Self::Grpc { .. } => Service::Http2,
            Self::TcpConnect { .. } => Service::Once,
            Self::TcpPingPong => Service::Echo,
            Self::TcpBulk => Service::Sink,
        }
    }

    /// How many connections are open at the same time.
    pub fn connections(self) -> u32 {
        match self {
            Self::Http1 { connections }
            | Self::Http1AtRate { connections, .. }
            | Self::Http2 { connections, .. }
            | Self::Grpc { connections, .. }
            | Self::Idle { connections }
            | Self::Http1Connect { at_once: connections }
            | Self::TcpConnect { at_once: connections } => connections,
            Self::TcpPingPong | Self::TcpBulk => 1,
        }
    }
}

/// How much load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// For so long.
    Time {
        /// Before anything is measured.
        warm: Duration,
        /// What is measured.
        measured: Duration,
    },
    /// So many requests, of which all count and no time is measured.
    Requests(u64),
}

/// What came of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// All exchanges that ended well, those outside of the measured time too.
    pub completed: u64,
    /// All that did not.
    pub failed: u64,
    /// Why the first of them did not.
    pub first_failure: Option<String>,
    /// Exchanges that ended well in the measured time.
    pub measured: u64,
    /// The bytes of those.
    pub measured_bytes: u64,
    /// How long the measured time was.
    pub elapsed: Duration,
    /// Half of the measured exchanges were faster.
    pub p50: Option<Duration>,
    /// All but one in a hundred were faster.
    pub p99: Option<Duration>,
    /// What the watched processes used in the measured time, in the order of the plan.
    pub usage: Vec<Usage>,
}

/// What a process used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of all its threads in the measured time.
    pub cpu: Duration,
    /// Its resident memory at the end of the measured time.
    pub resident_bytes: u64,
}
