//! The way to a cluster: which one (`client.rs`), its objects (`objects.rs`, `field.rs`), and the control
//! planes in it (`control_plane.rs`).

pub mod arguments;
pub mod client;
pub mod control_plane;
pub mod field;
pub mod objects;
