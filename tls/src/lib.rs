//! TLS between proxies and to the control plane: the only crate that names rustls.
//!
//! Handshakes, SPIFFE verification, hot-swapped certificates, and the authority that issues them.
//! Which connection is meant to be TLS is the proxy's decision.

pub mod accept;
pub mod alpn;
pub mod application;
pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod collector;
mod config;
pub mod connect;
pub mod control_plane;
pub mod credentials;
pub mod digest;
pub mod handshake;
pub mod hello;
pub mod https;
pub mod leaf;
pub mod peer;
mod pem;
pub mod refusal;
pub mod stream;
mod verify;

#[cfg(test)]
mod testing;
