//! The vocabulary of the mesh: plain values that every crate shares. No I/O, no wire format, no clock.

pub mod access_log;
pub mod destination;
pub mod endpoint;
pub mod filter;
pub mod identity;
pub mod installation;
pub mod names;
pub mod policy;
pub mod resource;
pub mod route;
pub mod tap;
pub mod workload;
