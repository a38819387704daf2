//! The protocols that a handshake names (ALPN). What flows inside is the proxy's business.

use std::fmt;

/// What flows inside a connection between two proxies, so that the inbound side detects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InnerProtocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// The same of many connections of the application at once, in frames.
    SharedHttp1,
    /// HTTP/2, with prior knowledge.
    Http2,
    /// Bytes that the mesh does not read.
    Tcp,
    /// The same, of one connection of the application after another, in frames.
    Warm,
}

impl InnerProtocol {
    /// All of them, in the order in which a server prefers them.
    pub const ALL: [Self; 5] = [Self::Http2, Self::SharedHttp1, Self::Http1, Self::Warm, Self::Tcp];
    /// What a proxy takes that makes a handshake for each connection of the application.
    pub const WITHOUT_WARM: [Self; 4] = [Self::Http2, Self::SharedHttp1, Self::Http1, Self::Tcp];

    /// The name in the handshake, such as `heddle/h2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "heddle/h1",
            Self::SharedHttp1 => "heddle/h1-shared",
            Self::Http2 => "heddle/h2",
            Self::Tcp => "heddle/tcp",
            Self::Warm => "heddle/warm",
        }
    }

    /// As a handshake lists them.
    pub(crate) fn names(protocols: &[Self]) -> Vec<Vec<u8>> {
        protocols.iter().map(|protocol| protocol.name().into()).collect()
    }

    /// Reads a name of the handshake; `None` if it is not one of the mesh.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().as_bytes() == name)
    }
}

impl fmt::Display for InnerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The only protocol of the control plane: gRPC over HTTP/2.
pub const CONTROL_PLANE: &[u8] = b"h2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_reads_as_it_was_named() {
        for protocol in InnerProtocol::ALL {
            assert_eq!(InnerProtocol::from_name(protocol.name().as_bytes()), Some(protocol));
        }
    }

    #[test]
    fn an_applications_own_protocol_is_not_one_of_the_mesh() {
        for name in [&b"h2"[..], b"http/1.1", b"heddle/h", b"heddle/h22", b"HEDDLE/H2", b""] {
            assert_eq!(InnerProtocol::from_name(name), None, "case: {name:?}");
        }
    }
}
