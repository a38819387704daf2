//! One client of any kind.

use std::sync::Arc;

use anyhow::Result;
use heddle_runtime::tasks::Tasks;

use super::Target;
use super::http1::Http1;
use super::http2::{self, Stream};
use super::plan::Shape;
use super::tcp::{Bulk, PingPong};
use super::{http1, tcp};

/// Something that exchanges, one exchange after the other.
pub enum Client {
    /// HTTP/1.1 on one connection.
    Http1(Http1),
    /// HTTP/1.1, each on a connection of its own.
    Http1Connect(Arc<Target>),
    /// A stream at a time of an HTTP/2 connection that it shares with others.
    Http2(Stream),
    /// Bytes there and back on one connection.
    PingPong(PingPong),
    /// The same, each on a connection of its own.
    TcpConnect(Arc<Target>),
    /// Bytes, one way.
    Bulk(Bulk),
}

impl Client {
    /// All clients of one connection.
    pub async fn connect(shape: Shape, target: &Arc<Target>, tasks: &Tasks) -> Result<Vec<Self>> {
        Ok(match shape {
            Shape::Http1 { .. } | Shape::Http1AtRate { .. } | Shape::Idle { .. } => {
                vec![Self::Http1(Http1::connect(target).await?)]
            }
            Shape::Http1Connect { .. } => vec![Self::Http1Connect(Arc::clone(target))],
            Shape::Http2 { streams, .. } => {
                let stream = http2::connect(target, http2::Kind::Get, tasks).await?;
                (0..streams).map(|_| Self::Http2(stream.clone())).collect()
            }
            Shape::Grpc { streams, .. } => {
                let stream = http2::connect(target, http2::Kind::Grpc, tasks).await?;
                (0..streams).map(|_| Self::Http2(stream.clone())).collect()
            }
            Shape::TcpConnect { .. } => vec![Self::TcpConnect(Arc::clone(target))],
            Shape::TcpPingPong => vec![Self::PingPong(PingPong::connect(target).await?)],
            Shape::TcpBulk => vec![Self::Bulk(Bulk::connect(target).await?)],
        })
    }

    /// One exchange; the bytes that it moved.
    pub async fn exchange(&mut self) -> Result<u64> {
        match self {
            Self::Http1(client) => client.exchange().await,
            Self::Http1Connect(target) => http1::exchange_once(target).await,
            Self::Http2(stream) => stream.exchange().await,
            Self::PingPong(client) => client.exchange().await,
            Self::TcpConnect(target) => tcp::exchange_once(target).await,
            Self::Bulk(client) => client.exchange().await,
        }
    }

    /// After a failure: a new connection where this client has one of its own.
    pub async fn reconnect(&mut self) -> Result<()> {
        match self {
            Self::Http1(client) => client.reconnect().await,
            Self::Http1Connect(_) | Self::TcpConnect(_) => Ok(()),
            Self::Http2(_) => anyhow::bail!("a shared connection broke"),
            Self::PingPong(_) | Self::Bulk(_) => anyhow::bail!("the connection broke"),
        }
    }
}
