//! Choosing: a backend by weight, then one of its ready endpoints by load.

pub mod balancer;
pub mod p2c;
pub mod weighted;
