//! What each process of the mesh needs besides its purpose: named tasks and their end, readiness, an
//! admin server, logging, backoff, throttled warnings, places by address, durations as people write them,
//! futures that are seldom polled, and the wall clock.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod duration;
pub mod logging;
pub mod readiness;
pub mod seldom;
pub mod settings;
pub mod signals;
pub mod sources;
pub mod tasks;
pub mod throttle;
pub mod vital;
