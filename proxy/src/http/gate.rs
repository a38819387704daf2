//! The request gate, between what a client sends and the router: nothing passes that two readers
//! could read in two ways. HTTP/1 is read beneath hyper, which hides what was on the wire: octets
//! become requests in framing.rs, head by head (head.rs) and chunk by chunk (chunked.rs). What a
//! head means is judged by request.rs, for both versions. `tests/corpus/gate/` has the cases, and
//! `docs/adr/0006-the-gate-reads-beneath-hyper.md` the reasons.

pub mod admitted;
pub mod chunked;
pub mod exchanges;
pub mod fields;
pub mod framing;
pub mod head;
pub mod io;
pub(crate) mod lines;
pub(crate) mod octets;
pub mod refusal;
pub mod request;
pub mod response;
pub mod timers;

#[cfg(test)]
mod corpus;
