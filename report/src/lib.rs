//! What the control plane tells, for machines: the JSON of `meshctl -o json` and of the dashboard, from the messages that
//! answer both. Pure: no socket, no clock. Its fields are stable.

pub mod edges;
pub mod identity;
pub mod merge;
pub mod proxy;
pub mod routes;
pub mod stat;
pub mod status;
pub mod tap;
pub mod timeline;
pub mod words;
