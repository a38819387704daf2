//! Reads the user's directory, and keeps another one equal to what is wanted, file by file, so that its reader never
//! sees half a file.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The YAML and JSON files below a directory, by their relative names. Hidden ones are not looked at: editors and
/// volumes keep theirs there.
pub fn scan(directory: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in std::fs::read_dir(directory.join(&relative))? {
            let name = entry?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let relative = relative.join(name);
            let path = directory.join(&relative);
            // Follows symbolic links; one that leads nowhere, or a file that is removed meanwhile, is no file.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                if relative.components().count() < DEPTH_LIMIT {
                    pending.push(relative);
                }
            } else if is_manifest(&relative) && metadata.is_file() {
                if metadata.len() > FILE_LIMIT_BYTES || files.len() >= FILES_LIMIT {
                    tracing::warn!(path = %path.display(), "file left out: too large, or too many files");
                } else if let Ok(content) = std::fs::read(&path) {
                    files.insert(relative, content);
                }
            }
        }
    }
    Ok(files)
}

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

    /// Writes what is new or different, then removes what is not wanted any more.
    pub fn sync(&mut self, wanted: BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        for (relative, content) in &wanted {
            if self.written.get(relative) != Some(content) {
                write_atomically(&self.root.join(relative), content)?;
            }
        }
        for relative in self.written.keys().filter(|relative| !wanted.contains_key(*relative)) {
            match std::fs::remove_file(self.root.join(relative)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.written = wanted;
        Ok(())
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

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    ["yaml", "yml", "json"].contains(&extension)
}

const DEPTH_LIMIT: usize = 16;
const FILES_LIMIT: usize = 10_000;
const FILE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_becomes_what_is_wanted_and_only_manifests_are_seen() {
        let temporary = tempfile::tempdir().unwrap();
        let wanted = |names: &[&str]| {
            names.iter().map(|name| (PathBuf::from(name), name.as_bytes().to_vec())).collect()
        };
        let mut mirror = Mirror::new(temporary.path().to_owned());
        mirror.sync(wanted(&["a.yaml", "b/c.yml", "notes.txt", ".hidden.yaml", "d.json"])).unwrap();
        let seen: Vec<_> = scan(temporary.path()).unwrap().into_keys().collect();
        assert_eq!(seen, ["a.yaml", "b/c.yml", "d.json"].map(PathBuf::from));
        mirror.sync(wanted(&["b/c.yml"])).unwrap();
        let seen: Vec<_> = scan(temporary.path()).unwrap().into_keys().collect();
        assert_eq!(seen, [PathBuf::from("b/c.yml")]);
    }

    #[test]
    fn a_file_that_stays_the_same_is_not_written_again() {
        let temporary = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::new(temporary.path().to_owned());
        let wanted: BTreeMap<_, _> = [(PathBuf::from("a.yaml"), b"a".to_vec())].into();
        mirror.sync(wanted.clone()).unwrap();
        std::fs::write(temporary.path().join("a.yaml"), "touched by the test").unwrap();
        mirror.sync(wanted).unwrap();
        assert_eq!(std::fs::read(temporary.path().join("a.yaml")).unwrap(), b"touched by the test");
    }
}
