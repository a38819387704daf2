//! What is done to each system, and which figures it yields.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::load::plan::{Extent, Shape};

/// One way to use a system.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// HTTP/1.1 with 64 connections, as fast as answers come.
    #[serde(rename = "http1_c64")]
    #[value(name = "http1_c64")]
    Http1C64,
    /// The same with 256 connections.
    #[serde(rename = "http1_c256")]
    #[value(name = "http1_c256")]
    Http1C256,
    /// The same with 1,000 connections.
    #[serde(rename = "http1_c1000")]
    #[value(name = "http1_c1000")]
    Http1C1000,
    /// HTTP/1.1 at 1,000 requests a second, which are due whatever became of those before.
    #[serde(rename = "http1_rate1000")]
    #[value(name = "http1_rate1000")]
    Http1Rate1000,
    /// gRPC-like calls over 4 connections with 10 streams each.
    Grpc,
    /// HTTP/2 over 4 connections with 100 streams each.
    #[serde(rename = "http2_4x100")]
    #[value(name = "http2_4x100")]
    Http2,
    /// A new connection for every HTTP/1.1 request.
    HttpConnect,
    /// A new connection for every byte.
    TcpConnect,
    /// One connection full of bytes.
    TcpBulk,
    /// One connection, 64 bytes there and back.
    #[serde(rename = "tcp_pingpong")]
    #[value(name = "tcp_pingpong")]
    TcpPingPong,
    /// How much memory the proxies keep.
    Memory,
    /// How soon a proxy is ready.
    Start,
}

/// How a scenario is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By this load on running proxies.
    Load(Shape),
    /// By starting the proxies anew, with several loads.
    Memory,
    /// By starting the proxies anew.
    Start,
}

impl Scenario {
    /// All, in the order of the tables.
    pub const ALL: [Self; 12] = [
        Self::Http1C64,
        Self::Http1C256,
        Self::Http1C1000,
        Self::Http1Rate1000,
        Self::Grpc,
        Self::Http2,
        Self::HttpConnect,
        Self::TcpConnect,
        Self::TcpBulk,
        Self::TcpPingPong,
        Self::Memory,
        Self::Start,
    ];

    /// Its name in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1C64 => "http1_c64",
            Self::Http1C256 => "http1_c256",
            Self::Http1C1000 => "http1_c1000",
            Self::Http1Rate1000 => "http1_rate1000",
            Self::Grpc => "grpc",
            Self::Http2 => "http2_4x100",
            Self::HttpConnect => "http_connect",
            Self::TcpConnect => "tcp_connect",
            Self::TcpBulk => "tcp_bulk",
            Self::TcpPingPong => "tcp_pingpong",
            Self::Memory => "memory",
            Self::Start => "start",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Http1C64 => "HTTP/1.1, 64 connections, saturated",
            Self::Http1C256 => "HTTP/1.1, 256 connections, saturated",
            Self::Http1C1000 => "HTTP/1.1, 1,000 connections, saturated",
            Self::Http1Rate1000 => "HTTP/1.1 at 1,000 requests a second, open loop",
            Self::Grpc => "gRPC-like unary calls, 4 connections × 10 streams",
            Self::Http2 => "HTTP/2, 4 connections × 100 streams",
            Self::HttpConnect => "a new HTTP/1.1 connection for every request",
            Self::TcpConnect => "a new TCP connection for every byte",
            Self::TcpBulk => "bulk TCP, one connection",
            Self::TcpPingPong => "TCP ping-pong, 64 bytes, one connection",
            Self::Memory => "resident memory of the client's proxy",
            Self::Start => "start and size",
        }
    }

    /// How it is carried out.
    pub fn method(self) -> Method {
        match self {
            Self::Http1C64 => Method::Load(Shape::Http1 { connections: 64 }),
            Self::Http1C256 => Method::Load(Shape::Http1 { connections: 256 }),
            Self::Http1C1000 => Method::Load(Shape::Http1 { connections: 1000 }),
            Self::Http1Rate1000 => {
                Method::Load(Shape::Http1AtRate { connections: 16, per_second: 1000 })
            }
            Self::Grpc => Method::Load(Shape::Grpc { connections: 4, streams: 10 }),
            Self::Http2 => Method::Load(Shape::Http2 { connections: 4, streams: 100 }),
            Self::HttpConnect => Method::Load(Shape::Http1Connect { at_once: 16 }),
            Self::TcpConnect => Method::Load(Shape::TcpConnect { at_once: 16 }),
            Self::TcpBulk => Method::Load(Shape::TcpBulk),
            Self::TcpPingPong => Method::Load(Shape::TcpPingPong),
            Self::Memory => Method::Memory,
            Self::Start => Method::Start,
        }
    }

    /// What it yields.
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Self::Http1C64
            | Self::Http1C256
            | Self::Http1C1000
            | Self::Grpc
            | Self::Http2
            | Self::HttpConnect
            | Self::TcpConnect
            | Self::TcpPingPong => &[
                Figure::PerSecond,
                Figure::ClientCpuUs,
                Figure::ServerCpuUs,
                Figure::P50Us,
                Figure::P99Us,
            ],
            Self::Http1Rate1000 => &[
                Figure::P50Us,
                Figure::P99Us,
                Figure::ClientCpuUs,
                Figure::ServerCpuUs,
                Figure::PerSecond,
            ],
            Self::TcpBulk => &[
                Figure::GbitPerSecond,
                Figure::ClientCpuSecondsPerGb,
                Figure::ServerCpuSecondsPerGb,
            ],
            Self::Memory => &[Figure::IdleMb, Figure::Busy256Mb, Figure::Idle1000Mb],
            Self::Start => &[Figure::ReadyMs, Figure::BinaryMb],
        }
    }

    /// How long it warms up, and how long it is measured.
    ///
    /// At a fixed rate it is measured for longer: 2.5 seconds are 2,500 requests, of which 25 tell the 99th percentile, and one
    /// delay of the machine's is as many.
    pub fn extent(self, quick: bool) -> Extent {
        let (warm, measured) = if quick {
            (50, 250)
        } else if self == Self::Http1Rate1000 {
            (700, 10_000)
        } else {
            (700, 2500)
        };
        let [warm, measured] = [warm, measured].map(Duration::from_millis);
        Extent::Time { warm, measured }
    }
}
