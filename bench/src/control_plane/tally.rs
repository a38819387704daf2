//! How one proxy connects: from an address of its own, so that what the control plane allows one address holds for each as
//! it would anywhere; and what it receives: bytes of TLS records, as they are on the wire. Reads nothing.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use heddle_proxy::control_plane::{self, Connect, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What came over all connections of one proxy. Clones share it.
#[derive(Clone, Debug)]
pub struct Tally {
    own: Ipv4Addr,
    received: Arc<AtomicU64>,
}

impl Tally {
    /// Of the proxy that calls from this address.
    pub fn new(own: Ipv4Addr) -> Self {
        Self { own, received: Arc::default() }
    }

    /// As a proxy connects, but from its address, and counted.
    pub fn connect(&self) -> Connect {
        let this = self.clone();
        Arc::new(move |address| {
            let Self { own, received } = this.clone();
            let connecting = async move {
                let socket = control_plane::socket(address, None)?;
                socket.bind((own, 0).into())?;
                let stream = socket.connect(address).await?;
                Ok(Box::new(Counted { stream, received }) as Stream)
            };
            connecting.boxed()
        })
    }

    /// Bytes from the control plane so far.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A connection, and what came over it.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len().saturating_sub(before);
        self.received.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_proxy_calls_from_its_own_address_and_what_it_receives_is_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tally = Tally::new(Ipv4Addr::new(127, 77, 0, 9));
        let connect = tally.connect();
        for told in [3, 7] {
            let mut stream = connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut accepted, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip(), Ipv4Addr::new(127, 77, 0, 9));
            stream.write_all(b"no matter").await.unwrap();
            accepted.write_all(&vec![1; told]).await.unwrap();
            drop(accepted);
            // The end of it may be a reset, since what was written was not read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        assert_eq!(tally.received_bytes(), 10);
    }
}
