//! Which requests a rule is for. Pure: the proxy decides by it per request, and meshctl explains by it, so that
//! the two cannot disagree.

pub mod condition;
pub mod host;
mod query;
