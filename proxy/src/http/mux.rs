//! The lane of HTTP/2: simple requests go to their endpoint, and answers to their clients, frame by frame, without a task, a
//! channel or a map of headers for each. A request is simple if nothing is done to it but to pick an endpoint, and a
//! connection to that is open.
//!
//! Beneath h2, split.rs takes the frames of simple requests out of a client's connection, and hands h2 all others, as
//! frames of a connection that has no other streams. upstream.rs has the connections to endpoints, outbox.rs what joins
//! the two. What passes is judged by the same gate, and counted, limited and told of by the same hands, as on the
//! general path. The reasons are in `docs/adr/0015-a-lane-for-http2.md`.

mod block;
pub mod frame;
pub(crate) mod numbers;
pub mod outbox;
mod request;
mod response;
pub mod split;
pub mod upstream;
mod writer;

/// What is asked for at once: as much as a record of TLS holds (RFC 8446, section 5.1).
const READ_BYTES: usize = 1 << 14;
