//! How many streams a connection of HTTP/2 has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts the streams of one connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Openings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: AtomicUsize,
    begun: AtomicU64,
}

/// A stream, which is open until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Shared>);

impl Openings {
    /// A stream begins.
    pub fn begin(&self) -> Open {
        self.count();
        self.hold()
    }

    /// A stream begins, which is held as open by somebody else.
    pub fn count(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream is open that was counted before.
    pub fn hold(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.0))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many have begun.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
