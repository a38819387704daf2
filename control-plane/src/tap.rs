//! Taps: requests of workloads, told to whoever asks and may, while they happen. Proxies look for them
//! (proxy/src/tap.rs); here is decided who may ask (`rights.rs`) and whose proxies are told to look (`subject.rs`),
//! and what they tell is passed on. Nothing of it is kept.

pub mod parts;
pub mod registry;
pub mod replicas;
pub mod rights;
pub mod service;
pub mod session;
pub mod subject;
pub mod watch;
