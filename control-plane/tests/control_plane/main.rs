//! A real control plane on a loopback port, asked by a real client over TLS.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod discovery;
mod http;
mod identity;
mod start;
mod tap;
mod telemetry;
mod world;
