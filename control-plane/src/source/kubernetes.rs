//! The Kubernetes source: tells what the API server has, and what changes, for as long as it runs. Which
//! kinds are watched is in `kind.rs`, what of them is kept in `pruning.rs` and `kept.rs`, which events follow
//! in `known.rs`, one watch in `follow.rs`, its requests in `requests.rs`, what is said when they fail in
//! `trouble.rs`, and which custom kinds there are in `catalog.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use kube::Client;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::metrics::Metrics;
use crate::source::Event;
use crate::source::kubernetes::catalog::{Catalog, Explorer};
use crate::source::kubernetes::follow::Watch;
use crate::source::kubernetes::kind::KINDS;

pub mod catalog;
pub mod follow;
pub mod kept;
pub mod kind;
pub mod known;
pub mod pruning;
pub mod requests;
pub mod trouble;

/// A cluster's objects.
pub struct Kubernetes {
    client: Client,
    metrics: Metrics,
}

impl Kubernetes {
    /// Of the cluster that the client talks to.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// Tells events until the drain, or until nobody listens. [`Event::Synced`] follows when every kind
    /// that exists was listed once.
    pub async fn run(self, events: mpsc::Sender<Vec<Event>>, drain: CancellationToken) {
        let (catalog, served) = watch::channel(Catalog::default());
        let look_again = Arc::new(Notify::new());
        let explorer = Explorer::new(self.client.clone(), catalog, Arc::clone(&look_again));
        let unlisted = Unlisted(Arc::new(AtomicUsize::new(KINDS.len())));
        let pages = Arc::new(Semaphore::new(PAGES_AT_ONCE));
        let watches = KINDS.iter().map(|kind| {
            let watch = Watch {
                client: self.client.clone(),
                kind,
                served: served.clone(),
                events: events.clone(),
                look_again: Arc::clone(&look_again),
                pages: Arc::clone(&pages),
                failing: self.metrics.watch_failing(kind.kind),
            };
            watch.run(unlisted.clone())
        });
        tokio::select! {
            () = drain.cancelled() => {}
            () = explorer.run() => {}
            // Each ends when nobody listens.
            _ = join_all(watches) => {}
        }
    }
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").finish_non_exhaustive()
    }
}

/// How many kinds were not listed yet. Clones share the count.
#[derive(Clone, Debug)]
pub struct Unlisted(Arc<AtomicUsize>);

impl Unlisted {
    /// One kind was listed, or does not exist; what follows if it was the last one.
    pub fn one_less(&self) -> Option<Event> {
        let last = self.0.fetch_sub(1, Ordering::AcqRel) == 1;
        last.then(|| {
            info!("cluster read");
            Event::Synced
        })
    }
}

/// Parts of lists that are read at once, of all kinds together: with the most that one may have, how much memory
/// the API server can take up before what is dropped of it is.
const PAGES_AT_ONCE: usize = 2;

#[cfg(test)]
mod tests;
