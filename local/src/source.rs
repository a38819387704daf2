//! Reads the user's directory. What is there but cannot be read stays as it was when it could: only what is gone is gone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::status::Problem;

/// The user's directory, as it was when it was last looked at.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    found: Found,
}

#[derive(Debug, Default, PartialEq)]
struct Found {
    files: BTreeMap<PathBuf, Vec<u8>>,
    problems: Vec<Problem>,
    /// Since when files are empty that were not: many programs empty a file before they write it.
    emptied: BTreeMap<PathBuf, Instant>,
}

impl Source {
    /// A directory that was never looked at.
    pub fn new(root: PathBuf) -> Self {
        Self { root, found: Found::default() }
    }

    /// Looks again; true when anything has changed.
    pub fn look(&mut self) -> bool {
        let mut look = Look {
            root: &self.root,
            known: &self.found,
            found: Found::default(),
            pending: vec![PathBuf::new()],
            new: 0,
            left_out: 0,
        };
        while let Some(relative) = look.pending.pop() {
            look.directory(&relative);
        }
        let found = look.finish();
        let news = found != self.found;
        self.found = found;
        news
    }

    /// The YAML and JSON files, by their relative names. Hidden ones are not looked at: editors and volumes keep theirs
    /// there.
    pub fn files(&self) -> &BTreeMap<PathBuf, Vec<u8>> {
        &self.found.files
    }

    /// What could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.found.problems
    }

    /// Whether somebody seems to be in the middle of writing, so that it is worth a look again soon.
    pub fn is_unfinished(&self) -> bool {
        !self.found.emptied.is_empty()
    }
}

/// One walk through the directory.
struct Look<'a> {
    root: &'a Path,
    known: &'a Found,
    found: Found,
    pending: Vec<PathBuf>,
    new: usize,
    left_out: usize,
}

impl Look<'_> {
    fn directory(&mut self, relative: &Path) {
        let names = std::fs::read_dir(self.root.join(relative)).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            // Removed since its name was read. The whole directory is not: somebody moved it away, and may move it back.
            Err(error) if is_gone(&error) && !relative.as_os_str().is_empty() => return,
            Err(error) => return self.keep(relative, &error.to_string()),
        };
        names.sort_unstable();
        for name in names {
            if !name.as_encoded_bytes().starts_with(b".") {
                self.entry(relative.join(name));
            }
        }
    }

    fn entry(&mut self, relative: PathBuf) {
        // Follows symbolic links.
        match std::fs::metadata(self.root.join(&relative)) {
            Ok(metadata) if metadata.is_dir() => {
                if relative.components().count() < DEPTH_LIMIT {
                    self.pending.push(relative);
                }
            }
            Ok(metadata) if metadata.is_file() && is_manifest(&relative) => {
                self.file(relative, &metadata);
            }
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                let matters = self.known.files.keys().any(|file| file.starts_with(&relative));
                if matters || is_manifest(&relative) {
                    self.keep(&relative, &error.to_string());
                }
            }
        }
    }

    fn file(&mut self, relative: PathBuf, metadata: &Metadata) {
        if metadata.len() > FILE_LIMIT_BYTES {
            return self.keep(&relative, &format!("larger than {FILE_LIMIT_BYTES} bytes"));
        }
        let known = self.known.files.get(&relative);
        if known.is_none() {
            if self.known.files.len() + self.new >= FILES_LIMIT {
                self.left_out += 1;
                return;
            }
            self.new += 1;
        }
        let content = match std::fs::read(self.root.join(&relative)) {
            Ok(content) => content,
            Err(error) if is_gone(&error) => return,
            Err(error) => return self.keep(&relative, &error.to_string()),
        };
        let content = match known.filter(|known| content.is_empty() && !known.is_empty()) {
            None => content,
            Some(known) => {
                let now = Instant::now();
                let since = self.known.emptied.get(&relative).copied().unwrap_or(now);
                if now.duration_since(since) < UNFINISHED_FOR {
                    self.found.emptied.insert(relative.clone(), since);
                    known.clone()
                } else {
                    content
                }
            }
        };
        self.found.files.insert(relative, content);
    }

    /// Goes on with what was known of this file or of what is below this directory, and says so.
    fn keep(&mut self, relative: &Path, reason: &str) {
        let known = self.known.files.iter().filter(|(file, _)| file.starts_with(relative));
        self.found.files.extend(known.map(|(file, content)| (file.clone(), content.clone())));
        self.problem(relative, format!("cannot be read: {reason}; what it last said stays"));
    }

    fn problem(&mut self, relative: &Path, message: String) {
        let whole = relative.as_os_str().is_empty();
        self.found.problems.push(Problem {
            file: if whole { self.root.to_owned() } else { relative.to_owned() },
            object: String::new(),
            field: String::new(),
            message,
            blocking: false,
        });
    }

    fn finish(mut self) -> Found {
        if self.left_out > 0 {
            let left_out = self.left_out;
            self.problem(
                Path::new(""),
                format!("{left_out} files left out: more than {FILES_LIMIT}; remove some"),
            );
        }
        self.found
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    ["yaml", "yml", "json"].contains(&extension)
}

