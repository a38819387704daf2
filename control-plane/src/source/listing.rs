//! Which files of a directory count, by path relative to it. Blocking; reading them is in `scan.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// The files that a directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sorted.
    pub files: Vec<String>,
    /// The directories below it that could not be listed, each with a slash at its end, and why. What
    /// they hold is not known: it may all still be there.
    pub unreadable: BTreeMap<String, io::Error>,
    /// Some of them are links: what they say may change where nobody looks.
    pub has_links: bool,
}

impl Listing {
    /// Lists a directory and those below it. Fails only if the directory itself cannot be listed.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        listing.add(root, &mut String::new(), 0)?;
        listing.files.sort();
        Ok(listing)
    }

    /// Whether a file is there, or may be.
    pub fn may_hold(&self, file: &str) -> bool {
        self.files.binary_search_by(|known| known.as_str().cmp(file)).is_ok()
            || self.unreadable.keys().any(|directory| file.starts_with(directory))
    }

    fn add(&mut self, directory: &Path, prefix: &mut String, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                // Removed since the directory was read; the others in it were not.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let length = prefix.len();
            prefix.push_str(name);
            // Symbolic links to files are read, as in a mounted ConfigMap; those to directories could
            // be endless and are not followed.
            if kind.is_dir() && depth < DEPTH_LIMIT && is_read_directory(name) {
                prefix.push('/');
                match self.add(&entry.path(), prefix, depth + 1) {
                    // Removed while it was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        self.unreadable.insert(prefix.clone(), error);
                    }
                    Ok(()) => {}
                }
            } else if !kind.is_dir() && is_read_file(name) {
                self.has_links |= kind.is_symlink();
                self.files.push(prefix.clone());
            }
            prefix.truncate(length);
        }
        Ok(())
    }
}

/// Hidden directories are others' business, but for the one that the local runner writes.
pub fn is_read_directory(name: &str) -> bool {
    !name.starts_with('.') || name == GENERATED_DIRECTORY
}

/// Hidden files are what editors and atomic writers leave for a moment.
pub fn is_read_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The hidden directory that is read all the same.
pub const GENERATED_DIRECTORY: &str = ".generated";
/// Deeper directories are left out.
const DEPTH_LIMIT: usize = 16;
