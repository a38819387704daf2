//! Configuration on its way to proxies: snapshots (`publisher.rs`), one stream per proxy
//! (`session.rs`), what that proxy holds and lacks (`ledger.rs`, one resource of it: `held.rs`), what it is sent of it
//! (`update.rs`), what is new in a snapshot (`news.rs`) and whom that concerns (`interests.rs`), how far objects have come (`programmed.rs`), and which services live on their last resort (`last_resort.rs`).

pub mod delta;
pub mod held;
pub mod interests;
pub mod last_resort;
pub mod ledger;
pub mod news;
pub mod programmed;
pub mod proxies;
pub mod publisher;
pub mod session;
pub mod update;
