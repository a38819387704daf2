//! The name that other crates call an encrypted connection by.

use std::time::SystemTime;

use crate::leaf::Leaf;

/// A connection after its handshake: reads and writes plain bytes.
///
/// It stays up after the certificates that authenticated it expire, and when the credentials are
/// swapped: both ends checked each other once, at its beginning. Whoever must end connections
/// sooner bounds their age, by [`peer_not_after`].
///
/// A client's first read fails if the server refused its certificate: in TLS 1.3 the client's side
/// of the handshake ends before the server has seen it.
pub type TlsStream<IO> = tokio_rustls::TlsStream<IO>;

/// When the certificate expires that authenticated the peer; `None` if it presented none.
pub fn peer_not_after<IO>(stream: &TlsStream<IO>) -> Option<SystemTime> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first)?;
    // It was parsed before, by the verifier.
    Leaf::parse(certificate).ok().map(|leaf| leaf.not_after)
}
