//! Tells when the user's directory has changed and has come to rest.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// Watches one directory with everything below it.
#[derive(Debug)]
pub struct DirectoryWatch {
    changes: mpsc::Receiver<()>,
    /// A change was seen that nobody was told of yet.
    pending: bool,
    directory: PathBuf,
    watched: Option<Identity>,
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
        let watched = identity(directory);
        watcher.watch(directory, RecursiveMode::Recursive)?;
        let directory = directory.to_owned();
        Ok(Self { changes, pending: false, directory, watched, _watcher: watcher })
    }

    /// Whether another directory has this name by now, which the kernel does not tell of.
    pub fn is_outdated(&self) -> bool {
        identity(&self.directory).is_some_and(|found| Some(found) != self.watched)
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

/// Device, inode and when it was made, since inodes are used again.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(directory: &Path) -> Option<Identity> {
    let found = std::fs::metadata(directory).ok()?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

/// Reading a file changes nothing, and we do read them. One that is being written is read when it is closed.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

const QUIET: Duration = Duration::from_millis(10);
const LONGEST_UNREST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_file_is_looked_at_when_it_is_closed_and_not_while_it_is_written() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.yaml");
        std::fs::write(&path, "whole").unwrap();
        let mut watch = DirectoryWatch::new(temporary.path()).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(timeout(3 * LONGEST_UNREST, watch.changed()).await.is_err(), "not yet");
        drop(file);
        timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
    }

    #[test]
    fn a_directory_that_was_replaced_is_noticed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("yaml");
        std::fs::create_dir(&directory).unwrap();
        let watch = DirectoryWatch::new(&directory).unwrap();
        assert!(!watch.is_outdated());
        std::fs::rename(&directory, temporary.path().join("aside")).unwrap();
        assert!(!watch.is_outdated(), "there is no other");
        std::fs::create_dir(&directory).unwrap();
        assert!(watch.is_outdated());
    }
}
