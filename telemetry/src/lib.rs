//! What the processes of the mesh tell others of themselves, in OpenTelemetry's terms: histograms, what a
//! registry shows as OTLP, and its way to whoever receives it. What is measured where is the processes'
//! own matter.

pub mod batch;
pub mod collector;
pub mod exponential;
pub mod exporter;
pub mod footprint;
pub mod otlp;
pub mod parts;
pub mod prometheus;
pub mod recorder;
pub mod registry;
pub mod settings;
pub mod traffic;
