//! The way to a cluster: which one (`client.rs`), and its objects (`objects.rs`, `field.rs`).

pub mod arguments;
pub mod client;
pub mod field;
pub mod objects;
