//! The control plane: reads configuration, issues certificates, pushes to proxies, says what came of it.

pub mod admin;
pub mod app;
pub mod config;
pub mod crd;
pub mod dashboard;
pub mod discovery;
pub mod identity;
pub mod index;
pub mod leader;
pub mod metrics;
pub mod origin;
pub mod peers;
pub mod push;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod tap;
pub mod telemetry;
pub mod translate;

#[cfg(test)]
mod test_client;
