//! The directory source: tells what the files say, and what changes, for as long as it runs. What the
//! files say is in `scan.rs` and below.

use std::path::PathBuf;
use std::time::Duration;

use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::source::Event;
use crate::source::last_good::LastGood;
use crate::source::scan::{Scan, Scanned};

/// A directory that cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {directory}")]
pub struct NotWatched {
    directory: PathBuf,
    #[source]
    source: notify::Error,
}

/// A watched directory.
#[derive(Debug)]
pub struct Directory {
    scan: Scan,
    changed: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Directory {
    /// Begins to watch, so that nothing is missed that happens after the first scan. What was good in
    /// an earlier life of this process counts until something newer is good.
    pub fn watch(directory: PathBuf, last_good: LastGood) -> Result<Self, NotWatched> {
        let failed = |source| NotWatched { directory: directory.clone(), source };
        // One place is enough: a change that is told while one waits adds nothing.
        let (notice, changed) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_err() || event.is_ok_and(|event| matters(&event.kind)) {
                    let _ = notice.try_send(());
                }
            })
            .map_err(failed)?;
        watcher.watch(&directory, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Self { scan: Scan::new(directory, last_good), changed, _watcher: watcher })
    }

    /// Tells events until the drain, or until nobody listens. [`Event::Synced`] follows the first scan
    /// that could be made.
    pub async fn run(mut self, events: mpsc::Sender<Vec<Event>>, drain: CancellationToken) {
        let mut synced = false;
        let mut noticed = false;
        loop {
            let (scan, result) = run_scan(self.scan, events.clone()).await;
            self.scan = scan;
            let rescan_after = match result {
                Ok(scanned) => {
                    // A new directory is watched only some time after it was made.
                    let soon = scanned.again || std::mem::take(&mut noticed);
                    let pause = if soon { RESCAN_FRESH } else { RESCAN_ALWAYS };
                    if !tell(&events, scanned.events, &mut synced).await {
                        return;
                    }
                    pause
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "directory cannot be listed; nothing changes");
                    RESCAN_ALWAYS
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(rescan_after) => {}
                notice = self.changed.recv() => {
                    if notice.is_none() {
                        tokio::time::sleep(rescan_after).await;
                    }
                    noticed = true;
                    self.settle().await;
                }
            }
        }
    }

    /// Waits until nothing more changes, so that what was written together is read together.
    async fn settle(&mut self) {
        let latest = Instant::now() + DEBOUNCE_LIMIT;
        loop {
            let quiet = (Instant::now() + DEBOUNCE).min(latest);
            match timeout_at(quiet, self.changed.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

async fn run_scan(
    mut scan: Scan,
    events: mpsc::Sender<Vec<Event>>,
) -> (Scan, std::io::Result<Scanned>) {
    // Reading files blocks; a scan that panics would be a bug, and is passed on as one.
    let task = tokio::task::spawn_blocking(move || {
        let mut early = |batch: Vec<Event>| {
            warn_of(&batch);
            if !batch.is_empty() {
                // Nobody listens any more: that is seen when all is told.
                let _ = events.blocking_send(batch);
            }
        };
        let result = scan.run(clock::now(), &mut early);
        (scan, result)
    });
    match task.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn warn_of(batch: &[Event]) {
    for event in batch {
        if let Event::Failed { failures, .. } = event {
            for failure in failures {
                warn!(error = %failure, "configuration cannot be read; the last good state stays");
            }
        }
    }
}

/// What was found at one look is told at once, so that what was written together counts together. The first one was told in
/// pieces, and counts with this.
async fn tell(events: &mpsc::Sender<Vec<Event>>, mut batch: Vec<Event>, synced: &mut bool) -> bool {
    warn_of(&batch);
    if !*synced {
        *synced = true;
        info!("directory read");
        batch.push(Event::Synced);
    }
    batch.is_empty() || events.send(batch).await.is_ok()
}

/// Whether an event can mean that a file has a new content. Writes count when the file is closed, since
/// what is half written is not meant yet.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => matches!(access, AccessKind::Close(AccessMode::Write)),
        EventKind::Modify(change) => {
            matches!(change, ModifyKind::Name(_) | ModifyKind::Metadata(_) | ModifyKind::Any)
        }
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => true,
    }
}

/// How long nothing may change before the files are read.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How long a change waits at most.
const DEBOUNCE_LIMIT: Duration = Duration::from_millis(50);
/// When a file was read just after it was changed.
const RESCAN_FRESH: Duration = Duration::from_millis(150);
/// The kernel drops notices when too many come at once, and sends none on some file systems.
const RESCAN_ALWAYS: Duration = Duration::from_secs(5);
