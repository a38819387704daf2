//! Reads a directory of files into `Files`: which ones count, which ones changed. Blocking; the watch
//! is in `directory.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::source::document;
use crate::source::files::Files;
use crate::source::{Event, Failure, Place};

/// A directory and what was read of it.
#[derive(Debug)]
pub struct Scan {
    root: PathBuf,
    files: Files,
    stamps: BTreeMap<String, Stamp>,
}

/// What tells whether a file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stamp {
    /// Read when it had rested for a while.
    Settled { inode: u64, length: u64, modified_ns: (i64, i64), changed_ns: (i64, i64) },
    /// Read so soon after its last change that another change might look the same.
    Fresh,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scanned {
    /// What changed.
    pub events: Vec<Event>,
    /// A file was changed just now: scan again soon, whether or not a change is told.
    pub again: bool,
}

impl Scan {
    /// Of a directory that nothing was read of yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, files: Files::default(), stamps: BTreeMap::new() }
    }

    /// Reads what changed. Fails, and changes nothing, if the directory itself cannot be listed.
    pub fn run(&mut self, now: SystemTime) -> io::Result<Scanned> {
        let mut found = Vec::new();
        list(&self.root, &mut String::new(), 0, &mut found)?;
        found.sort();
        found.truncate(FILES_LIMIT);
        let mut again = false;
        let present: BTreeSet<String> = found.iter().cloned().collect();
        for file in found {
            again |= self.read(file, now);
        }
        let gone: Vec<String> =
            self.stamps.keys().filter(|file| !present.contains(*file)).cloned().collect();
        for file in gone {
            self.stamps.remove(&file);
            self.files.remove(&file);
        }
        Ok(Scanned { events: self.files.events(), again })
    }

    /// Reads one file if it changed; true if it has to be looked at again soon.
    fn read(&mut self, file: String, now: SystemTime) -> bool {
        let path = self.root.join(&file);
        let failed = |message: String| Failure {
            place: Place { file: file.clone(), line: 1 },
            object: None,
            field: String::new(),
            message,
        };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Gone since it was listed: the next scan will say so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            Err(error) => {
                self.files.fail(failed(format!("cannot be read: {error}")));
                return false;
            }
        };
        let stamp = stamp(&metadata, now);
        let before = self.stamps.get(&file);
        if before == Some(&stamp) && stamp != Stamp::Fresh {
            return false;
        }
        if metadata.len() > FILE_LIMIT_BYTES {
            let message = format!("is larger than {FILE_LIMIT_BYTES} bytes: split it");
            self.files.fail(failed(message));
            self.stamps.insert(file, stamp);
            return false;
        }
        // Whoever writes a file in place empties it first; that is not a deletion of its objects.
        if before.is_some() && metadata.len() == 0 && stamp == Stamp::Fresh {
            return true;
        }
        match fs::read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => self.files.replace(&file, document::read_file(&file, &text)),
            Ok(Err(_)) => self.files.fail(failed("is not UTF-8 text".to_owned())),
            Err(error) => self.files.fail(failed(format!("cannot be read: {error}"))),
        }
        let again = stamp == Stamp::Fresh;
        self.stamps.insert(file, stamp);
        again
    }
}

fn stamp(metadata: &Metadata, now: SystemTime) -> Stamp {
    let rested = metadata
        .modified()
        .ok()
        // A time in the future is as good as a settled one: it will not become the present again.
        .is_none_or(|modified| now.duration_since(modified).map_or(true, |age| age > FRESH));
    if !rested {
        return Stamp::Fresh;
    }
    Stamp::Settled {
        inode: metadata.ino(),
        length: metadata.len(),
        modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Collects the files that count, by path relative to the root.
fn list(
    directory: &Path,
    prefix: &mut String,
    depth: usize,
    found: &mut Vec<String>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let kind = entry.file_type()?;
        let length = prefix.len();
        prefix.push_str(name);
        // Symbolic links to files are read, as in a mounted ConfigMap; those to directories could be
        // endless and are not followed.
        if kind.is_dir() && depth < DEPTH_LIMIT && is_read_directory(name) {
            prefix.push('/');
            match list(&entry.path(), prefix, depth + 1, found) {
                // Removed while it was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        } else if !kind.is_dir() && is_read_file(name) {
            found.push(prefix.clone());
        }
        prefix.truncate(length);
    }
    Ok(())
}

/// Hidden directories are others' business, but for the one that the local runner writes.
fn is_read_directory(name: &str) -> bool {
    !name.starts_with('.') || name == GENERATED_DIRECTORY
}

/// Hidden files are what editors and atomic writers leave for a moment.
fn is_read_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The hidden directory that is read all the same.
pub const GENERATED_DIRECTORY: &str = ".generated";
/// Larger than any object that Kubernetes stores (1.5 MiB), with room for several in a file.
const FILE_LIMIT_BYTES: u64 = 4 << 20;
/// What a directory may hold; more are left out.
const FILES_LIMIT: usize = 20_000;
/// Deeper directories are left out.
const DEPTH_LIMIT: usize = 16;
/// How long a file rests before its times tell its changes apart: the clock of file systems ticks every
/// 4 to 10 ms.
const FRESH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";

    fn applied(scanned: &Scanned) -> Vec<String> {
        let show = |event: &Event| match event {
            Event::Applied(object) => format!("applied {}", object.place.file),
            Event::Deleted(reference) => format!("deleted {}", reference.name),
            Event::Failed { file, failures } => format!("failed {file} {}", failures.len()),
            Event::Synced => "synced".to_owned(),
        };
        scanned.events.iter().map(show).collect()
    }

    fn now() -> SystemTime {
        heddle_runtime::clock::now()
    }

    #[test]
    fn only_the_files_that_count_are_read() {
        let root = tempfile::tempdir().unwrap();
        for (index, file) in [
            "a.yaml",
            ".b.yaml.tmp",
            ".b.yaml",
            "c.txt",
            "d/e.yml",
            ".git/x.yaml",
            ".generated/f.json",
        ]
        .iter()
        .enumerate()
        {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, SERVICE.replace("a}", &format!("a{index}}}"))).unwrap();
        }
        let mut scan = Scan::new(root.path().to_owned());
        let scanned = scan.run(now()).unwrap();
        assert_eq!(
            applied(&scanned),
            ["applied a.yaml", "applied d/e.yml", "applied .generated/f.json"]
        );
    }

    #[test]
    fn a_file_that_is_being_rewritten_does_not_lose_its_objects() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.yaml");
        fs::write(&path, SERVICE).unwrap();
        let mut scan = Scan::new(root.path().to_owned());
        assert!(scan.run(now()).unwrap().again);
        fs::write(&path, "").unwrap();
        let scanned = scan.run(now()).unwrap();
        assert!(scanned.again && scanned.events.is_empty());
        let later = now() + FRESH * 2;
        assert_eq!(applied(&scan.run(later).unwrap()), ["deleted a"]);
        assert!(!scan.run(later).unwrap().again);
    }

    #[test]
    fn a_directory_that_vanished_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.yaml"), SERVICE).unwrap();
        let mut scan = Scan::new(directory.clone());
        scan.run(now()).unwrap();
        fs::rename(&directory, root.path().join("e")).unwrap();
        assert!(scan.run(now()).is_err());
        fs::rename(root.path().join("e"), &directory).unwrap();
        assert!(scan.run(now()).unwrap().events.is_empty());
    }
}
