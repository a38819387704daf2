//! The benchmark harness: Heddle beside no mesh, Envoy, HAProxy and a bare loop on one local mesh, in one interleaved run.
//! What is measured and how is in README.md; what the figures are called in `figure` and `scenario`.

pub mod arguments;
pub mod budget;
pub mod callgrind;
pub mod certificates;
pub mod control_plane;
pub mod figure;
pub mod instructions;
pub mod load;
pub mod machine;
pub mod processes;
pub mod relay;
pub mod render;
pub mod results;
pub mod run;
pub mod scenario;
pub mod serve;
pub mod statistics;
pub mod system;
pub mod wire;
pub mod world;
