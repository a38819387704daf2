//! The name that other crates call an encrypted connection by.

/// A connection after its handshake: reads and writes plain bytes.
///
/// It stays up after the certificates that authenticated it expire, and when the credentials are
/// swapped: both ends checked each other once, at its beginning. Whoever must end connections
/// sooner bounds their age.
///
/// A client's first read fails if the server refused its certificate: in TLS 1.3 the client's side
/// of the handshake ends before the server has seen it.
pub type TlsStream<IO> = tokio_rustls::TlsStream<IO>;
