//! The data plane: a sidecar proxy beside one workload. See app.rs for what runs, main.rs for the
//! command line.

pub mod access_log;
pub mod app;
pub mod balance;
pub mod config;
pub mod connect;
pub mod control_plane;
pub mod descriptors;
pub mod detect;
pub mod discovery;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod listen;
pub mod metrics;
pub mod multiplex;
pub mod opening;
pub mod original_dst;
pub mod outbound;
pub mod pressure;
pub mod redirect;
pub mod rewind;
pub mod tap;
pub mod tcp;
pub mod telemetry;
pub mod warm;

#[cfg(test)]
mod testing;
