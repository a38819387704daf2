//! Reads a directory of files into `Files`: which ones changed, which ones are gone. Blocking; the watch
//! is in `directory.rs`, which files count in `listing.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::source::document;
use crate::source::files::Files;
use crate::source::last_good::LastGood;
use crate::source::listing::Listing;
use crate::source::{Event, Failure, Place};

/// A directory and what was read of it.
#[derive(Debug)]
pub struct Scan {
    root: PathBuf,
    files: Files,
    /// Of every file that something is known of.
    stamps: BTreeMap<String, Stamp>,
    last_good: LastGood,
    /// Whether what was good in an earlier life of this process was recalled.
    recalled: bool,
    /// Directories that something was said of, in the manner of files.
    complaints: BTreeMap<String, Failure>,
    /// A file's content may change without a notice of that file.
    has_links: bool,
    files_limit: usize,
}

/// What tells whether a file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stamp {
    /// Not read, or it could not be: to be tried again.
    Unread,
    /// Read in this state.
    Read {
        identity: Identity,
        changed_ns: (i64, i64),
        /// It had rested for a while; if not, another change might look the same.
        rested: bool,
    },
}

/// What a file keeps when it is given another name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified_ns: (i64, i64),
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
    /// Of a directory that nothing was read of yet, but maybe in an earlier life of this process.
    pub fn new(root: PathBuf, last_good: LastGood) -> Self {
        Self {
            root,
            files: Files::default(),
            stamps: BTreeMap::new(),
            last_good,
            recalled: false,
            complaints: BTreeMap::new(),
            has_links: false,
            files_limit: FILES_LIMIT,
        }
    }

    /// Reads what changed. Fails, and changes nothing, if the directory itself cannot be listed. `early` is told in pieces
    /// what it comes to at first, while nothing goes: all objects at once would take more memory than all that follows of
    /// them, and the allocator would keep it.
    pub fn run(
        &mut self,
        now: SystemTime,
        early: &mut dyn FnMut(Vec<Event>),
    ) -> io::Result<Scanned> {
        Ok(self.take_in(Listing::of(&self.root)?, now, early))
    }

    /// Reads what changed of these files, and looks at no other; `None`, and nothing is read, if that may not be all that
    /// follows: some are new, are gone, or are no plain files.
    pub fn look(&mut self, files: &BTreeSet<String>, now: SystemTime) -> Option<Scanned> {
        let is_plain = |file: &String| {
            let metadata = fs::symlink_metadata(self.root.join(file));
            self.stamps.contains_key(file) && metadata.is_ok_and(|metadata| metadata.is_file())
        };
        if self.has_links || !files.iter().all(is_plain) {
            return None;
        }
        let mut again = false;
        for file in files {
            again |= self.read(file.clone(), now);
        }
        Some(Scanned { events: self.files.events(), again })
    }

    fn take_in(
        &mut self,
        listing: Listing,
        now: SystemTime,
        early: &mut dyn FnMut(Vec<Event>),
    ) -> Scanned {
        // With nothing to compare it with, what is read of one file takes nothing back that is known of another.
        let mut only_more = false;
        if !self.recalled {
            self.recalled = true;
            only_more = !self.recall(&listing, early);
            // Told before what the files say now: what the index refuses of that leaves these in use.
            early(self.files.events());
        }
        self.has_links = listing.has_links;
        self.let_go(&listing);
        self.complain(&listing);
        let mut again = false;
        let mut pieces = Pieces::default();
        for file in self.chosen(listing.files) {
            again |= self.read(file, now);
            if only_more && pieces.is_one() {
                early(self.files.events());
            }
        }
        Scanned { events: self.files.events(), again }
    }

    /// Whether there was anything.
    fn recall(&mut self, listing: &Listing, early: &mut dyn FnMut(Vec<Event>)) -> bool {
        let mut pieces = Pieces::default();
        let files = self.last_good.files();
        let is_any = !files.is_empty();
        for file in files {
            if pieces.is_one() {
                early(self.files.events());
            }
            if !listing.may_hold(&file) {
                self.last_good.remove(&file);
            } else if let Some(text) = self.last_good.read(&file) {
                self.files.recall(&file, document::read_file(&file, &text));
                self.stamps.insert(file, Stamp::Unread);
            }
        }
        is_any
    }

    /// Forgets files that are gone, but for those that only have another name.
    fn let_go(&mut self, listing: &Listing) {
        let gone: Vec<String> =
            self.stamps.keys().filter(|file| !listing.may_hold(file)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        let new = listing.files.iter().filter(|file| !self.stamps.contains_key(*file));
        let mut heirs: HashMap<Identity, String> = new
            .filter_map(|file| {
                let metadata = fs::metadata(self.root.join(file)).ok()?;
                Some((Identity::of(&metadata), file.clone()))
            })
            .collect();
        for file in gone {
            let heir = match self.stamps.remove(&file) {
                Some(Stamp::Read { identity, .. }) => heirs.remove(&identity),
                Some(Stamp::Unread) | None => None,
            };
            if let Some(heir) = heir {
                self.files.rename(&file, &heir);
                self.last_good.rename(&file, &heir);
                self.stamps.insert(heir, Stamp::Unread);
            } else {
                self.files.remove(&file);
                self.last_good.remove(&file);
            }
        }
    }

    /// Says of which directories not everything is known.
    fn complain(&mut self, listing: &Listing) {
        let mut complaints: BTreeMap<String, Failure> = listing
            .unreadable
            .iter()
            .map(|(directory, error)| {
                let message = format!("cannot be listed: {error}; what was read of it stays");
                (directory.clone(), failure(directory, message))
            })
            .collect();
        let (count, limit) = (listing.files.len(), self.files_limit);
        if count > limit {
            let message = format!(
                "holds {count} files, of which {limit} are read: put objects together into files"
            );
            complaints.insert(ROOT.to_owned(), failure(ROOT, message));
        }
        for former in self.complaints.keys().filter(|former| !complaints.contains_key(*former)) {
            self.files.remove(former);
        }
        for complaint in complaints.values() {
            self.files.fail(complaint.clone());
        }
        self.complaints = complaints;
    }

    /// The files to read: those that are known come before others, then the first by name.
    fn chosen(&self, files: Vec<String>) -> Vec<String> {
        if files.len() <= self.files_limit {
            return files;
        }
        let (mut chosen, new): (Vec<String>, Vec<String>) =
            files.into_iter().partition(|file| self.stamps.contains_key(file));
        let room = self.files_limit.saturating_sub(chosen.len());
        chosen.extend(new.into_iter().take(room));
        chosen
    }

    /// Reads one file if it changed; true if it has to be looked at again soon.
    fn read(&mut self, file: String, now: SystemTime) -> bool {
        let path = self.root.join(&file);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Gone since it was listed: the next scan will say so.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
                return true;
            }
            Err(error) => return self.unread(file, format!("cannot be read: {error}")),
        };
        if !metadata.is_file() {
            return self.unread(file, "is not a file".to_owned());
        }
        let rested = has_rested(&metadata, now, FRESH);
        let stamp = Stamp::of(&metadata, rested);
        let before = self.stamps.get(&file);
        if before == Some(&stamp) && rested {
            return false;
        }
        // Whoever writes a file in place empties it first, and may take its time before it writes;
        // that is not a deletion of its objects.
        if before.is_some() && metadata.len() == 0 && !has_rested(&metadata, now, EMPTY_PATIENCE) {
            return true;
        }
        if metadata.len() > FILE_LIMIT_BYTES {
            let message = format!("is larger than {FILE_LIMIT_BYTES} bytes: split it");
            self.files.fail(failure(&file, message));
        } else {
            match fs::read(&path).map(String::from_utf8) {
                Ok(Ok(text)) => self.take(&file, &text),
                Ok(Err(_)) => self.files.fail(failure(&file, "is not UTF-8 text".to_owned())),
                Err(error) => return self.unread(file, format!("cannot be read: {error}")),
            }
        }
        self.stamps.insert(file, stamp);
        !rested
    }

    fn take(&mut self, file: &str, text: &str) {
        // It was good then, and was read already.
        if self.files.confirm(file, text) {
            return;
        }
        let content = document::read_file(file, text);
        let all_good = self.last_good.all_good(&content.objects);
        // The copy stays as it is until everything is good again.
        if self.files.replace(file, content) && all_good {
            self.last_good.keep(file, text);
        }
    }

    /// Takes note that a file cannot be read. That may end without a change of the file itself.
    fn unread(&mut self, file: String, message: String) -> bool {
        self.files.fail(failure(&file, message));
        self.stamps.insert(file, Stamp::Unread);
        false
    }
}

