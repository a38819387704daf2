//! The directory source: tells what the files say, and what changes, for as long as it runs. What the
//! files say is in `scan.rs` and below, what the kernel notices in `notice.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::source::Event;
use crate::source::last_good::LastGood;
use crate::source::notice::{Found, Notice};
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
    noticed: Arc<Mutex<Notice>>,
    changed: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

/// How it is looked at next, and when at the latest.
#[derive(Debug)]
struct Next {
    notice: Notice,
    at: Instant,
}

impl Directory {
    /// Begins to watch, so that nothing is missed that happens after the first scan. What was good in
    /// an earlier life of this process counts until something newer is good.
    pub fn watch(directory: PathBuf, last_good: LastGood) -> Result<Self, NotWatched> {
        let failed = |source| NotWatched { directory: directory.clone(), source };
        // One place is enough: what is noticed while one waits is found with it.
        let (notice, changed) = mpsc::channel(1);
        let noticed = Arc::new(Mutex::new(Notice::Nothing));
        let mut watcher = {
            let noticed = Arc::clone(&noticed);
            // As the watcher has it.
            let root = std::path::absolute(&directory).unwrap_or_else(|_| directory.clone());
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let event = event.map(|event| Notice::of(&root, &event, find));
                let event = event.unwrap_or(Notice::Anything);
                if event != Notice::Nothing {
                    lock(&noticed).add(event);
                    let _ = notice.try_send(());
                }
            })
            .map_err(failed)?
        };
        watcher.watch(&directory, RecursiveMode::Recursive).map_err(failed)?;
        let scan = Scan::new(directory, last_good);
        Ok(Self { scan, noticed, changed, _watcher: watcher })
    }

    /// Tells events until the drain, or until nobody listens. [`Event::Synced`] follows the first scan
    /// that could be made.
    pub async fn run(mut self, events: mpsc::Sender<Vec<Event>>, drain: CancellationToken) {
        let mut synced = false;
        let mut next = Next { notice: Notice::Anything, at: Instant::now() };
        let mut all_at = Instant::now();
        // Since all of it was looked at last.
        let mut was_noticed = false;
        loop {
            let is_all = Instant::now() >= all_at || next.notice == Notice::Anything;
            let look = if is_all { Notice::Anything } else { next.notice };
            let looked = run_scan(self.scan, look, events.clone()).await;
            self.scan = looked.scan;
            let now = Instant::now();
            if looked.at == Notice::Anything {
                all_at = now + RESCAN_ALWAYS;
            }
            next = Next { notice: Notice::Anything, at: all_at };
            match looked.result {
                Ok(scanned) => {
                    // A new directory is watched only some time after it was made.
                    if looked.at == Notice::Anything && std::mem::take(&mut was_noticed) {
                        next = Next { notice: Notice::Anything, at: now + RESCAN_FRESH };
                    } else if scanned.again {
                        next = Next { notice: looked.at, at: all_at.min(now + RESCAN_FRESH) };
                    }
                    if !tell(&events, scanned.events, &mut synced).await {
                        return;
                    }
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "directory cannot be listed; nothing changes");
                }
            }
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep_until(next.at) => {}
                notice = self.changed.recv() => {
                    if notice.is_none() {
                        tokio::time::sleep_until(next.at).await;
                    }
                    self.settle().await;
                    let noticed = std::mem::take(&mut *lock(&self.noticed));
                    // What was to be looked at again is looked at now.
                    next.notice = match next.at < all_at {
                        true => both(next.notice, noticed),
                        false => noticed,
                    };
                    was_noticed = next.notice == Notice::Anything;
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

/// What came of one look.
struct Looked {
    scan: Scan,
    /// What was looked at in the end.
    at: Notice,
    result: std::io::Result<Scanned>,
}

async fn run_scan(mut scan: Scan, look: Notice, events: mpsc::Sender<Vec<Event>>) -> Looked {
    // Reading files blocks; a scan that panics would be a bug, and is passed on as one.
    let task = tokio::task::spawn_blocking(move || {
        match look {
            Notice::Nothing => {
                let result = Ok(Scanned { events: Vec::new(), again: false });
                return Looked { scan, at: Notice::Nothing, result };
            }
            Notice::Files(files) => {
                if let Some(scanned) = scan.look(&files, clock::now()) {
                    return Looked { scan, at: Notice::Files(files), result: Ok(scanned) };
                }
            }
            Notice::Anything => {}
        }
        let mut early = |batch: Vec<Event>| {
            warn_of(&batch);
            if !batch.is_empty() {
                // Nobody listens any more: that is seen when all is told.
                let _ = events.blocking_send(batch);
            }
        };
        let result = scan.run(clock::now(), &mut early);
        Looked { scan, at: Notice::Anything, result }
    });
    match task.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn both(mut one: Notice, other: Notice) -> Notice {
    one.add(other);
    one
}

fn find(path: &Path) -> Found {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Found::Plain,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Plain,
        Ok(_) | Err(_) => Found::Other,
    }
}

fn lock(noticed: &Mutex<Notice>) -> MutexGuard<'_, Notice> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
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

/// How long nothing may change before the files are read.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// How long a change waits at most.
const DEBOUNCE_LIMIT: Duration = Duration::from_millis(50);
/// When a file was read just after it was changed.
const RESCAN_FRESH: Duration = Duration::from_millis(150);
/// The kernel drops notices when too many come at once, and sends none on some file systems.
const RESCAN_ALWAYS: Duration = Duration::from_secs(5);
