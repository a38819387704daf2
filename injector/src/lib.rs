//! What the mutating webhook does to a pod, and the server that does it. The decision and the patch are
//! a pure library, shared with `meshctl inject` and `meshctl check`; the server is below `app.rs`.

pub mod annotations;
mod api;
pub mod app;
pub mod config;
pub mod conflict;
pub mod containers;
mod coverage;
pub mod decision;
mod events;
pub mod inject;
mod keeper;
pub mod metrics;
mod namespaces;
mod outlook;
mod owner;
pub mod patch;
pub mod proxy;
pub mod quantity;
pub mod report;
pub mod review;
mod secret;
pub mod server;
pub mod settings;
pub mod structure;
pub mod telemetry;
mod webhook;
