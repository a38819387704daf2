//! Tells when the user's directory has changed and has come to rest.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// Watches one directory with everything below it.
#[derive(Debug)]
pub struct DirectoryWatch {
    changes: mpsc::Receiver<()>,
    /// A change was seen that nobody was told of yet.
    pending: bool,
    _watcher: RecommendedWatcher,
}

impl DirectoryWatch {
    /// Begins to watch.
    pub fn new(directory: &Path) -> notify::Result<Self> {
        // One pending change says as much as many.
        let (sender, changes) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.map_or(true, |event| is_change(event.kind)) {
                    let _ = sender.try_send(());
                }
            })?;
        watcher.watch(directory, RecursiveMode::Recursive)?;
        Ok(Self { changes, pending: false, _watcher: watcher })
    }

    /// Waits for a change, and then until nothing has changed for a moment: a file that is being written is empty first.
    /// Never waits long, however busy the directory is. Cancel safe.
    pub async fn changed(&mut self) {
        if !self.pending && self.changes.recv().await.is_none() {
            // The watcher is gone; there will be no more changes.
            std::future::pending::<()>().await;
        }
        self.pending = true;
        let latest = Instant::now() + LONGEST_UNREST;
        let quiet = async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
        let _ = timeout_at(latest, quiet).await;
        self.pending = false;
    }
}

/// Reading a file changes nothing, and we do read them.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

const QUIET: Duration = Duration::from_millis(10);
const LONGEST_UNREST: Duration = Duration::from_millis(50);
