//! The proxy's check at start: do the rules send connections to its outbound port, and do they know
//! its own connections? Opens real connections; reads no rules, which would need a capability that
//! a sidecar does not have.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;
use tokio::time;

use crate::redirect::plan::PROBE_ADDRESSES;

/// Why the proxy must assume that the workload's traffic passes it by.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody took the connection: there are no rules here, or they were made for another outbound
    /// port, or they exempt another mark or user than this proxy's.
    #[error(
        "the redirect does not work: a connection to {address} did not come back to the outbound port; run \
         `heddle-proxy redirect` in this network namespace, with the outbound port, mark or uid that this proxy has"
    )]
    NotRedirected {
        /// What was connected to; its family is the one that does not work.
        address: SocketAddr,
        /// What became of the connection.
        #[source]
        source: io::Error,
    },
    /// The check itself could not be made.
    #[error("cannot check the redirect with a connection to {address}")]
    Unchecked {
        /// What was to be connected to.
        address: SocketAddr,
        /// The reason. "Operation not permitted": the proxy has a `--mark`, but not the
        /// CAP_NET_ADMIN (or, since Linux 5.17, CAP_NET_RAW) that setting it takes.
        #[source]
        source: io::Error,
    },
}

/// How long the connection may take. It never leaves the host, and is refused at once if there are
/// no rules.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects, as the proxy itself (with its user and, if it has one, its `mark`), to a loopback
/// address and port that the rules redirect to the outbound port for the proxy alone. Call it when
/// the outbound listeners are bound; they need not be served yet. Where they are,
/// `original_dst::original_destination` answers `OriginalDestinationError::Probe` for this
/// connection, and the outbound side just closes it.
///
/// Success means: this network namespace has our rules, they lead to a listening port, and they
/// exempt this proxy. IPv6 is skipped where the namespace has none. Cancel safe: the connection is
/// closed.
pub async fn probe(mark: Option<u32>) -> Result<(), ProbeError> {
    for address in PROBE_ADDRESSES {
        let socket = match open(address, mark) {
            Ok(socket) => socket,
            Err(error) if address.is_ipv6() && is_absent(&error) => continue,
            Err(source) => return Err(ProbeError::Unchecked { address, source }),
        };
        let connected = time::timeout(PROBE_TIMEOUT, socket.connect(address));
        match connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => drop(stream),
            Err(error) if address.is_ipv6() && is_absent(&error) => {}
            Err(source) => return Err(ProbeError::NotRedirected { address, source }),
        }
    }
    Ok(())
}

fn open(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
}

/// Whether the error says that the address family does not exist here, or has no loopback address.
fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::NETUNREACH))
}
