//! The command line of the mesh. A library, so that its tests and the end-to-end tests reach the parts
//! that are more than printing: the shop, the reader of metrics, the reports.

pub mod accept;
pub mod admin;
pub mod arguments;
pub mod chart;
pub mod check;
pub mod completion;
pub mod dashboard;
pub mod demo;
pub mod edges;
pub mod failure;
pub mod histogram;
pub mod identity;
pub mod inject;
pub mod install;
pub mod kubernetes;
pub mod local;
pub mod output;
pub mod proxy;
pub mod repeat;
pub mod routes;
pub mod run;
pub mod shop;
pub mod split;
pub mod stat;
pub mod status;
pub mod table;
pub mod tap;
pub mod target;
pub mod terminal;
pub mod top;
pub mod trace;
pub mod traffic;
pub mod why;
pub mod worlds;