/// Files that are told of together: ever more, since to find out what is new costs as much as there are.
#[derive(Debug, Default)]
struct Pieces {
    files: usize,
    told: usize,
}

impl Pieces {
    /// Counts a file; whether it is the last one of a piece.
    fn is_one(&mut self) -> bool {
        self.files += 1;
        let is_one = self.files - self.told >= PIECE_FILES.max(self.told / 4);
        if is_one {
            self.told = self.files;
        }
        is_one
    }
}

impl Stamp {
    fn of(metadata: &Metadata, rested: bool) -> Self {
        Self::Read {
            identity: Identity::of(metadata),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
            rested,
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Whether a file was last changed longer ago than this.
fn has_rested(metadata: &Metadata, now: SystemTime, duration: Duration) -> bool {
    metadata
        .modified()
        .ok()
        // A time in the future is as good as a settled one: it will not become the present again.
        .is_none_or(|modified| now.duration_since(modified).map_or(true, |age| age > duration))
}

fn failure(file: &str, message: String) -> Failure {
    let place = Place::File { file: file.to_owned(), line: 1 };
    Failure { place, object: None, field: String::new(), message }
}

/// How failures name the directory itself.
const ROOT: &str = ".";
/// Larger than any object that Kubernetes stores (1.5 MiB), with room for several in a file.
const FILE_LIMIT_BYTES: u64 = 4 << 20;
/// What a directory may hold; more are left out.
const FILES_LIMIT: usize = 20_000;
/// What is told at once at first, at the least.
const PIECE_FILES: usize = 100;
/// How long a file rests before its times tell its changes apart: the clock of file systems ticks every
/// 4 to 10 ms.
const FRESH: Duration = Duration::from_millis(100);
/// How long a known file may be empty before that is meant: time for a program to start and to write
/// its first output.
const EMPTY_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
