//! Keeps the authority in files of a directory that only their owner can read, the trust anchors apart,
//! which proxies are given to begin with.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use heddle_tls::authority::texts::TRUST_ANCHORS;
use zeroize::Zeroizing;

use crate::identity::kept::{KeptTexts, NAMES};
use crate::identity::store::{Revision, StoreError, Stored};

/// A directory that this process alone writes to.
#[derive(Clone, Debug)]
pub struct DirectoryStore(PathBuf);

impl DirectoryStore {
    /// It is made when something is kept.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn load(&self) -> Result<Stored, StoreError> {
        let mut failed = None;
        let mut found = false;
        let texts = KeptTexts::read(|name| match read(&self.0.join(name)) {
            Ok(text) => {
                found |= text.is_some();
                text
            }
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        match failed {
            Some(error) => Err(error),
            None if found => Ok(Stored { texts, revision: Revision::At(String::new()) }),
            None => Ok(Stored { texts, revision: Revision::Absent }),
        }
    }

    /// Each file is put in place by a rename, in the order of [`NAMES`].
    pub(super) fn save(&self, texts: &KeptTexts) -> Result<Revision, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| file_error("make the directory", &self.0, source))?;
        for name in NAMES {
            let path = self.0.join(name);
            // Keys are in all but one of them.
            let mode = if name == TRUST_ANCHORS { 0o644 } else { 0o600 };
            match texts.get(name) {
                Some(text) => write_whole(&path, text.as_bytes(), mode),
                None => remove(&path),
            }
            .map_err(|source| file_error("write", &path, source))?;
        }
        Ok(Revision::At(String::new()))
    }
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.0.display())
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error("read", path, source)),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Never leaves half a file at `path`, also if the machine loses power.
fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // One left over from a crash: it may have another mode, so it is not written to.
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn file_error(attempt: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use heddle_runtime::clock;

    use super::*;
    use crate::identity::kept::Kept;
    use crate::identity::rotation::{Kind, Move};

    #[test]
    fn what_is_kept_is_read_again_and_keys_are_their_owners() {
        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().join("authority"));
        assert_eq!(store.load().unwrap().revision, Revision::Absent);
        let kept = Kept::create(&"cluster.local".parse().unwrap(), clock::now()).unwrap();
        let announced = kept.begin(Kind::Root, clock::now()).unwrap();
        let switched = announced.after(&Move::Switch, clock::now()).unwrap().unwrap();
        for kept in [kept, announced, switched] {
            store.save(&kept.to_texts()).unwrap();
            assert_eq!(store.load().unwrap().texts, kept.to_texts());
        }
        let mut found: Vec<_> = fs::read_dir(place.path().join("authority"))
            .unwrap()
            .map(|file| {
                let file = file.unwrap();
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                (file.file_name().into_string().unwrap(), mode)
            })
            .collect();
        found.sort();
        let expected = [
            ("issuer.pem", 0o600),
            ("root.pem", 0o600),
            ("rotation.json", 0o600),
            ("trust-anchors.pem", 0o644),
        ];
        assert_eq!(found, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
