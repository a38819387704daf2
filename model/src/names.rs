//! Names of Kubernetes objects, ports and protocols. What they resolve to is in `destination`.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// A port that can be connected to: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(NonZeroU16);

impl Port {
    /// Refuses zero.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number, 1 to 65535.
    pub fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Port {
    type Error = InvalidPort;

    fn try_from(number: u32) -> Result<Self, InvalidPort> {
        u16::try_from(number).ok().and_then(Self::new).ok_or(InvalidPort(i64::from(number)))
    }
}

/// A number that is not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a port (want 1-65535)")]
pub struct InvalidPort(pub i64);

/// A service: a name with ports, in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One port of a service, by the number that clients use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// The service.
    pub service: ServiceName,
    /// The service's port, not the pod's.
    pub port: Port,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// A Kubernetes object, as it is named in errors and statuses: `HTTPRoute default/api`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectReference {
    /// Such as `HTTPRoute`.
    pub kind: String,
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What is known of the protocol that a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nothing: look at the first bytes.
    #[default]
    Detect,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 in plain text with prior knowledge; gRPC too.
    Http2,
    /// The application encrypts by itself; the mesh sees only the server name.
    Tls,
    /// Bytes that the mesh does not read.
    Opaque,
}

/// A Kubernetes `appProtocol` that the mesh does not know; it is then detected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "appProtocol {0:?} is not known (known: http, kubernetes.io/h2c, grpc, https, tls, tcp); the protocol will be detected"
)]
pub struct UnknownAppProtocol(pub String);

impl FromStr for Protocol {
    type Err = UnknownAppProtocol;

    /// Reads an `appProtocol`: the names of KEP-3726, those of IANA, and those in common use.
    fn from_str(text: &str) -> Result<Self, UnknownAppProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "" => Ok(Self::Detect),
            "http" | "http1" | "kubernetes.io/ws" => Ok(Self::Http1),
            "http2" | "h2c" | "kubernetes.io/h2c" | "grpc" => Ok(Self::Http2),
            "https" | "tls" | "kubernetes.io/wss" => Ok(Self::Tls),
            "tcp" | "mysql" | "postgres" | "postgresql" | "redis" | "mongo" | "mongodb"
            | "smtp" | "opaque" => Ok(Self::Opaque),
            _ => Err(UnknownAppProtocol(text.to_owned())),
        }
    }
}

/// Ports whose usual protocols let the server speak first, or gain nothing from detection.
///
/// Source: Linkerd's default opaque ports, with PostgreSQL's beside them.
pub const OPAQUE_PORTS: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocols_are_read() {
        for (text, expected) in [
            ("http", Protocol::Http1),
            ("HTTP", Protocol::Http1),
            ("kubernetes.io/h2c", Protocol::Http2),
            ("grpc", Protocol::Http2),
            ("https", Protocol::Tls),
            ("tcp", Protocol::Opaque),
            ("", Protocol::Detect),
        ] {
            assert_eq!(text.parse(), Ok(expected), "case: {text:?}");
        }
        assert!("carrier-pigeon".parse::<Protocol>().is_err());
    }

    #[test]
    fn zero_and_large_numbers_are_no_ports() {
        assert_eq!(Port::new(0), None);
        assert_eq!(Port::try_from(65_536_u32), Err(InvalidPort(65_536)));
        assert_eq!(Port::try_from(80_u32).map(Port::number), Ok(80));
    }
}
