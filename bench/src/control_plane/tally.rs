//! Stands between one proxy and the control plane, gives the proxy an address of its own, and counts the bytes: of TLS
//! records, as they are on the wire. Reads nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_runtime::tasks::Tasks;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where one proxy connects to, and what went through.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Leads to the control plane.
    pub address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Tally {
    /// Listens at `own`, and connects from there.
    pub async fn start(
        own: Ipv4Addr,
        control_plane: SocketAddr,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((own, 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&received);
        let all = tasks.clone();
        tasks.spawn_quiet(async move {
            while let Ok((proxy, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                // When either end has gone, both have.
                all.spawn_quiet(async move {
                    let _ = carry(proxy, (own, control_plane), &counted).await;
                });
            }
        });
        Ok(Self { address, received })
    }

    /// Bytes from the control plane so far.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

async fn carry(
    proxy: TcpStream,
    (own, control_plane): (Ipv4Addr, SocketAddr),
    received: &AtomicU64,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((own, 0).into())?;
    let control_plane = socket.connect(control_plane).await?;
    proxy.set_nodelay(true)?;
    control_plane.set_nodelay(true)?;
    let unread = AtomicU64::new(0);
    tokio::select! {
        ended = copy(&proxy, &control_plane, &unread) => ended,
        ended = copy(&control_plane, &proxy, received) => ended,
    }
}

async fn copy(from: &TcpStream, to: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        from.readable().await?;
        let length = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        count.fetch_add(u64::try_from(length).unwrap_or_default(), Ordering::Relaxed);
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

const BUFFER_BYTES: usize = 8 << 10;
