//! What the processes of the mesh tell others of themselves, in OpenTelemetry's terms. What is measured
//! where is the processes' own matter.

pub mod exponential;
pub mod recorder;
