//! Keeps a directory equal to what is wanted, file by file, so that its reader never sees half a file.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A directory whose files are all ours.
#[derive(Debug)]
pub struct Mirror {
    root: PathBuf,
    written: BTreeMap<PathBuf, Vec<u8>>,
}

impl Mirror {
    /// The directory, which is empty.
    pub fn new(root: PathBuf) -> Self {
        Self { root, written: BTreeMap::new() }
    }

    /// Writes what is new or different, then removes what is not wanted any more. Does what can be done, and fails with
    /// the first of what cannot; what is missing then is done by the next call.
    pub fn sync(&mut self, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        let mut outcome = Ok(());
        for (relative, content) in wanted {
            if self.written.get(relative) != Some(content) {
                match write_atomically(&self.root.join(relative), content) {
                    Ok(()) => drop(self.written.insert(relative.clone(), content.clone())),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
        }
        let root = &self.root;
        self.written.retain(|relative, _| {
            if wanted.contains_key(relative) {
                return true;
            }
            match std::fs::remove_file(root.join(relative)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(error));
                    true
                }
                Ok(()) | Err(_) => false,
            }
        });
        outcome
    }
}

/// Replaces a file in one step, for its owner only. The half of it that exists for a moment has a hidden name.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
    file.write_all(content)?;
    drop(file);
    std::fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
        names.iter().map(|name| (PathBuf::from(name), name.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_mirror_becomes_what_is_wanted() {
        let temporary = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::new(temporary.path().to_owned());
        mirror.sync(&wanted(&["a.yaml", "b/c.yml"])).unwrap();
        assert_eq!(std::fs::read(temporary.path().join("a.yaml")).unwrap(), b"a.yaml");
        mirror.sync(&wanted(&["b/c.yml"])).unwrap();
        assert!(!temporary.path().join("a.yaml").exists());
        assert!(temporary.path().join("b/c.yml").exists());
    }

    #[test]
    fn a_file_that_stays_the_same_is_not_written_again() {
        let temporary = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::new(temporary.path().to_owned());
        mirror.sync(&wanted(&["a.yaml"])).unwrap();
        std::fs::write(temporary.path().join("a.yaml"), "touched by the test").unwrap();
        mirror.sync(&wanted(&["a.yaml"])).unwrap();
        assert_eq!(std::fs::read(temporary.path().join("a.yaml")).unwrap(), b"touched by the test");
    }

    #[test]
    fn one_file_that_cannot_be_written_keeps_no_other_from_it_and_is_tried_again() {
        let temporary = tempfile::tempdir().unwrap();
        let in_the_way = temporary.path().join("b");
        std::fs::write(&in_the_way, "no directory").unwrap();
        let mut mirror = Mirror::new(temporary.path().to_owned());
        let all = wanted(&["a.yaml", "b/c.yaml", "d.yaml"]);
        assert!(mirror.sync(&all).is_err());
        assert!(temporary.path().join("d.yaml").exists());
        std::fs::remove_file(&in_the_way).unwrap();
        mirror.sync(&all).unwrap();
        assert!(temporary.path().join("b/c.yaml").exists());
        mirror.sync(&wanted(&[])).unwrap();
        assert!(!temporary.path().join("a.yaml").exists());
    }
}
