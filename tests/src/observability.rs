//! What `install/observability` asks of the mesh's metrics: its expressions, what they name, and the metrics that there are.
//! Reads files; runs nothing.

pub mod catalog;
pub mod dashboards;
pub mod expression;
pub mod files;
pub mod queries;
