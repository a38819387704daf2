//! Choosing: a backend by weight, then one of its ready endpoints; and how much of it may be used.

pub mod backend;
pub mod balancer;
pub mod budget;
pub mod callers;
pub mod ejection;
pub mod endpoint;
pub mod ewma;
pub mod hash;
pub mod locality;
pub mod p2c;
pub mod queue;
pub mod rate_limit;
pub mod round_robin;
pub mod session;
pub mod set;
pub mod slow_start;
pub mod weighted;
