//! Where a redirected connection was going before the redirect. Accepts nothing and dials nothing:
//! see listen.rs.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use rustix::io::Errno;
use socket2::{SockAddr, SockRef};

use crate::redirect::plan::PROBE_ADDRESSES;

/// Why a connection has no destination to be sent on to. All but `Unknown` are expected: close the
/// connection.
#[derive(Debug, thiserror::Error)]
pub enum OriginalDestinationError {
    /// Somebody connected to the proxy's own port. It must be refused: to serve it would be to dial
    /// oneself in circles, or to be an open relay.
    #[error("the connection came to the proxy's own port {listener}, and was not redirected")]
    NotRedirected {
        /// The address that the connection came to.
        listener: SocketAddr,
    },
    /// The proxy's own check of the redirect. Nothing is to be done but to close it; it is not
    /// worth a warning.
    #[error("the connection is the proxy's own check of the redirect")]
    Probe,
    /// The kernel did not say.
    #[error("cannot find where the connection was going")]
    Unknown(#[source] io::Error),
}

/// Asks the kernel where an accepted connection was going before a rule of `redirect` sent it here.
///
/// An IPv4 connection that an IPv6 listener took is answered as IPv4, never as `::ffff:a.b.c.d`.
/// Ask at once after accepting: the kernel forgets a connection some time after its end.
pub fn original_destination(stream: &impl AsFd) -> Result<SocketAddr, OriginalDestinationError> {
    let socket = SockRef::from(stream);
    let local =
        socket.local_addr().and_then(internet).map_err(OriginalDestinationError::Unknown)?;
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    decide(local, found.and_then(internet))
}

/// The pure part: `local` is the accepted socket's own address, `found` what the kernel remembers.
fn decide(
    local: SocketAddr,
    found: io::Result<SocketAddr>,
) -> Result<SocketAddr, OriginalDestinationError> {
    let original =
        match found.map_err(|error| (error.raw_os_error().map(Errno::from_raw_os_error), error)) {
            Ok(original) => original,
            // No such connection is tracked, or none at all is: then none was redirected.
            Err((Some(Errno::NOENT | Errno::NOPROTOOPT), _)) => local,
            Err((_, error)) => return Err(OriginalDestinationError::Unknown(error)),
        };
    // By address and port alone: an IPv6 scope is filled in differently by the two calls.
    if original.ip() == local.ip() && original.port() == local.port() {
        return Err(OriginalDestinationError::NotRedirected { listener: local });
    }
    if PROBE_ADDRESSES.contains(&original) {
        return Err(OriginalDestinationError::Probe);
    }
    Ok(original)
}

fn internet(address: SockAddr) -> io::Result<SocketAddr> {
    match address.as_socket() {
        Some(SocketAddr::V4(address)) => Ok(SocketAddr::V4(address)),
        Some(SocketAddr::V6(address)) => Ok(unmapped(address)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "not an internet address")),
    }
}

fn unmapped(address: SocketAddrV6) -> SocketAddr {
    match address.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddr::from((ip, address.port())),
        None => SocketAddr::V6(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(local: &str, found: io::Result<&str>) -> String {
        match decide(local.parse().unwrap(), found.map(|address| address.parse().unwrap())) {
            Ok(address) => address.to_string(),
            Err(OriginalDestinationError::NotRedirected { listener }) => {
                format!("own port {listener}")
            }
            Err(OriginalDestinationError::Probe) => "probe".to_owned(),
            Err(OriginalDestinationError::Unknown(error)) => format!("unknown: {:?}", error.kind()),
        }
    }

    #[test]
    fn only_a_redirected_connection_has_a_destination() {
        for (case, local, found, expected) in [
            ("outbound", "127.0.0.1:15101", "10.43.0.7:80", "10.43.0.7:80"),
            ("inbound", "10.42.0.3:15106", "10.42.0.3:8080", "10.42.0.3:8080"),
            (
                "inbound to a second address",
                "10.42.0.3:15106",
                "10.42.0.4:15106",
                "10.42.0.4:15106",
            ),
            ("own port", "10.42.0.3:15106", "10.42.0.3:15106", "own port 10.42.0.3:15106"),
            ("v6", "[::1]:15101", "[fd43::7]:80", "[fd43::7]:80"),
            ("v6 own port", "[fd42::3]:15106", "[fd42::3]:15106", "own port [fd42::3]:15106"),
            (
                "v6 own port, scoped",
                "[fe80::3]:15106",
                "[fe80::3%2]:15106",
                "own port [fe80::3]:15106",
            ),
            ("probe", "127.0.0.1:15101", "127.0.0.1:15199", "probe"),
            ("v6 probe", "[::1]:15101", "[::1]:15199", "probe"),
            ("the probe's port elsewhere", "127.0.0.1:15101", "10.42.0.9:15199", "10.42.0.9:15199"),
        ] {
            assert_eq!(judged(local, Ok(found)), expected, "case: {case}");
        }
    }

    #[test]
    fn a_connection_that_is_not_tracked_was_not_redirected() {
        for errno in [Errno::NOENT, Errno::NOPROTOOPT] {
            let text = judged("10.42.0.3:15106", Err(errno.into()));
            assert_eq!(text, "own port 10.42.0.3:15106", "case: {errno:?}");
        }
        let text = judged("10.42.0.3:15106", Err(Errno::ACCESS.into()));
        assert_eq!(text, "unknown: PermissionDenied");
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_read_as_ipv4() {
        let mapped: SocketAddrV6 = "[::ffff:10.42.0.3]:80".parse().unwrap();
        assert_eq!(unmapped(mapped), "10.42.0.3:80".parse().unwrap());
        let six: SocketAddrV6 = "[fd42::3]:80".parse().unwrap();
        assert_eq!(unmapped(six), SocketAddr::V6(six));
    }
}
