//! What is measured: each figure's name, unit, and which direction is better.

use serde::{Deserialize, Serialize};

/// A measured figure. Its name ends in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Requests, connections or round trips per second.
    PerSecond,
    /// Median latency.
    P50Us,
    /// Latency that one in a hundred exceeds.
    P99Us,
    /// CPU time of the client's proxy per request, connection or round trip.
    ClientCpuUs,
    /// The same of the server's proxy.
    ServerCpuUs,
    /// Bytes through both proxies.
    GbitPerSecond,
    /// CPU seconds of the client's proxy per gigabyte.
    ClientCpuSecondsPerGb,
    /// The same of the server's proxy.
    ServerCpuSecondsPerGb,
    /// Resident memory of the client's proxy just after its start.
    IdleMb,
    /// The same with 256 connections under load.
    Busy256Mb,
    /// The same with 1,000 connections that are open and still.
    Idle1000Mb,
    /// From its start until it says that it is ready.
    ReadyMs,
    /// The program without symbols.
    BinaryMb,
}

impl Figure {
    /// The unit, with what it is of.
    pub fn title(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::ClientCpuUs => "client's proxy, CPU µs each",
            Self::ServerCpuUs => "server's proxy, CPU µs each",
            Self::GbitPerSecond => "Gbit/s",
            Self::ClientCpuSecondsPerGb => "client's proxy, CPU s/GB",
            Self::ServerCpuSecondsPerGb => "server's proxy, CPU s/GB",
            Self::IdleMb => "idle, MB",
            Self::Busy256Mb => "256 busy connections, MB",
            Self::Idle1000Mb => "1,000 idle connections, MB",
            Self::ReadyMs => "ready after, ms",
            Self::BinaryMb => "binary, MB",
        }
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        match self {
            Self::PerSecond | Self::GbitPerSecond => true,
            Self::P50Us
            | Self::P99Us
            | Self::ClientCpuUs
            | Self::ServerCpuUs
            | Self::ClientCpuSecondsPerGb
            | Self::ServerCpuSecondsPerGb
            | Self::IdleMb
            | Self::Busy256Mb
            | Self::Idle1000Mb
            | Self::ReadyMs
            | Self::BinaryMb => false,
        }
    }
}
