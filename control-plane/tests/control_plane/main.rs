//! A real control plane on a loopback port, asked by a real client over TLS.

mod client;
mod discovery;
mod identity;
mod world;
