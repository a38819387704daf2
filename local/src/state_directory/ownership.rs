//! Whether a directory is one's own. Whoever else may write where a world keeps its files decides what the world runs.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Fails unless this is a directory of the current user, and nobody else may even look into it.
pub(super) fn check_private(directory: &Path) -> io::Result<()> {
    let found = directory.symlink_metadata()?;
    let reason = if !found.is_dir() {
        Some("is no directory".to_owned())
    } else if found.uid() != own() {
        Some(format!("belongs to uid {}", found.uid()))
    } else if found.mode() & OTHERS != 0 {
        Some(format!("is open to others (mode {:o})", found.mode() & PERMISSIONS))
    } else {
        None
    };
    reason.map_or(Ok(()), |reason| Err(refused(directory, &reason)))
}

/// Fails if somebody else may replace what is in this directory.
pub(super) fn check_parent(directory: &Path) -> io::Result<()> {
    // Of a symbolic link, its own owner and then that of where it leads.
    for found in [directory.symlink_metadata()?, directory.metadata()?] {
        if ![own(), ROOT].contains(&found.uid()) {
            return Err(refused(directory, &format!("belongs to uid {}", found.uid())));
        }
        let shared = found.is_dir() && found.mode() & WRITABLE_BY_OTHERS != 0;
        if shared && found.mode() & STICKY == 0 {
            return Err(refused(directory, "may be written by others"));
        }
    }
    Ok(())
}

fn refused(directory: &Path, reason: &str) -> io::Error {
    let text = format!("{} {reason}; remove it or set XDG_RUNTIME_DIR", directory.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}

const ROOT: u32 = 0;
const PERMISSIONS: u32 = 0o7777;
const OTHERS: u32 = 0o077;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In such a directory nobody renames or removes what belongs to others.
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn only_a_closed_directory_of_ones_own_is_private() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("world");
        std::fs::create_dir(&directory).unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o700);
        check_private(&directory).unwrap();
        for open in [0o755, 0o750, 0o701] {
            mode(open);
            let error = check_private(&directory).unwrap_err().to_string();
            assert!(error.contains("open to others"), "{error}");
        }
        mode(0o700);
        let link = temporary.path().join("link");
        symlink(&directory, &link).unwrap();
        assert!(check_private(&link).is_err(), "somebody else may own the link");
        if own() == ROOT {
            chown(&directory, Some(1000), None).unwrap();
            let error = check_private(&directory).unwrap_err().to_string();
            assert!(error.contains("belongs to uid 1000; remove it or set"), "{error}");
            assert!(check_parent(&directory).is_err());
        }
    }

    #[test]
    fn a_parent_that_others_may_write_has_to_be_sticky() {
        let temporary = tempfile::tempdir().unwrap();
        for (mode, good) in [(0o700, true), (0o755, true), (0o777, false), (0o1777, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(temporary.path(), permissions).unwrap();
            assert_eq!(check_parent(temporary.path()).is_ok(), good, "mode {mode:o}");
        }
    }
}
