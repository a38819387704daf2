//! Bytes without a protocol.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Target;

/// A connection that sends small messages at once.
pub async fn connect(target: &Target) -> Result<TcpStream> {
    let stream = TcpStream::connect(target.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A message there and back on a connection of its own, which the server closes.
pub async fn exchange_once(target: &Target) -> Result<u64> {
    let mut stream = connect(target).await?;
    stream.write_all(target.marker.as_bytes()).await.context("send a message")?;
    let mut back = Vec::with_capacity(target.marker.len() + 1);
    let mut limited = (&mut stream).take(MESSAGE_LIMIT_BYTES);
    limited.read_to_end(&mut back).await.context("read a message")?;
    ensure!(back == target.marker.as_bytes(), "another message came back");
    Ok(u64::try_from(back.len())?)
}

/// A connection to the echo.
pub struct PingPong {
    stream: TcpStream,
    message: Vec<u8>,
    back: Vec<u8>,
}

impl PingPong {
    /// A new one.
    pub async fn connect(target: &Arc<Target>) -> Result<Self> {
        let mut message = target.marker.clone().into_bytes();
        message.resize(MESSAGE_BYTES, b'.');
        Ok(Self { stream: connect(target).await?, back: vec![0; message.len()], message })
    }

    /// A message there and back.
    pub async fn exchange(&mut self) -> Result<u64> {
        self.stream.write_all(&self.message).await.context("send a message")?;
        self.stream.read_exact(&mut self.back).await.context("read a message")?;
        ensure!(self.back == self.message, "another message came back");
        Ok(u64::try_from(self.message.len())?)
    }
}

/// A connection to the sink.
pub struct Bulk {
    stream: TcpStream,
    chunk: Vec<u8>,
}

impl Bulk {
    /// A new one.
    pub async fn connect(target: &Arc<Target>) -> Result<Self> {
        Ok(Self { stream: connect(target).await?, chunk: vec![b'x'; CHUNK_BYTES] })
    }

    /// As much as fits at once.
    pub async fn exchange(&mut self) -> Result<u64> {
        self.stream.write_all(&self.chunk).await.context("send bytes")?;
        Ok(u64::try_from(self.chunk.len())?)
    }
}

const MESSAGE_BYTES: usize = 64;
const MESSAGE_LIMIT_BYTES: u64 = 1024;
const CHUNK_BYTES: usize = 128 * 1024;
