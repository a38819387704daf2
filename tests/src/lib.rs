//! What the end-to-end tests stand on: worlds made from inline manifests, load, captures, certificates,
//! and the answers of the mesh's own tools. The tests themselves are in `tests/e2e`.

pub mod adversary;
pub mod applications;
pub mod believer;
pub mod browser;
pub mod capture;
pub mod certificate;
pub mod collector;
pub mod conversation;
pub mod identity;
pub mod load;
pub mod manifest;
pub mod metrics;
pub mod observability;
pub mod peer;
pub mod process;
pub mod program;
pub mod requirements;
pub mod schema;
pub mod scrape;
pub mod settings;
pub mod shown;
pub mod status;
pub mod wait;
pub mod world;
