//! Discovery: what addresses mean, as the control plane pushes it and the data path reads it.
//!
//! client.rs carries messages, update.rs reads them, state.rs decides, writer.rs acts, store.rs is read.

pub mod client;
pub mod metrics;
pub mod resolved;
pub mod state;
pub mod store;
pub mod subscriptions;
pub mod update;
pub mod writer;
