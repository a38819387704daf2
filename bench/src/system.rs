//! What is compared, and where each stands. How each is configured is in `world`.

use serde::{Deserialize, Serialize};

/// One of the things that are compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// The same client and server on the same network with nothing in between.
    #[value(name = "no_mesh")]
    NoMesh,
    /// Heddle, as `heddle-local` runs it.
    Heddle,
    /// Two Envoys.
    Envoy,
    /// Two HAProxies.
    Haproxy,
    /// TLS and a copy loop, and nothing else: what no proxy can do for less.
    #[value(name = "bare_loop")]
    BareLoop,
}

impl System {
    /// All, in the order of the tables.
    pub const ALL: [Self; 5] =
        [Self::NoMesh, Self::Heddle, Self::Envoy, Self::Haproxy, Self::BareLoop];

    /// Its name in results, and of its pods where a name may have no underscore.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoMesh => "no_mesh",
            Self::Heddle => "heddle",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::BareLoop => "bare_loop",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::NoMesh => "no mesh",
            Self::Heddle => "Heddle",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::BareLoop => "bare loop",
        }
    }

    /// The pod on one side.
    pub fn pod(self, side: Side) -> String {
        format!("{}-{}", self.name().replace('_', "-"), side.name())
    }

    /// Whether there is anything between client and server.
    pub fn has_proxies(self) -> bool {
        match self {
            Self::NoMesh => false,
            Self::Heddle | Self::Envoy | Self::Haproxy | Self::BareLoop => true,
        }
    }
}

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Where requests come from.
    Client,
    /// Where they go to.
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A port that the application listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, gRPC among it.
    Http2,
    /// Sends back what it gets.
    Echo,
    /// Sends back what it gets first, and closes.
    Once,
    /// Takes everything and sends nothing.
    Sink,
}

impl Service {
    /// All.
    pub const ALL: [Self; 5] = [Self::Http1, Self::Http2, Self::Echo, Self::Once, Self::Sink];

    /// The application's port, which clients use.
    pub fn port(self) -> u16 {
        match self {
            Self::Http1 => 8080,
            Self::Http2 => 8081,
            Self::Echo => 9000,
            Self::Once => 9001,
            Self::Sink => 9002,
        }
    }

    /// `appProtocol` of the service's port.
    pub fn app_protocol(self) -> &'static str {
        match self {
            Self::Http1 => "http",
            Self::Http2 => "kubernetes.io/h2c",
            Self::Echo | Self::Once | Self::Sink => "tcp",
        }
    }

    /// Where the client's side listens for what is redirected to it; all but Heddle.
    pub fn outbound_port(self) -> u16 {
        self.port() + 12_000
    }

    /// Where the client's side connects to; all but Heddle, which keeps the application's port. A port of its own needs
    /// no exemption from the redirect, for which HAProxy 2.6 has no means.
    pub fn wire_port(self) -> u16 {
        self.port() + 10_000
    }

    /// Where the server's side listens for what is redirected to it; all but Heddle.
    pub fn inbound_port(self) -> u16 {
        self.port() + 14_000
    }
}

/// Where each proxy but Heddle's says over HTTP that it is ready.
pub const READY_PORT: u16 = 15_191;
/// Where the application says what it has counted; on loopback only.
pub const COUNTS_PORT: u16 = 15_192;
