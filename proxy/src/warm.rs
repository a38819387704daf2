//! Connections between two proxies that carry one connection of the application after another, each a
//! *turn*, so that a new one costs no handshake. Why it is done so is in
//! docs/adr/0013-warm-connections-take-turns.md; what the inbound side does for each turn is in
//! inbound/warm.rs.

pub mod carrier;
pub mod dial;
pub mod frame;
pub mod pool;
pub mod term;
