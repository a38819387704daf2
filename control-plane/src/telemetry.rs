//! The memory of the traffic: what proxies export is kept for an hour, and questions about it are answered. A proxy's
//! export goes from `receive.rs` by `point.rs` and `proxy.rs` into `series.rs`, and by `forward.rs` on to a collector; a
//! question is answered by `service.rs` and `query.rs`, or `timeline.rs`.

pub mod admission;
pub mod answer;
pub mod codec;
pub mod cumulative;
pub mod forward;
pub mod labels;
pub mod latency;
pub mod memory;
pub mod outcome;
pub mod parts;
pub mod point;
pub mod population;
pub mod proxy;
pub mod query;
pub mod receive;
pub mod replicas;
pub mod resource;
pub mod sample;
pub mod series;
pub mod service;
pub mod timeline;
