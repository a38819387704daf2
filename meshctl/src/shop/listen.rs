//! Where an application of the shop listens.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use crate::failure::Failure;

/// An address as people give it: `8080` for every address of the machine, or `127.0.0.1:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// This port on every address, IPv6 and IPv4.
    Everywhere(u16),
    /// Exactly this address.
    At(SocketAddr),
}

/// Neither a port nor an address with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidListenAddress(String);

impl std::fmt::Display for InvalidListenAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "\"{}\" is no port (8080) and no address (127.0.0.1:8080)", self.0)
    }
}

impl std::error::Error for InvalidListenAddress {}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Everywhere(port));
        }
        text.parse().map(Self::At).map_err(|_| InvalidListenAddress(text.to_owned()))
    }
}

/// Binds and says so on standard error, which is how a test learns a port it left open (`0`).
pub async fn bind(address: ListenAddress) -> Result<TcpListener, Failure> {
    let bound = match address {
        ListenAddress::At(address) => TcpListener::bind(address).await,
        // A wildcard of IPv6 also takes IPv4; where IPv6 is switched off there is IPv4 alone.
        ListenAddress::Everywhere(port) => {
            match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
                }
                bound => bound,
            }
        }
    };
    let remedy = "end what listens there (`ss -ltnp` names it), or give another --listen";
    let listener = bound.map_err(|error| {
        Failure::new(format!("cannot listen on {address:?}"), remedy).because(&error)
    })?;
    if let Ok(local) = listener.local_addr() {
        announce(&format!("listening on {local}"));
    }
    Ok(listener)
}

/// Writes a line for the log. A log that nobody takes is no reason to stop serving.
pub(crate) fn announce(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_a_port_or_an_address_with_one() {
        for (text, expected) in [
            ("8080", Some(ListenAddress::Everywhere(8080))),
            ("0", Some(ListenAddress::Everywhere(0))),
            ("127.0.0.1:80", Some(ListenAddress::At(([127, 0, 0, 1], 80).into()))),
            ("[::1]:80", Some(ListenAddress::At((Ipv6Addr::LOCALHOST, 80).into()))),
            ("65536", None),
            ("localhost:80", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "case: {text}");
        }
    }
}
