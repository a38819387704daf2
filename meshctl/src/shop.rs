//! The demo's applications: a shop whose frontend asks an api, which asks a store. They know nothing
//! of a mesh. Hidden from the help, since they are for the demo, examples and tests only.

pub mod api;
pub mod frontend;
pub mod listen;
pub mod load;
pub mod serve;
pub mod stock;
pub mod store;

/// The response header that carries the api's version; the frontend passes it on.
pub const VERSION_HEADER: &str = "x-shop-version";