const DEPTH_LIMIT: usize = 16;
const FILES_LIMIT: usize = 10_000;
const FILE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// How long a file that was emptied counts as one that is being written.
const UNFINISHED_FOR: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place(files: &[&str]) -> (tempfile::TempDir, Source) {
        let temporary = tempfile::tempdir().unwrap();
        for file in files {
            let path = temporary.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let mut source = Source::new(temporary.path().to_owned());
        assert!(source.look());
        assert_eq!(source.problems(), []);
        (temporary, source)
    }

    fn names(source: &Source) -> Vec<&str> {
        source.files().keys().map(|file| file.to_str().unwrap()).collect()
    }

    #[test]
    fn only_manifests_are_seen_and_what_is_gone_is_gone() {
        let (place, mut source) =
            place(&["a.yaml", "b/c.yml", "notes.txt", ".hidden.yaml", ".b/e.yaml", "d.json"]);
        assert_eq!(names(&source), ["a.yaml", "b/c.yml", "d.json"]);
        assert!(!source.look(), "nothing has changed");
        std::fs::remove_file(place.path().join("a.yaml")).unwrap();
        std::fs::remove_dir_all(place.path().join("b")).unwrap();
        assert!(source.look());
        assert_eq!((names(&source), source.problems()), (vec!["d.json"], [].as_slice()));
    }

    #[test]
    fn what_cannot_be_read_stays_and_is_named() {
        let (place, mut source) = place(&["a.yaml", "b/c.yaml", "b/d.yaml", "large.yaml"]);
        let before = source.files().clone();
        // A link to itself cannot be followed, not even by root.
        std::fs::remove_file(place.path().join("a.yaml")).unwrap();
        symlink("a.yaml", place.path().join("a.yaml")).unwrap();
        std::fs::remove_dir_all(place.path().join("b")).unwrap();
        symlink("b", place.path().join("b")).unwrap();
        let large = vec![b' '; usize::try_from(FILE_LIMIT_BYTES).unwrap() + 1];
        std::fs::write(place.path().join("large.yaml"), large).unwrap();
        for _ in 0..2 {
            source.look();
            assert_eq!(*source.files(), before);
            let named: Vec<_> =
                source.problems().iter().map(|it| it.file.to_str().unwrap()).collect();
            assert_eq!(named, ["a.yaml", "b", "large.yaml"]);
        }
        let aside = place.path().with_extension("aside");
        std::fs::rename(place.path(), &aside).unwrap();
        source.look();
        assert_eq!((source.files(), source.problems().len()), (&before, 1));
        std::fs::rename(aside, place.path()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_emptied_is_being_written_for_a_while() {
        let (place, mut source) = place(&["a.yaml"]);
        std::fs::write(place.path().join("a.yaml"), "").unwrap();
        std::fs::write(place.path().join("new.yaml"), "").unwrap();
        source.look();
        assert!(source.is_unfinished());
        assert_eq!(source.files()[Path::new("a.yaml")], b"a.yaml");
        assert_eq!(source.files()[Path::new("new.yaml")], b"");
        tokio::time::advance(UNFINISHED_FOR).await;
        source.look();
        assert!(!source.is_unfinished());
        assert_eq!(source.files()[Path::new("a.yaml")], b"");
    }
}
