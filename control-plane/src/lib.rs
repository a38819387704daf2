//! The control plane: reads configuration, issues certificates, pushes to proxies, says what came of it.

pub mod admin;
pub mod app;
pub mod config;
pub mod discovery;
pub mod identity;
pub mod index;
pub mod metrics;
pub mod push;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod translate;
